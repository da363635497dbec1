"""The section of an experiment without one of its own, and of all while a study runs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from pandas.api.types import is_numeric_dtype

from analysis.document import Document
from analysis.report.captions import intervals
from analysis.results import Results
from analysis.style import COLOURS, Series, draw_series, figure, literal, styled


def write(document: Document, results: Results, name: str) -> None:
    """Write the section of experiment `name`: its metric by its axes."""
    planned, rows = results.planned(name), results.of(name)
    document.section(name, name.replace("_", " ").capitalize())
    metric, axes = planned["metric"], [axis for axis in planned["axes"] if axis in rows]
    if axes and metric in rows and is_numeric_dtype(rows[metric]):
        if x := _across(rows, axes):
            document.figure(
                name, draw_metric(rows, axes, x, metric), f"{metric}; {intervals(rows)}."
            )
        table = rows.groupby(axes)[metric].agg(["mean", "std", "count"]).reset_index()
        table["cells"] = [" ".join(sorted(set(group["cell"]))) for _, group in rows.groupby(axes)]
        document.table(name, table, f"{metric} by {', '.join(axes)}", opened=True)


def _across(rows: pd.DataFrame, axes: list[str]) -> str | None:
    """The numeric axis for x: `latent_dim`, or that with the most values; None if none varies."""
    numbers = [axis for axis in varying_axes(rows, axes) if is_numeric_dtype(rows[axis])]
    return max(numbers, key=lambda a: (a == "latent_dim", rows[a].nunique()), default=None)


def varying_axes(rows: pd.DataFrame, axes: list[str]) -> list[str]:
    """The axes that have several values."""
    return [axis for axis in axes if len(rows[axis].unique()) > 1]


@styled()
def draw_metric(rows: pd.DataFrame, axes: list[str], x: str, metric: str) -> Figure:
    """Draw `metric` against axis `x`, with a series for each setting of the other axes.

    If there are more settings than colours, the series are the values of one axis: the one with the
    most values that don't outnumber the colours.
    """
    others = [axis for axis in varying_axes(rows, axes) if axis != x]
    if rows.groupby(others).ngroups > len(COLOURS) if others else False:
        few = [axis for axis in others if rows[axis].nunique() <= len(COLOURS)]
        others = [max(few, key=lambda axis: rows[axis].nunique())] if few else []
    groups = list(rows.groupby(others)) if others else [((), rows)]
    made, panel = figure()
    for index, (values, part) in enumerate(groups):
        named = ", ".join(f"{axis} {value}" for axis, value in zip(others, values, strict=False))
        draw_series(panel, part, x, metric, Series(literal(named or metric), index))
    ticks = sorted(rows[x].unique())
    if min(ticks) > 0 and max(ticks) / min(ticks) >= 4:
        panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.xaxis.set_minor_formatter(ScalarFormatter())
    panel.set_xticks([], minor=True)
    panel.set_xlabel(literal(x))
    panel.set_ylabel(literal(metric))
    panel.legend()
    return made
