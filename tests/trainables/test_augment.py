"""Views of digits: positions of pixels, random draws, no mirror images."""

import math

import pytest
import torch

from trainables.augment import BEND, centres_of_mass, matrices, rotate, vary_strokes, views
from trainables.data import pixels


def dot(row, column):
    """One white pixel, (1, 1, 28, 28)."""
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, row, column] = 1.0
    return image


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def two_dots(row, column):
    """A white pixel and one of half its brightness two pixels below: their centre of mass lies two
    thirds of a pixel below the first one."""
    return dot(row, column) + dot(row + 2, column) / 2


def test_turn_centres_the_image_at_its_centre_of_mass():
    for row, column in ((4, 5), (13, 20)):
        for degrees in (0.0, 90.0, 137.0):
            seen = rotate(two_dots(row, column), torch.tensor([degrees]))
            assert centres_of_mass(seen)[0].tolist() == pytest.approx([0, 0], abs=0.01)
            assert torch.allclose(seen, rotate(two_dots(9, 9), torch.tensor([degrees])), atol=1e-4)


@pytest.mark.parametrize(
    ("degrees", "down", "right"), [(0, 1, 0), (90, 0, 1), (180, -1, 0), (270, 0, -1)]
)
def test_quarter_turn_is_counter_clockwise(degrees, down, right):
    """The bright pixel, above the faint one before, comes to its left."""
    image = dot(12, 13) + dot(15, 13) / 2  # its centre of mass lies in row 13
    seen = rotate(image, torch.tensor([float(degrees)]))
    # The middle lies between pixels 13 and 14.
    faint = [13.5 + 2 * down, 13.5 + 2 * right]
    grid = torch.stack(torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij"))
    near = ((grid - torch.tensor(faint)[:, None, None]).abs() < 1).all(dim=0)
    assert seen[0, 0][near].sum().item() == pytest.approx(0.5, abs=0.01)
    assert seen.sum().item() == pytest.approx(1.5, abs=0.01)


def test_every_image_has_its_own_turn():
    both = rotate(two_dots(13, 20).repeat(2, 1, 1, 1), torch.tensor([0.0, 180.0]))
    for image, degrees in zip(both, (0.0, 180.0), strict=True):
        alone = rotate(two_dots(13, 20), torch.tensor([degrees]))[0]
        assert torch.allclose(image, alone, atol=1e-4)
    assert torch.allclose(both[1], both[0].flip(1, 2), atol=1e-4)


def test_turn_of_a_black_image_is_black():
    assert not rotate(torch.zeros(1, 1, 28, 28), torch.tensor([45.0])).any()


def test_centre_of_mass_does_not_reveal_the_angle(digits):
    """After turns about the image's middle, its direction alone would give the angle to 20°."""
    images = pixels(digits.validation.on("cpu")[0])
    angles = 360 * torch.rand(len(images), generator=torch.Generator().manual_seed(0))
    right, down = centres_of_mass(rotate(images, angles)).unbind(dim=1)
    assert max(right.abs().max(), down.abs().max()) < 0.01  # of 14 pixels


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_strokes_become_thicker_and_thinner(strength):
    images = torch.zeros(1, 200, 1, 28, 28)
    images[..., 10:15, 10:15] = 1.0
    seen = vary_strokes(images, strength, generators(0))
    ink = seen.sum(dim=(2, 3, 4))[0]
    assert ink.max() <= 25 + strength * 24 + 1e-4  # the 24 pixels around it
    assert ink.min() >= 25 - strength * 16 / 2 - 1e-4  # half of its 16 outer ones
    assert ink.max() > 25 + 0.9 * strength * 24
    assert ink.min() < 25 - 0.9 * strength * 16 / 2
    assert seen.min() >= 0 and seen.max() <= 1


def test_replicates_draw_strokes_from_their_generators():
    images = torch.rand(1, 4, 1, 28, 28).repeat(2, 1, 1, 1, 1)
    together = vary_strokes(images, 1.0, generators(1, 2))
    assert torch.equal(together[1], vary_strokes(images[:1], 1.0, generators(2))[0])
    assert torch.equal(vary_strokes(images, 0.0, generators(1, 2)), images)


def test_view_of_strength_0_without_noise_is_the_image():
    images = torch.rand(2, 3, 1, 28, 28)
    assert torch.equal(views(images, 0.0, 0.0, generators(1, 2)), images)


def test_replicates_draw_views_from_their_generators():
    images = torch.rand(1, 4, 1, 28, 28).repeat(2, 1, 1, 1, 1)
    together = views(images, 1.0, 0.3, generators(1, 2))
    for replicate, seed in enumerate((1, 2)):
        alone = views(images[:1], 1.0, 0.3, generators(seed))
        assert torch.equal(together[replicate], alone[0])
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together[0, 0], together[0, 1])


def test_noise_has_the_standard_deviation_asked_for():
    images = torch.full((1, 50, 1, 28, 28), 0.5)
    noise = views(images, 0.0, 0.3, generators(3)) - images
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)


def test_no_view_is_a_mirror_image():
    """The linear part of every transform has a positive determinant, however strong."""
    draws = torch.rand(1000, 6, generator=generators(4)[0]) * 2 - 1
    turn, growth, shear, shift = (4 * draws).split([1, 2, 1, 2], dim=1)
    theta = matrices(
        math.radians(15) * turn[:, 0],
        torch.exp(0.15 * growth),
        math.radians(10) * shear[:, 0],
        shift,
    )
    assert (torch.linalg.det(theta[:, :, :2]) > 0).all()


def test_view_moves_a_pixel_by_a_few_pixels_only():
    """At most what turn, shift, scale, shear and bend (4 SD) allow 6 pixels from the centre."""
    images = dot(13, 19).repeat(400, 1, 1, 1)[None]
    seen = views(images, 1.0, 0.0, generators(5))[0, :, 0]
    weight = seen.sum(dim=(1, 2))
    rows = (seen.sum(dim=2) * torch.arange(28.0)).sum(dim=1) / weight
    columns = (seen.sum(dim=1) * torch.arange(28.0)).sum(dim=1) / weight
    moved = torch.hypot(rows - 13, columns - 19)
    most = math.hypot(2, 2) + 6 * (math.radians(15) + 0.17 + math.tan(math.radians(10))) + 4 * BEND
    assert moved.max() < most
    assert 1.0 < moved.mean() < 4.0
