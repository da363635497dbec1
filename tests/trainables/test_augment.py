"""Views of digits: where pixels go, whose draws they are, and that none is a mirror image."""

import math

import pytest
import torch

from trainables.augment import BEND, matrices, turned, views


def dot(row, column):
    """One white pixel, (1, 1, 28, 28)."""
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, row, column] = 1.0
    return image


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("degrees", "place"), [(0, (13, 20)), (90, (7, 13)), (180, (14, 7)), (270, (20, 14))]
)
def test_a_quarter_turn_is_counter_clockwise_about_the_centre(degrees, place):
    """The image's centre lies between pixels 13 and 14: row 13, column 20 is right of it."""
    seen = turned(dot(13, 20), torch.tensor([float(degrees)]))
    assert torch.allclose(seen, dot(*place), atol=1e-4)


def test_every_image_has_its_own_turn():
    both = turned(dot(13, 20).repeat(2, 1, 1, 1), torch.tensor([0.0, 180.0]))
    assert torch.allclose(both[:1], dot(13, 20), atol=1e-4)
    assert torch.allclose(both[1:], dot(14, 7), atol=1e-4)


def test_a_view_of_strength_0_without_noise_is_the_image():
    images = torch.rand(2, 3, 1, 28, 28)
    assert torch.equal(views(images, 0.0, 0.0, generators(1, 2)), images)


def test_replicates_draw_from_generators_of_their_own():
    images = torch.rand(1, 4, 1, 28, 28).repeat(2, 1, 1, 1, 1)
    together = views(images, 1.0, 0.3, generators(1, 2))
    for replicate, seed in enumerate((1, 2)):
        alone = views(images[:1], 1.0, 0.3, generators(seed))
        assert torch.equal(together[replicate], alone[0])
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together[0, 0], together[0, 1])


def test_noise_has_the_standard_deviation_that_is_asked_for():
    images = torch.full((1, 50, 1, 28, 28), 0.5)
    noise = views(images, 0.0, 0.3, generators(3)) - images
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)


def test_no_view_is_a_mirror_image():
    """The linear part of every transform has a positive determinant, however strong."""
    draws = torch.rand(1000, 6, generator=generators(4)[0]) * 2 - 1
    turn, x, y, shear, right, down = (4 * draws).unbind(dim=1)
    theta = matrices(
        math.radians(15) * turn, torch.exp(0.15 * x), torch.exp(0.15 * y), math.radians(10) * shear,
        right, down,
    )  # fmt: skip
    assert (torch.linalg.det(theta[:, :, :2]) > 0).all()


def test_a_view_moves_a_pixel_by_a_few_and_not_by_many():
    """Within what turn, shift, scale, shear and bend (4 SD) allow 6 pixels from the centre."""
    images = dot(13, 19).repeat(400, 1, 1, 1)[None]
    seen = views(images, 1.0, 0.0, generators(5))[0, :, 0]
    weight = seen.sum(dim=(1, 2))
    rows = (seen.sum(dim=2) * torch.arange(28.0)).sum(dim=1) / weight
    columns = (seen.sum(dim=1) * torch.arange(28.0)).sum(dim=1) / weight
    moved = torch.hypot(rows - 13, columns - 19)
    most = math.hypot(2, 2) + 6 * (math.radians(15) + 0.17 + math.tan(math.radians(10))) + 4 * BEND
    assert moved.max() < most
    assert 1.0 < moved.mean() < 4.0
