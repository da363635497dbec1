"""Known stationary points, their classification by the Hessian, and their plot (question 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.style import StyledFigure, styled
from analysis.theory.common import BLACK, BLUE, GREEN, ORANGE, VERMILION, gradient

Function = Callable[[Tensor], Tensor]
"""A function of a point of shape (n,), with a value of shape ()."""

Verdict = Literal["strict minimum", "strict maximum", "saddle", "undecided"]


def hessian(function: Function, point: Tensor) -> Tensor:
    """The Hessian at a point (n,), shape (n, n)."""
    matrix: Tensor = torch.autograd.functional.hessian(function, point)
    return matrix


def hessian_eigenvalues(function: Function, point: Tensor) -> Tensor:
    """The eigenvalues of the Hessian at a point (n,), ascending, shape (n,)."""
    eigenvalues: Tensor = torch.linalg.eigvalsh(hessian(function, point))
    return eigenvalues


def classify(eigenvalues: Tensor) -> Verdict:
    """Classify a stationary point by the Hessian's eigenvalues (n,).

    Eigenvalues up to 1e-9 times max(1, largest absolute eigenvalue) count as zero.
    """
    zero = 1e-9 * max(1.0, float(eigenvalues.abs().max()))
    if (eigenvalues > zero).all():
        return "strict minimum"
    if (eigenvalues < -zero).all():
        return "strict maximum"
    if (eigenvalues > zero).any() and (eigenvalues < -zero).any():
        return "saddle"
    return "undecided"


def nature_nearby(function: Function, point: Tensor) -> str:
    """Classify a stationary point of a function of one or two numbers by its values nearby.

    The function on a circle of radius 0.01 (360 points; two in one dimension) is compared with its
    value at the point (n,), without derivatives. Differences up to 1e-14 count as none.
    """
    if len(point) == 1:
        directions = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    else:
        angle = torch.arange(360, dtype=torch.float64) * torch.pi / 180
        directions = torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
    rise = torch.func.vmap(function)(point + 0.01 * directions) - function(point)
    lowest, highest = float(rise.min()), float(rise.max())
    if lowest > 1e-14:
        return "strict minimum"
    if highest < -1e-14:
        return "strict maximum"
    return "saddle" if lowest < -1e-14 and highest > 1e-14 else "not strict"


@dataclass(frozen=True)
class Example:
    """A function with a stationary point known by inspection."""

    formula: str
    function: Function
    point: tuple[float, ...]
    verdict: Verdict
    """The Hessian's verdict."""
    nature: str
    """Its true kind: "saddle" is neither minimum nor maximum, "not strict" is a flat valley."""


def himmelblau(p: Tensor) -> Tensor:
    """D. M. Himmelblau, *Applied Nonlinear Programming*, 1972: four minima of value 0."""
    return (p[0] ** 2 + p[1] - 11) ** 2 + (p[0] + p[1] ** 2 - 7) ** 2


def double_well(p: Tensor) -> Tensor:
    """(x^2 - 1)^2 + y^2: minima at (-1, 0) and (1, 0), a saddle between them at (0, 0)."""
    return (p[0] ** 2 - 1) ** 2 + p[1] ** 2


def bowl(p: Tensor) -> Tensor:
    """(x - 1)^2 + 2 (y + 2)^2: its Hessian has the eigenvalues 2 and 4 everywhere."""
    return (p[0] - 1) ** 2 + 2 * (p[1] + 2) ** 2


BOWL = Example("(x − 1)² + 2(y + 2)²", bowl, (1, -2), "strict minimum", "strict minimum")
DOME = Example(
    "−x² − xy − y²",
    lambda p: -(p[0] ** 2) - p[0] * p[1] - p[1] ** 2,
    (0, 0),
    "strict maximum",
    "strict maximum",
)
SADDLE = Example("x² − y²", lambda p: p[0] ** 2 - p[1] ** 2, (0, 0), "saddle", "saddle")
QUARTIC = Example("x⁴", lambda p: p[0] ** 4, (0,), "undecided", "strict minimum")
MINUS_QUARTIC = Example("−x⁴", lambda p: -(p[0] ** 4), (0,), "undecided", "strict maximum")
CUBIC = Example("x³", lambda p: p[0] ** 3, (0,), "undecided", "saddle")

EXAMPLES = [
    BOWL,
    Example("Himmelblau", himmelblau, (3, 2), "strict minimum", "strict minimum"),
    Example("(x² − 1)² + y²", double_well, (1, 0), "strict minimum", "strict minimum"),
    Example("(x² − 1)² + y²", double_well, (0, 0), "saddle", "saddle"),
    DOME,
    SADDLE,
    QUARTIC,
    MINUS_QUARTIC,
    CUBIC,
    Example("x² + y⁴", lambda p: p[0] ** 2 + p[1] ** 4, (0, 0), "undecided", "strict minimum"),
    Example("x² − y⁴", lambda p: p[0] ** 2 - p[1] ** 4, (0, 0), "undecided", "saddle"),
    Example("x² in the plane", lambda p: p[0] ** 2 + 0 * p[1], (0, 0), "undecided", "not strict"),
    Example("x³ − 3xy²", lambda p: p[0] ** 3 - 3 * p[0] * p[1] ** 2, (0, 0), "undecided", "saddle"),
]


def stationary_points() -> pd.DataFrame:
    """Classify the known stationary points by gradient, Hessian and nearby values.

    Returns:
        One row per example: function, point, gradient_norm, smallest_eigenvalue,
        largest_eigenvalue, verdict (by the Hessian), expected_verdict, nature_nearby (measured),
        nature (known).
    """
    lines = []
    for example in EXAMPLES:
        point = torch.tensor(example.point, dtype=torch.float64)
        eigenvalues = hessian_eigenvalues(example.function, point)
        lines.append(
            {
                "function": example.formula,
                "point": str(example.point).replace(",)", ")"),
                "gradient_norm": float(gradient(example.function, point).norm()),
                "smallest_eigenvalue": float(eigenvalues[0]),
                "largest_eigenvalue": float(eigenvalues[-1]),
                "verdict": classify(eigenvalues),
                "expected_verdict": example.verdict,
                "nature_nearby": nature_nearby(example.function, point),
                "nature": example.nature,
            }
        )
    return pd.DataFrame(lines)


@styled()
def draw_stationary_points() -> Figure:
    """Draw functions along straight lines through six stationary points x*.

    Upper row: the Hessian decides. Lower row: x^4, -x^4 and x^3, whose Hessian is 0 and cannot
    decide.
    """
    figure = StyledFigure(figsize=(9, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    cases = [BOWL, DOME, SADDLE, QUARTIC, MINUS_QUARTIC, CUBIC]
    for axes, example in zip(panels.flat, cases, strict=True):
        _draw_lines_through(axes, example)
    for axes in panels[:, 0]:
        axes.set_ylabel("rise $f(x^* + t\\,h) - f(x^*)$")
    for axes in panels[1]:
        axes.set_xlabel("distance $t$ along the line")
    legend = panels[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_lines_through(axes: Axes, example: Example) -> None:
    point = torch.tensor(example.point, dtype=torch.float64)
    eigenvalues = hessian_eigenvalues(example.function, point)
    distance = torch.linspace(-1, 1, 201, dtype=torch.float64)
    styles = zip((BLUE, VERMILION, GREEN, ORANGE), ("-", "--", "-.", ":"), strict=True)
    for degrees, (colour, style) in zip((0, 45, 90, 135), styles, strict=True):
        angle = torch.deg2rad(torch.tensor(float(degrees), dtype=torch.float64))
        direction = torch.stack((torch.cos(angle), torch.sin(angle)))[: len(point)]
        values = torch.func.vmap(example.function)(point + distance[:, None] * direction)
        rise = values - example.function(point)
        label = f"direction $h$ at {degrees}°"
        axes.plot(distance, rise, style, color=colour, linewidth=2, label=label)
        if len(point) == 1:
            break
    axes.plot(0, 0, "o", color=BLACK, markersize=5)
    axes.grid(alpha=0.3)
    # + 0.0 turns -0 into 0.
    listed = ", ".join(f"{value + 0.0:.3g}" for value in eigenvalues.tolist()).replace("-", "−")
    verdict = classify(eigenvalues)
    title: str = verdict
    if verdict == "undecided":
        nature = "neither" if example.nature == "saddle" else f"a {example.nature}"
        title = f"undecided; in fact {nature}"
    axes.set_title(f"{example.formula}\neigenvalues of $H$: {listed}\n{title}", fontsize=10)
