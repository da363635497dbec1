"""Plots of the scorecard: each measure against d, and midpoints against reconstructions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.interpolation.scorecard import (
    CONTROLS,
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    READINGS,
    REAL,
    RECONSTRUCTION,
    by_replicate,
)
from analysis.statistics import mean_interval
from analysis.style import (
    Series,
    draw_series,
    error_bars,
    figure,
    latent_dim_axis,
    legend_below,
    marks,
    styled,
)

PANELS = ("counted", "confidence", "relative", "outside", "both", "cross_dissolve", "nearest",
          "mean_distance", "smoothness", "cycle", "path", "mse")  # fmt: skip
"""The measures that `draw_scorecard` shows."""


POSSIBLE = dict.fromkeys(("counted", "confidence", "outside", "both", "mean_distance"), (0.0, 1.0))
"""Bounds of these measures; the others have only the lower bound 0."""


@styled()
def draw_scorecard(table: pd.DataFrame) -> Figure:
    """Draw each measure against d, for midpoints and end points.

    Dots are replicates, markers are means with Student-t intervals; values that are not finite
    are left out. Lines are the controls that involve no model.
    """
    models = _models(table)
    judged = table["confidence"].notna().any()
    shown = [measure for measure in PANELS if judged or measure not in ("counted", *READINGS)]
    made, panels = figure(columns=3, rows=-(-len(shown) // 3), width=10, height=0.93 * len(shown))
    lines = {PIXEL_BLEND: ("--", "#555555"), REAL: (":", "#000000")}
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, measure in zip(panels.flat, shown, strict=False):
        for index, (control, label) in enumerate(
            {INTERPOLATION: "midpoint, α = 0.5", RECONSTRUCTION: "end points D(E(I))"}.items()
        ):
            if (measure, control) == ("counted", INTERPOLATION):
                continue  # it is a measure of end points
            series = Series(label, index, within=POSSIBLE.get(measure, (0, np.inf)))
            draw_series(axes, models[control], "latent_dim", measure, series)
        for control, (style, colour) in lines.items():
            value = models[control][measure].mean()
            if np.isfinite(value) and (measure, control) != ("counted", PIXEL_BLEND):
                axes.axhline(value, linestyle=style, color=colour, linewidth=1.2, label=control)
        latent_dim_axis(axes, _spaced(models[INTERPOLATION]["latent_dim"].unique()))
        axes.set_title(MEASURES[measure], fontsize=10)
        axes.set_ylim(bottom=0.98 if measure == "path" else 0)
        if measure in ("counted", "confidence", "relative"):
            axes.set_ylim(top=1.05)
    legend_below(made, panels, columns=4)
    return made


def _spaced(dims: Sequence[int]) -> list[int]:
    """The dimensions whose labels fit on the logarithmic axis of a small panel."""
    spaced: list[int] = []
    for latent_dim in sorted(map(int, dims)):
        if not spaced or latent_dim >= 1.25 * spaced[-1]:
            spaced.append(latent_dim)
    return spaced


@styled()
def draw_trade_off(table: pd.DataFrame) -> Figure:
    """Draw the quality of midpoints against the error of the end points, by d.

    Left: the judges' confidence in midpoints relative to the end points (without labels: the
    distance to the nearest real image). Right: the distance of midpoints from cross-dissolve. Dots
    are replicates, markers are means with Student-t intervals. A model without one of the two
    numbers is left out.
    """
    models = _models(table)
    points = (
        models[INTERPOLATION]
        .drop(columns="mse")
        .merge(models[RECONSTRUCTION][["cell", "replicate", "mse"]], on=["cell", "replicate"])
    )
    judged = table["relative"].notna().any()
    made, panels = figure(columns=2, width=10, height=4.2)
    measures = ("relative" if judged else "nearest", "cross_dissolve")
    for axes, measure in zip(panels, measures, strict=True):
        for index, (latent_dim, part) in enumerate(points.groupby("latent_dim")):
            _draw_point(axes, part, measure, f"{latent_dim}", index)
        blend = models[PIXEL_BLEND][measure].mean()
        if np.isfinite(blend):
            axes.axhline(blend, linestyle="--", color="#555555", linewidth=1.2, label=PIXEL_BLEND)
            axes.legend(loc="upper right")
        axes.margins(y=0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel("error of the end points D(E(I))\n(mean squared error per pixel)")
    confidence = "judges' confidence in the midpoint,\nrelative to the end points"
    panels[0].set_ylabel(confidence if judged else f"midpoint: {MEASURES['nearest']}")
    panels[1].set_ylabel("distance of the midpoint from cross-dissolve")
    better = "up and to the left" if judged else "low on the left panel, up on the right one"
    made.suptitle(f"labels: latent dimension d; better is {better}", fontsize=9)
    return made


def _draw_point(axes: Axes, part: pd.DataFrame, measure: str, label: str, index: int) -> None:
    part = part[np.isfinite(part[["mse", measure]].to_numpy(float)).all(axis=1)]
    if part.empty:
        return
    look = marks(index)
    across, up = mean_interval(part["mse"]), mean_interval(part[measure])
    axes.plot(part["mse"], part[measure], ".", color=look["color"], alpha=0.4, markersize=4)
    xerr, yerr = (error_bars([side.estimate], [side.low], [side.high]) for side in (across, up))
    axes.errorbar(
        across.estimate,
        up.estimate,
        xerr=xerr,
        yerr=yerr,
        **look,
        capsize=2.5,
        markersize=6,
    )
    foot = up.low if up.bounded else up.estimate
    axes.annotate(
        label,
        (across.estimate, foot),
        xytext=(0, -4),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
    )


def _models(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`by_replicate` of each control."""
    return {control: by_replicate(table, control) for control in CONTROLS}
