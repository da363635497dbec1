"""Plots of the studies and of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import pandas as pd
from matplotlib.figure import Figure

from analysis import transfer
from analysis.compare.studies import Study
from analysis.reconstruction.figures import ERROR
from analysis.style import (
    COLOURS,
    Series,
    draw_series,
    error_bars,
    figure,
    from_zero,
    latent_dim_axis,
    legend_below,
    literal,
    marks,
    styled,
)
from analysis.transfer.arms import name_of
from study.words import counted


@styled()
def draw_errors(studies: Sequence[Study]) -> Figure:
    """Draw test error against d by depth and study, each study at its smallest batch size."""
    tables = {study.name: study.results.of("autoencoder") for study in studies}
    tables = {
        name: rows[rows["batch_size"] == rows["batch_size"].min()] for name, rows in tables.items()
    }
    every = pd.concat(tables.values())
    depths = sorted(every["depth"].unique())
    made, panels = figure(
        len(depths), width=max(6.0, 4.4 * len(depths)), sharey=True, squeeze=False
    )
    for axes, depth in zip(panels[0], depths, strict=True):
        for index, (name, rows) in enumerate(tables.items()):
            offset = 0.03 * (index - (len(tables) - 1) / 2)
            series = Series(literal(name), index, offset)
            draw_series(axes, rows[rows["depth"] == depth], "latent_dim", "test_mse", series)
        latent_dim_axis(axes, every["latent_dim"], apart=1.15)
        axes.set_title(counted(depth, "layer"))
    panels[0][0].set_ylabel(ERROR)
    from_zero(panels[0][0])
    legend_below(made, panels)
    return made


@styled()
def draw_error_differences(table: pd.DataFrame) -> Figure:
    """Draw relative differences of the test error with their intervals against d.

    One series per depth and batch size, if these are columns of the table.
    """
    made, axes = figure()
    by = [name for name in ("depth", "batch_size") if name in table]
    groups = list(table.groupby(by)) if by else [((), table)]
    for index, (values, part) in enumerate(groups):
        offset = 1 + 0.03 * (index - (len(groups) - 1) / 2)
        named = dict(zip(by, values, strict=True))
        label = ", ".join(
            counted(v, "layer") if k == "depth" else f"batch {v}" for k, v in named.items()
        )
        reach = error_bars(part["difference"], part["low"], part["high"])
        axes.errorbar(
            part["latent_dim"] * offset,
            part["difference"],
            yerr=reach,
            linestyle="",
            **marks(index),
            capsize=2.5,
            label=label,
        )
    axes.axhline(0, color="#444444", linewidth=1)
    latent_dim_axis(axes, table["latent_dim"])
    axes.set_ylabel(f"test error, {literal(table['comparison'].iloc[0])} (%)")
    if by:
        legend_below(made, [axes])
    return made


@styled()
def draw_accuracies(table: pd.DataFrame, dots: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw test accuracies against the number of labels, one panel per arm, one series per study.

    `table` and `dots` are those of `differences.accuracies`: means with intervals, and replicates.
    """
    arms = list(dict.fromkeys(table["arm"]))
    columns = min(4, len(arms))
    lines = -(-len(arms) // columns)
    made, panels = figure(
        columns,
        lines,
        width=max(6.0, 2.8 * columns),
        height=0.8 + 2.4 * lines,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, arm in zip(panels.flat, arms, strict=False):
        part = table[table["arm"] == arm]
        for index, (name, which) in enumerate(zip(names, ("first", "second"), strict=True)):
            shift = 1 + 0.05 * (index - 0.5)
            of_it = dots[(dots["arm"] == arm) & (dots["study"] == name)]
            axes.plot(
                of_it["labels"] * shift,
                100 * of_it["value"],
                ".",
                color=COLOURS[index],
                alpha=0.3,
                markersize=4,
            )
            low, high = (part[f"{which}_{bound}"].clip(0, 1) for bound in ("low", "high"))
            reach = error_bars(part[which], low, high, 100)
            axes.errorbar(
                part["labels"] * shift,
                100 * part[which],
                yerr=reach,
                capsize=2,
                **marks(index),
                markersize=4,
                linestyle=("-", "--")[index],
                label=literal(name),
            )
        axes.set_title(literal(fill(name_of(arm), 32)), fontsize=9)
        axes.set_xscale("log")
        ticks = sorted(table["labels"].unique())
        axes.set_xticks(ticks, [str(int(tick)) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.8 * ticks[0], 1.25 * ticks[-1])
        axes.set_ylim(0, 100)
    for axes in panels.flat[len(arms) :]:
        axes.set_axis_off()
    for column in panels.T:
        last = [axes for axes in column if axes.axison][-1]
        last.set_xlabel("labelled images")
        last.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    legend_below(made, panels)
    return made


@styled()
def draw_accuracy_differences(table: pd.DataFrame) -> Figure:
    """Draw differences in accuracy with their intervals, one line per arm, by labels."""
    made = transfer.draw_against(table.assign(reference=""))
    comparison = literal(table["comparison"].iloc[0])
    made.axes[0].set_xlabel(f"test accuracy, {comparison} (percentage points)")
    return made
