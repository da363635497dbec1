"""The figure of question 3: losses for an angle, and their gradients."""

from collections.abc import Callable
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.style import StyledFigure, styled
from analysis.theory.circular import gradient
from analysis.theory.common import BLACK, BLUE, ORANGE, SKY, VERMILION
from trainables.rotation.losses import (
    AngleLoss,
    absolute_loss,
    cosine_loss,
    von_mises_loss,
    wrapped_loss,
)


@styled()
def draw_circular_losses() -> Figure:
    """Draw the losses and their gradients against the difference, -390 to 390 degrees.

    Left: the losses in degrees, naive and wrapped. Right: the smooth losses. Open circles mark
    values and one-sided gradients at points without a derivative. The filled squares are the
    losses of 2 against 360 degrees.
    """
    figure = StyledFigure(figsize=(9, 6.8), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    in_degrees: list[_Curve] = [
        ("naive $|\\hat{y} - y|$", absolute_loss, ORANGE, "-", 5),
        ("wrapped $|\\delta|$", wrapped_loss, BLUE, "--", 2),
    ]
    smooth: list[_Curve] = [
        ("$1 - \\cos\\delta$", cosine_loss, SKY, "-", 5),
        ("von Mises $\\kappa = 1$", von_mises_loss, VERMILION, "--", 2),
        ("$\\kappa = 2$", _sharper_von_mises, BLACK, ":", 2),
    ]
    for (upper, lower), curves in zip(panels.T, (in_degrees, smooth), strict=True):
        _draw_curves(upper, curves, _against_zero)
        _draw_curves(lower, curves, gradient)
        upper.legend(loc="upper center", fontsize=9, ncols=len(curves), columnspacing=1.5)
    _mark_kinks(*panels[:, 0])
    _mark_two_degrees(panels[0, 0])

    panels[0, 0].set(title="In degrees: kinks", ylabel="loss (degrees)", ylim=(-25, 560))
    panels[0, 1].set(title="Smooth", ylabel="loss (no unit; von Mises: nats)", ylim=(-0.25, 5.6))
    panels[1, 0].set(ylabel="gradient (degrees per degree)", ylim=(-1.5, 1.5))
    panels[1, 1].set(ylabel="gradient (per degree)")
    for axes in panels[1]:
        axes.set_xlabel("difference $\\hat{y} - y$ (degrees)")
    for axes in panels.flat:
        axes.set_xticks(range(-360, 361, 180))
        axes.grid(alpha=0.3)
    return figure


_Curve = tuple[str, AngleLoss, str, str, float]
"""Label, loss, colour, line style, line width in points; a thin line is visible on a wide one."""


def _against_zero(loss: AngleLoss, turn: Tensor) -> Tensor:
    return loss(turn, torch.zeros_like(turn))


def _sharper_von_mises(prediction: Tensor, target: Tensor) -> Tensor:
    return von_mises_loss(prediction, target, 2.0)


def _draw_curves(
    axes: Axes, curves: list[_Curve], quantity: Callable[[AngleLoss, Tensor], Tensor]
) -> None:
    # Separate pieces between multiples of 180, so that no line crosses a jump of a gradient.
    ends = [-390, -360, -180, 0, 180, 360, 390]
    for label, loss, colour, style, width in curves:
        for piece, (start, end) in enumerate(pairwise(ends)):
            turn = torch.linspace(start + 1e-3, end - 1e-3, 91, dtype=torch.float64)
            values = quantity(loss, turn)
            (line,) = axes.plot(turn, values, style, color=colour, linewidth=width)
            if piece == 0:
                line.set_label(label)


def _mark_kinks(losses: Axes, gradients: Axes) -> None:
    """Draw open circles on the losses' kinks, and at both ends of each jump of the gradients."""
    at = torch.arange(-360, 361, 180, dtype=torch.float64)
    _draw_rings(losses, at, _against_zero(wrapped_loss, at))
    for side in (-1e-6, 1e-6):
        _draw_rings(gradients, at, gradient(wrapped_loss, at + side))
    losses.annotate(
        "○ no derivative:\nnaive at 0° only,\nwrapped at multiples of 180°",
        (0, 0),
        xytext=(0, 330),
        ha="center",
        fontsize=9,
    )


def _draw_rings(axes: Axes, turn: Tensor, value: Tensor) -> None:
    axes.plot(turn, value, "o", color=BLACK, markerfacecolor="white", markersize=7, zorder=3)


def _mark_two_degrees(losses: Axes) -> None:
    arrow = {"arrowstyle": "->", "color": BLACK}
    for value, text, place in [
        (358, "2° against 360°,\nnaive: 358°", (-375, 425)),
        (2, "wrapped: 2°", (-300, 18)),
    ]:
        losses.plot(-358, value, "s", color=BLACK, markersize=5, zorder=4)
        losses.annotate(text, (-358, value), xytext=place, arrowprops=arrow, fontsize=9)
