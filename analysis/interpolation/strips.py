"""The strips of the assignment: decoded points of a line, side by side, one row per dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from analysis.interpolation.lines import (
    ALPHAS,
    cells_by_dimension,
    image_pairs,
    interpolate,
    pixel_blend,
)
from analysis.results import Results
from analysis.statistics.interval import FloatArray
from analysis.style import figure, literal, on_paper, styled

STRIP_DIMS = (2, 8, 14, 30)
"""The latent dimensions of the assignment's strips."""


@dataclass(frozen=True)
class Strips:
    """One pair of images and the lines between their codes under several models."""

    names: tuple[str, str]
    """Names of the classes of I₁ and I₂."""
    first: FloatArray
    """I₁ (α = 1), a picture (H, W, 3) in [0, 1]."""
    second: FloatArray
    """I₂ (α = 0), a picture (H, W, 3) in [0, 1]."""
    decoded: dict[int, FloatArray]
    """Decoded pictures (A, H, W, 3) by latent dimension, at the weights `ALPHAS` of I₁'s code."""
    blend: FloatArray
    """The control without a model: α·I₁ + (1 − α)·I₂, (A, H, W, 3)."""
    cells: dict[int, str]
    """The cell of the model by latent dimension."""


def strips(results: Results, pair: tuple[int, int]) -> Strips:
    """The strips of the first of the scorecard's pairs of test images, by replicate 0 of each
    dimension in `STRIP_DIMS`.

    Dimensions that aren't finished are left out; if none is left, all finished ones are shown.
    Raises ValueError if the test split lacks one of the classes.
    """
    cells = cells_by_dimension(results)
    wanted = [d for d in STRIP_DIMS if d in cells] or list(cells)
    images = image_pairs(results, pair)
    first, second = images.first[:1], images.second[:1]

    def shown(part: Tensor) -> FloatArray:
        return on_paper(part[0], results.dataset.is_dark)

    decoded = {}
    for latent_dim in wanted:
        model = results.first_autoencoder(cells[latent_dim])
        decoded[latent_dim] = shown(interpolate(model, first, second)[1])
    blend = shown(pixel_blend(first, second))
    used = {d: cells[d] for d in wanted}
    return Strips(images.names, shown(first), shown(second), decoded, blend, used)


@styled()
def draw_strip(shown: Strips) -> Figure:
    """Draw one row per latent dimension and one for the pixel blend.

    α grows to the right; each row has I₂ on its left and I₁ on its right.
    """
    rows = [*shown.decoded.values(), shown.blend]
    names = [*(f"d = {latent_dim}" for latent_dim in shown.decoded), "pixel blend"]
    columns, height, side = shown.blend.shape[:3]
    gap, margin = 2, 10  # in pixels
    # Left edges of the columns: I₂, a margin, the strip, a margin, I₁.
    lefts = [0, *(side + margin + column * (side + gap) for column in range(columns))]
    lefts.append(lefts[-1] + side + margin)
    sheet = np.ones((len(rows) * (height + gap) - gap, lefts[-1] + side, 3))
    for row, images in enumerate(rows):
        top = row * (height + gap)
        for left, image in zip(lefts, [shown.second, *images, shown.first], strict=True):
            sheet[top : top + height, left : left + side] = image
    made, axes = figure(width=8, height=0.5 + 8 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], names)
    weights = [f"{alpha:g}" for alpha in ALPHAS]
    first, second = map(literal, shown.names)
    labels = [f"test image\nI₂: {second}", *weights, f"test image\nI₁: {first}"]
    axes.set_xticks([left + side / 2 for left in lefts], labels, fontsize=9)
    axes.set_xlabel("α, the weight of the code of I₁", fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return made
