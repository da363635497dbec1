"""Plots of accuracies, differences and confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.style import (
    COLOURS,
    LINES,
    Series,
    attach_notes,
    class_axis,
    draw_estimates,
    error_bars,
    figure,
    latent_dim_axis,
    legend_below,
    literal,
    marks,
    styled,
    tell_counts,
)
from analysis.transfer.arms import (
    PLAIN,
    at_one_setting,
    chance_of,
    name_of,
    ordered,
    split,
)


def _looks(arms: list[str]) -> dict[str, dict[str, Any]]:
    """The plot style of each arm.

    Colour and marker depend on `freeze`. With several kinds of pretraining, plain arms are hollow
    and dashed, the others full and solid.
    """
    ways = ordered(split(arm)[0] for arm in arms)
    several = len({split(arm)[1] for arm in arms}) > 1
    looks = {}
    for arm in arms:
        way, pretraining = split(arm)
        index = ways.index(way)
        look = marks(index)
        if several:
            plain = pretraining == PLAIN
            look |= {"linestyle": "--" if plain else "-", "fillstyle": "none" if plain else "full"}
        else:
            look |= {"linestyle": LINES[index % len(LINES)]}
        looks[arm] = look
    return looks


def _draw_arms(
    axes: Axes,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    x: str,
    spread: float,
    looks: Mapping[str, dict[str, Any]],
) -> None:
    """Draw means with intervals, and the replicates as dots, one series per arm of the panel.

    `looks` has every arm of the figure, so an arm looks the same in all panels.
    """
    for index, (arm, look) in enumerate(looks.items()):
        shift = 1 + spread * (index - (len(looks) - 1) / 2)
        part = table[table["arm"] == arm].sort_values(x)
        if part.empty:
            continue
        dots = rows[rows["arm"] == arm]
        label = literal(name_of(arm))
        (small,) = axes.plot(
            dots[x] * shift,
            100 * dots["test_accuracy"],
            ".",
            gid=label,
            color=look["color"],
            alpha=0.25,
            markersize=3,
        )
        attach_notes(small, "replicate " + dots["replicate"].astype(str), dots["cell"])
        mean = 100 * part["test_accuracy"]
        reach = error_bars(part["test_accuracy"], part["low"], part["high"], 100)
        drawn = axes.errorbar(
            part[x] * shift,
            mean,
            yerr=reach,
            markersize=4,
            capsize=2,
            linewidth=1.3,
            label=label,
            **look,
        )
        attach_notes(drawn.lines[0], "mean, n = " + part["replicates"].astype(str), part["cells"])
    axes.axhline(100 * chance_of(rows), color="#666666", linestyle=":", linewidth=1)


def of_dimension(table: pd.DataFrame, dim: int) -> pd.DataFrame:
    """The rows of one latent dimension and those of arms without one."""
    return table[(table["latent_dim"] == dim) | table["latent_dim"].isna()]


def at_every_dimension(table: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows of arms without a latent dimension at every latent dimension."""
    dims = table["latent_dim"].dropna().unique()
    return pd.concat([of_dimension(table, dim).assign(latent_dim=dim) for dim in dims])


@styled()
def draw_by_labels(
    rows: pd.DataFrame, table: pd.DataFrame, pixel_baselines: pd.DataFrame
) -> Figure:
    """Draw accuracy against the number of labels by arm, one panel per latent dimension.

    `table` is the `summary` of `rows`; only one setting of depth and batch size is shown.
    `pixel_baselines` may be empty.
    """
    rows, table = at_one_setting(rows), at_one_setting(table)
    dims = sorted(int(dim) for dim in table["latent_dim"].dropna().unique())
    columns = min(4, len(dims))
    lines = -(-len(dims) // columns)
    looks = _looks(ordered(table["arm"]))
    spread = 0.05 if len(looks) <= 4 else 0.025
    wide, high = (2.9 * columns, 2.9 * lines) if len(dims) > 1 else (8.0, 5.4)
    made, panels = figure(
        columns, lines, width=max(wide, 8.0), height=high, sharex=True, sharey=True, squeeze=False
    )
    for axes in panels.flat[len(dims) :]:
        axes.set_axis_off()
    for axes, dim in zip(panels.flat, dims, strict=False):
        shown, dots = of_dimension(table, dim), of_dimension(rows, dim)
        _draw_arms(axes, shown, dots, "labels", spread, looks)
        baselines = pixel_baselines.groupby("classifier") if len(pixel_baselines) else ()
        for (name, of_it), style in zip(baselines, ("--", ":"), strict=False):
            base = of_it.groupby("labels")["test_accuracy"].mean()
            axes.plot(
                base.index, 100 * base, color="#888888", linestyle=style, linewidth=1.2, label=name
            )
        axes.set_xscale("log")
        ticks = sorted(table["labels"].unique())
        axes.set_xticks(ticks, [str(int(t)) for t in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(f"d = {dim}")
        axes.set_ylim(0, 100)
    for axes in panels[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    for column in range(columns):
        last = [panels[line][column] for line in range(lines) if panels[line][column].axison][-1]
        last.set_xlabel("labelled images")
        last.tick_params(labelbottom=True)
    legend_below(made, panels)
    return made


@styled()
def draw_by_dimension(rows: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw accuracy against d by arm, one panel per number of labels.

    `table` is the `summary` of `rows`; only one setting of depth and batch size is shown.
    """
    rows, table = (at_every_dimension(at_one_setting(each)) for each in (rows, table))
    counts = sorted(table["labels"].unique())
    looks = _looks(ordered(table["arm"]))
    made, panels = figure(
        len(counts), width=max(8.0, 2.9 * len(counts)), height=3.6, sharey=True, squeeze=False
    )
    for axes, labels in zip(panels[0], counts, strict=True):
        _draw_arms(
            axes,
            table[table["labels"] == labels],
            rows[rows["labels"] == labels],
            "latent_dim",
            0.06,
            looks,
        )
        latent_dim_axis(axes, table["latent_dim"], apart=1.3)
        axes.set_title(f"{labels} labels")
        axes.set_ylim(0, 100)
    panels[0][0].set_ylabel("test accuracy (%)")
    legend_below(made, panels)
    return made


@styled()
def draw_differences(table: pd.DataFrame) -> Figure:
    """Draw the paired difference fixed − full in percentage points with its interval.

    One series per number of labels, over d, at one setting of depth and batch size.
    """
    table = at_one_setting(table)
    made, axes = figure(width=8, height=3.6)
    counts = sorted(table["labels"].unique())
    dims = sorted(table["latent_dim"].unique())
    for index, labels in enumerate(counts):
        part = table[table["labels"] == labels].sort_values("latent_dim")
        # Evenly spaced: on the scale of d, the bars of 12 and 14 would overlap.
        shift = 0.16 * (index - (len(counts) - 1) / 2)
        places = [dims.index(dim) + shift for dim in part["latent_dim"]]
        series = Series(f"{labels} labels", index, scale=100)
        draw_estimates(axes, part.assign(place=places), "place", "difference", series, linestyle="")
    axes.axhline(0, color="#444444", linewidth=1)
    axes.set_xticks(range(len(dims)), [f"{dim:.0f}" for dim in dims])
    axes.set_xlabel("latent dimension d (evenly spaced)")
    axes.set_ylabel("fixed − full\n(percentage points)")
    made.legend(ncols=4, loc="outside lower center")
    return made


@styled()
def draw_against(table: pd.DataFrame) -> Figure:
    """Draw each arm minus the reference in percentage points with its interval, by labels."""
    arms = ordered(table["arm"])
    counts = sorted(table["labels"].unique())
    made, axes = figure(width=8, height=1.6 + 0.55 * len(arms))
    for index, labels in enumerate(counts):
        part = table[table["labels"] == labels]
        shift = 0.17 * (index - (len(counts) - 1) / 2)
        places = [arms.index(arm) + shift for arm in part["arm"]]
        mean = 100 * part["difference"]
        reach = error_bars(part["difference"], part["low"], part["high"], 100)
        drawn = axes.errorbar(
            mean,
            places,
            xerr=reach,
            linestyle="",
            **marks(index),
            capsize=2.5,
            markersize=5,
            label=f"{labels} labels",
        )
        tell_counts(drawn, part)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set_yticks(range(len(arms)), [literal(name_of(arm)) for arm in arms])
    axes.invert_yaxis()
    reference = literal(name_of(str(table["reference"].iloc[0])))
    axes.set_xlabel(f"accuracy minus that of “{reference}” (percentage points)")
    made.legend(ncols=4, loc="outside lower center")
    return made


@styled()
def draw_original(ours: pd.DataFrame, theirs: pd.DataFrame) -> Figure:
    """Draw the original's single runs and this study's means against d, one panel per arm.

    The study's means are at one setting of depth and batch size.
    """
    ours = at_one_setting(ours)
    ours = ours[ours["pretraining"] == PLAIN]
    made, panels = figure(2, width=9, height=3.6, sharey=True)
    for axes, arm in zip(panels, ("fixed", "full"), strict=True):
        for index, labels in enumerate(sorted(theirs["labels"].unique())):
            for table, style, name in (
                (ours, {"linestyle": "-"}, "here"),
                (theirs, {"linestyle": ":", "fillstyle": "none"}, "original"),
            ):
                part = table[(table["freeze"] == arm) & (table["labels"] == labels)]
                part = part.sort_values("latent_dim")
                (line,) = axes.plot(
                    part["latent_dim"],
                    100 * part["test_accuracy"],
                    **style,
                    **marks(index),
                    label=f"{labels} labels, {name}",
                )
                if "cells" in part:
                    attach_notes(line, "mean, n = " + part["replicates"].astype(str), part["cells"])
        axes.axhline(10, color="#666666", linewidth=1)
        axes.annotate(
            "chance",
            (2, 10),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
            color="#666666",
        )
        latent_dim_axis(axes, theirs["latent_dim"])
        axes.set_title(name_of(arm))
        axes.set_ylim(0, 100)
    panels[0].set_ylabel("test accuracy (%)")
    made.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    return made


@styled()
def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw a confusion matrix in per cent of each true class; without numbers above 20 classes."""
    classes = len(names)
    side = min(11.0, max(4.6, 0.35 * classes))
    made, axes = figure(width=side + 0.6, height=side)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for true in range(classes if classes <= 20 else 0):
        for predicted in range(classes):
            if shares[true, predicted] >= 0.5:
                axes.text(
                    predicted,
                    true,
                    f"{shares[true, predicted]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if shares[true, predicted] > 55 else "black",
                )
    class_axis(axes.xaxis, names)
    class_axis(axes.yaxis, names)
    axes.grid(visible=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    made.colorbar(drawn, label="share of the true class (%)")
    return made


@styled()
def draw_decisions(paths: pd.DataFrame, negligible_below: float) -> Figure:
    """Draw the interval of each comparison against the number of replicates, in percentage points.

    Rows are pairs of arms, columns numbers of labels.
    """
    pairs = list(paths[["arm", "reference"]].drop_duplicates().itertuples(index=False))
    counts = sorted(paths["labels"].unique())
    points = 100 * negligible_below
    made, panels = figure(
        len(counts),
        len(pairs),
        width=2.3 * len(counts) + 0.6,
        height=2.4 * len(pairs) + 0.4,
        sharey="row",
        squeeze=False,
    )
    for index, (line, pair) in enumerate(zip(panels, pairs, strict=True)):
        for axes, labels in zip(line, counts, strict=True):
            chosen = (paths["arm"] == pair.arm) & (paths["reference"] == pair.reference)
            known = paths[chosen & (paths["labels"] == labels)]
            axes.axhspan(-points, points, color="#dddddd", linewidth=0)
            axes.axhline(0, color="#444444", linewidth=1)
            axes.fill_between(
                known["n"],
                100 * known["low"],
                100 * known["high"],
                color=COLOURS[index],
                alpha=0.3,
                linewidth=0,
            )
            axes.plot(known["n"], 100 * known["estimate"], color=COLOURS[index])
            axes.set_title(f"{labels} labels")
        line[0].set_ylabel(f"{pair.arm} − {pair.reference}\n(percentage points)")
        widest = 100 * paths[paths["n"] >= 6][["low", "high"]].abs().max().max()
        line[0].set_ylim(-min(20, widest), min(20, widest))
    for axes in panels[-1]:
        axes.set_xlabel("replicates")
    return made
