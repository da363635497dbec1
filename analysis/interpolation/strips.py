"""The strips of the assignment: decoded points of one line, side by side, one row a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from analysis.interpolation.judge import FloatArray
from analysis.interpolation.lines import (
    ALPHAS,
    cells_by_dimension,
    image_pairs,
    interpolate,
    pixel_blend,
)
from analysis.results import Results
from analysis.style import figure

STRIP_DIMS = (2, 8, 14, 30)
"""The latent dimensions that the assignment's strips show."""


@dataclass(frozen=True)
class Strips:
    """One pair of images and the lines between their codes under several models."""

    pair: tuple[int, int]
    """The digits of I₁ and I₂."""
    first: FloatArray
    """I₁, (28, 28) in [0, 1]: α = 1."""
    second: FloatArray
    """I₂, the same: α = 0."""
    alphas: tuple[float, ...]
    """The A weights of I₁'s code."""
    decoded: dict[int, FloatArray]
    """By latent dimension: (A, 28, 28)."""
    blend: FloatArray
    """The control without a model: α·I₁ + (1 − α)·I₂, (A, 28, 28)."""
    cells: dict[int, str]
    """By latent dimension: the cell of the model."""


def strips(
    results: Results,
    pair: tuple[int, int],
    dims: Sequence[int] | None = None,
    replicate: int = 0,
    example: int = 0,
    alphas: Sequence[float] = ALPHAS,
) -> Strips:
    """The strips of one of the scorecard's pairs of test images, under one replicate a dimension.

    `dims` are those of `STRIP_DIMS` that are finished, or else all that are; dimensions that
    aren't finished are left out. Raises ValueError where the test split lacks one of the digits.
    """
    cells = cells_by_dimension(results)
    wanted = [d for d in dims or STRIP_DIMS if d in cells] or list(cells)
    images = image_pairs(results, pair)
    first, second = (part[example : example + 1] for part in (images.first, images.second))
    decoded = {}
    for latent_dim in wanted:
        model = results.autoencoders(cells[latent_dim], [replicate])[0]
        decoded[latent_dim] = interpolate(model, first, second, alphas)[1][0, :, 0].numpy()
    return Strips(
        pair, first[0, 0].numpy(), second[0, 0].numpy(), tuple(alphas), decoded,
        pixel_blend(first, second, alphas)[0, :, 0].numpy(), {d: cells[d] for d in wanted},
    )  # fmt: skip


def draw_strip(shown: Strips, gap: int = 2, margin: int = 10) -> Figure:
    """One row a latent dimension and one for the pixel blend, α growing to the right, I₂ on the
    left and I₁ on the right of each."""
    rows = [*shown.decoded.values(), shown.blend]
    names = [*(f"d = {latent_dim}" for latent_dim in shown.decoded), "pixel blend"]
    side, columns = shown.blend.shape[1], len(shown.alphas)
    # Left edges of the columns: I₂, a margin, the strip, a margin, I₁.
    lefts = [0, *(side + margin + column * (side + gap) for column in range(columns))]
    lefts.append(lefts[-1] + side + margin)
    sheet = np.ones((len(rows) * (side + gap) - gap, lefts[-1] + side))
    for row, images in enumerate(rows):
        top = row * (side + gap)
        for left, image in zip(lefts, [shown.second, *images, shown.first], strict=True):
            sheet[top : top + side, left : left + side] = 1 - image
    made, axes = figure(width=8, height=0.5 + 8 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([row * (side + gap) + side / 2 for row in range(len(rows))], names)
    weights = ["0", *(f"{alpha:g}" for alpha in shown.alphas[1:-1]), "1"]
    labels = [f"test image\nI₂: {shown.pair[1]}", *weights, f"test image\nI₁: {shown.pair[0]}"]
    axes.set_xticks([left + side / 2 for left in lefts], labels, fontsize=9)
    axes.set_xlabel("α, the weight of the code of I₁", fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return made
