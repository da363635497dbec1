"""Pairs of test images, the models, and the lines between their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.interpolation.judge import judges_of
from analysis.results import Results
from analysis.selection import deepest_rows
from trainables.data import DIGITS, Dataset, pixels
from trainables.networks import Autoencoder

PAIRS = ((4, 7), (8, 9), (3, 4), (5, 1))
"""The assignment's pairs of digits: the class of I₁, then that of I₂."""
MOST_PAIRS = 4
"""Maximum number of pairs of classes for other data, unless the study names pairs."""
IMAGES_PER_PAIR = 40
"""Pairs of test images in a scorecard, for each pair of classes."""
ALPHAS = tuple(step / 10 for step in range(11))
"""Weights of I₁'s code: 0, 0.1 … 1."""


@dataclass(frozen=True)
class ImagePairs:
    """Test images of two classes, the same for every model."""

    pair: tuple[int, int]
    """The classes of `first` and `second`; 0 and 0 if images have no labels."""
    names: tuple[str, str]
    """Names of the two classes."""
    first: Tensor
    """I₁, (P, C, H, W) in [0, 1]."""
    second: Tensor
    """I₂, (P, C, H, W) in [0, 1]."""

    @property
    def name(self) -> str:
        """The value of the column `pair`, such as "4-7"."""
        return "-".join(self.names)


def image_pairs(
    results: Results, pair: tuple[int, int], count: int = IMAGES_PER_PAIR
) -> ImagePairs:
    """Draw `count` random pairs of test images of two classes, or as many as the rarer class has.

    No image occurs twice. Raises ValueError if the test split has no image of one of the classes.
    """
    labels, classes = results.test_labels.numpy(), results.dataset.classes
    generator = np.random.default_rng([0, *pair])
    names = (classes[pair[0]], classes[pair[1]]) if classes else ("an image", "another")
    chosen = []
    for number, name in zip(pair, names, strict=True):
        images = np.flatnonzero(labels == number)
        if not len(images):
            raise ValueError(f"the test split of {results.dataset.name} has no {name}")
        chosen.append(generator.permutation(images))
    if not classes:  # two halves of the same images
        chosen = np.array_split(chosen[0], 2)
    count = min(count, *map(len, chosen))
    first, second = (pixels(results.test_images[indices[:count]]) for indices in chosen)
    return ImagePairs(pair, names, first, second)


def class_pairs(results: Results) -> list[tuple[int, int]]:
    """The pairs of classes to interpolate between; pairs without test images are left out.

    The pairs are those given by `--pairs`; else, for digits, the assignment's; for other classes,
    those that the judges confuse most often on the validation split. Without labels, the only pair
    is (0, 0).
    """
    data = results.dataset
    if not data.classes:
        return [(0, 0)]
    asked = [tuple(map(data.classes.index, pair)) for pair in results.plan.get("pairs") or ()]
    present = set(results.test_labels.tolist())
    pairs = asked or (PAIRS if data.classes == DIGITS else most_confused_pairs(data))
    return [(a, b) for a, b in pairs if {a, b} <= present]


def most_confused_pairs(data: Dataset) -> list[tuple[int, int]]:
    """The `MOST_PAIRS` pairs of classes that judges confuse most, on the validation split."""
    images, labels = data.validation.on("cpu")
    probabilities = judges_of(data)(images)
    classes = len(data.classes)
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, labels.numpy(), probabilities)
    confusion /= np.maximum(np.bincount(labels.numpy(), minlength=classes), 1)[:, None]
    upper = np.triu(confusion + confusion.T, 1)
    order = np.argsort(-upper, axis=None, kind="stable")[
        : min(MOST_PAIRS, classes * (classes - 1) // 2)
    ]
    return [(int(a), int(b)) for a, b in zip(*np.unravel_index(order, upper.shape), strict=True)]


def cells_by_dimension(results: Results) -> dict[int, str]:
    """The cell that represents each latent dimension, by ascending dimension.

    It is that of `deepest_rows`.
    """
    rows = deepest_rows(results.of("autoencoder")).drop_duplicates("latent_dim")
    rows = rows.sort_values("latent_dim")
    return {int(d): str(cell) for d, cell in zip(rows["latent_dim"], rows["cell"], strict=True)}


@torch.no_grad()
def interpolate(
    model: Autoencoder, first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS
) -> tuple[Tensor, Tensor]:
    """Codes (P, A, d) on the lines from E(second), α = 0, to E(first), α = 1, and their pictures.

    The decoded pictures are (P, A, C, H, W).
    """
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1)
    ends = [model.encoder(images).unsqueeze(1) for images in (first, second)]
    codes = weights * ends[0] + (1 - weights) * ends[1]
    decoded = torch.cat([model.decoder(part) for part in codes.flatten(0, 1).split(250)])
    return codes, decoded.unflatten(0, codes.shape[:2])


def pixel_blend(first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """α·first + (1 − α)·second, pixel by pixel: (P, A, C, H, W)."""
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1, 1, 1)
    return weights * first.unsqueeze(1) + (1 - weights) * second.unsqueeze(1)
