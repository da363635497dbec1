"""Coloured shapes of 32 × 32 pixels in ten classes, like CIFAR-10, are learnt far above chance."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.trainables.helpers import no_report, weights_by_replicate
from trainables.autoencoder import train as autoencoder
from trainables.data import Dataset, Split
from trainables.fewshot import train as fewshot
from trainables.supervised import train as supervised

SIDES = (0, 3, 4, 5, 6)
"""Corners of a class's shape, 0 for a disc; each in two ranges of colours."""


def draw_shape(number, draw):
    """A disc or polygon of a warm or cold colour, somewhere, on a dark ground."""
    ground = tuple(draw.integers(0, 60, 3).tolist())
    image = Image.new("RGB", (32, 32), ground)
    pen, size = ImageDraw.Draw(image), int(draw.integers(7, 11))
    x, y = draw.integers(11, 21, 2).tolist()
    strong, weak = int(draw.integers(180, 256)), int(draw.integers(60, 140))
    colour = (strong, weak, 60) if number % 2 else (60, weak, strong)
    corners = SIDES[number // 2]
    if corners:
        pen.regular_polygon((x, y, size), corners, fill=colour)
    else:
        pen.ellipse([x - size, y - size, x + size, y + size], fill=colour)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def shapes():
    draw = np.random.default_rng(0)

    def split(count):
        labels = (np.arange(count) % 10).astype(np.uint8)
        return Split(np.stack([draw_shape(label, draw) for label in labels]), labels)

    names = tuple(f"{'warm' if n % 2 else 'cold'} {SIDES[n // 2]}" for n in range(10))
    return Dataset("shapes", split(800), split(200), split(400), names)


def test_error_falls_with_the_latent_dimension(shapes):
    means = {}
    for d in (2, 8, 32):
        config = autoencoder.Config(d, depth=3, width=8, epochs=8, batch_size=20)
        rows = autoencoder.train(config, range(2), shapes, no_report).rows
        means[d] = np.mean([row["test_mse"] for row in rows])
    assert means[2] > 1.3 * means[8] > 1.3 * means[32]


def test_classes_are_learnt_from_a_few_labels(shapes):
    """By colour alone one in five would be right."""
    control = supervised.Config(160, epochs=100, views=10, width=8)
    (row,) = supervised.train(control, range(1), shapes, no_report).rows
    assert row["test_accuracy"] > 0.4
    encoder = autoencoder.train(
        autoencoder.Config(32, depth=3, width=8, epochs=8, batch_size=20),
        range(1),
        shapes,
        no_report,
    )
    parent = weights_by_replicate(encoder)
    head = fewshot.Config(32, 160, "fixed", epochs=100, width=8)
    (row,) = fewshot.train(head, range(1), shapes, no_report, parent).rows
    assert row["test_accuracy"] > 0.25
