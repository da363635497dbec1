"""Views of images that keep their label: slightly turned, moved, scaled, sheared, bent and noisy.

Images are never mirrored: a mirrored digit is another sign. The transforms of
torchvision.transforms.v2 draw once per call, from the global generator. Here every image of a
minibatch needs its own draws, and every replicate its own generator, so the transforms are built on
`affine_grid` and `grid_sample` of `torch.nn.functional`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28
"""The distances below are in pixels of images with this side; they scale with the side."""
TURN = 15.0
"""Largest turn at strength 1, in degrees to either side."""
SHIFT = 2.0
"""Largest shift at strength 1, in pixels along each axis."""
SCALE = 0.15
"""Largest relative change of each side at strength 1."""
SHEAR = 10.0
"""Largest shear at strength 1, in degrees."""
BEND = 0.8
"""Standard deviation at strength 1 of a control point's displacement, in pixels."""
CONTROL = 5
"""Control points of the bend along each side; between them it is interpolated."""


def matrices(
    turn: Tensor, scale: Tensor, shear: Tensor, shift: Tensor, aspect: float = 1.0
) -> Tensor:
    """Matrices (N, 2, 3) for `affine_grid`.

    `turn` and `shear` are (N,), in radians. `scale` and `shift` are (N, 2), to the right and down;
    shifts are in halves of a side. `aspect` is the height of the images over their width. The
    matrices map positions in the result to positions in the image, so a positive `turn` turns the
    image counter-clockwise.
    """
    cos, sin, slope = torch.cos(turn), torch.sin(turn), torch.tan(shear)
    (scale_x, scale_y), (right, down) = scale.unbind(dim=1), shift.unbind(dim=1)
    upper = torch.stack([cos / scale_x, aspect * (cos * slope - sin) / scale_y, right], dim=1)
    lower = torch.stack([sin / scale_x / aspect, (sin * slope + cos) / scale_y, down], dim=1)
    return torch.stack([upper, lower], dim=1)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn `images` (N, C, H, W) counter-clockwise by `degrees` (N,) about their centre of mass.

    The centre of mass of the ink moves to the middle; the surroundings are black. In images turned
    about their middle, the direction of the ink from the middle reveals the angle: to 20.5° on
    MNIST, whose digits lie half a pixel off the middle.
    """
    angle = torch.deg2rad(degrees)
    centres = centres_of_mass(images)
    scale, shear = torch.ones_like(centres), torch.zeros_like(angle)
    return _sample(images, matrices(angle, scale, shear, centres, aspect_of(images)))


def aspect_of(images: Tensor) -> float:
    """Height over width of `images` (…, H, W)."""
    return images.shape[-2] / images.shape[-1]


def centres_of_mass(images: Tensor) -> Tensor:
    """Centres of mass (N, 2) of the ink of `images` (N, C, H, W).

    They are measured to the right and down from the middle, in halves of a side. A black image has
    (0, 0).
    """
    rows, columns = (
        (2 * torch.arange(side, device=images.device) + 1) / side - 1 for side in images.shape[2:]
    )
    ink = images.sum(dim=(1, 2, 3)).clamp(min=torch.finfo(images.dtype).tiny)
    right = (images.sum(dim=(1, 2)) * columns).sum(dim=1)
    down = (images.sum(dim=(1, 3)) * rows).sum(dim=1)
    return torch.stack([right, down], dim=1) / ink.unsqueeze(1)


def _sample(images: Tensor, theta: Tensor, displacement: Tensor | None = None) -> Tensor:
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    if displacement is not None:
        grid = grid + displacement
    return functional.grid_sample(images, grid, align_corners=False)


def views(
    images: Tensor, strength: float, noise: float, generators: Sequence[torch.Generator]
) -> Tensor:
    """Draw a random view of each of `images` (R, B, C, H, W), pixels in [0, 1].

    Replicate r's views are drawn from `generators[r]`. `strength` multiplies every range above.
    Gaussian noise of standard deviation `noise` is added to each pixel, which may leave [0, 1].
    """
    replicates, batch = images.shape[:2]
    sides = list(images.shape[-2:])
    result = images
    if strength > 0:
        uniform = draw(torch.rand, (batch, 6), generators, images) * 2 - 1
        turn, growth, shear, shift = (strength * uniform).split([1, 2, 1, 2], dim=1)
        theta = matrices(
            math.radians(TURN) * turn.squeeze(1),
            torch.exp(SCALE * growth),
            math.radians(SHEAR) * shear.squeeze(1),
            2 / SIDE * SHIFT * shift,
            aspect_of(images),
        )
        points = draw(torch.randn, (batch, 2, CONTROL, CONTROL), generators, images)
        bend = functional.interpolate(
            2 / SIDE * BEND * strength * points, sides, mode="bilinear", align_corners=True
        )
        flat = _sample(images.flatten(0, 1), theta, bend.movedim(1, 3))
        result = flat.unflatten(0, (replicates, batch))
    if noise > 0:
        normal = draw(torch.randn, tuple(images.shape[1:]), generators, images)
        result = result + noise * normal.view_as(result)
    return result


def vary_strokes(images: Tensor, strength: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Make the strokes of `images` (R, B, C, H, W) thicker or thinner, at random.

    Replicate r's amounts are drawn from `generators[r]`. To thicken strokes, every pixel moves
    towards the brightest of the 3 × 3 pixels around it, at strength 1 up to the whole way. To thin
    them, it moves towards the darkest, up to half the way.
    """
    flat = images.flatten(0, 1)
    share = strength * (2 * draw(torch.rand, (images.shape[1],), generators, images) - 1)
    share = share.clamp(-1, 1)[:, None, None, None]
    brightest = functional.max_pool2d(flat, 3, stride=1, padding=1)
    darkest = -functional.max_pool2d(-flat, 3, stride=1, padding=1)
    towards = torch.where(share > 0, brightest - flat, (darkest - flat) / 2)
    return (flat + share.abs() * towards).view_as(images)


def draw(
    sampler: Callable[..., Tensor],
    shape: tuple[int, ...],
    generators: Sequence[torch.Generator],
    like: Tensor,
) -> Tensor:
    """Draw numbers of `shape` (B, …) from each of R generators by `sampler`, such as `torch.rand`.

    The result is (R · B, …), with the device and dtype of `like`.
    """
    draws = [sampler(shape, generator=each, device=each.device) for each in generators]
    return torch.cat(draws).to(like.device, like.dtype)
