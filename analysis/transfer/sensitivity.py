"""Does the budget decide which arm is better? Two arms at other steps and other rates."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.statistics import LEVEL, holm_table
from analysis.style import Series, draw_estimates, figure, legend_below, styled
from analysis.transfer.accuracies import in_points, over_replicates, require_distinct
from analysis.transfer.arms import rows_of

VARIED = {"steps": "epochs", "rates": "rate_factor"}
"""The setting that each experiment varies, with all labels in one minibatch."""

AXIS_LABELS = {"steps": "optimiser steps of both arms", "rates": "factor of every learning rate"}
"""The names of the varied settings in figures."""


def sensitivity(results: Results) -> pd.DataFrame:
    """Encoder fixed minus everything trained, at other numbers of steps and at other rates.

    Columns `latent_dim`, `varied` (`steps`, `rates`, or `tuned`: each arm at the steps and the rate
    with its best validation accuracy), `value` (steps, or the factor of every rate; NaN if tuned),
    `labels`, `difference`, `low`, `high`, `p`, `p_holm`, `pairs`, `fixed` and `full` (mean
    validation accuracies), `interval`, `cells`. Empty if neither experiment has results.

    Raises `StoreError` if an arm has two cells at the same setting.
    """
    known = {name: rows_of(results, name) for name in VARIED if len(results.of(name))}
    lines = []
    for name, rows in known.items():
        for (value, labels), group in rows.groupby([VARIED[name], "labels"]):
            lines += _line(group, varied=name, value=value, labels=labels)
    if lines:
        every = pd.concat(known.values()).drop_duplicates(["cell", "replicate"])
        means = every.groupby(["labels", "freeze", "cell"])["val_accuracy"].mean()
        best = set(means.groupby(["labels", "freeze"]).idxmax().map(lambda index: index[-1]))
        for labels, group in every[every["cell"].isin(best)].groupby("labels"):
            lines += _line(group, varied="tuned", value=float("nan"), labels=labels)
    return holm_table(lines)


def _line(rows: pd.DataFrame, **setting: object) -> list[dict[str, object]]:
    """One row of the table; none if an arm is missing."""
    keys = ["latent_dim", "label_subset"]
    one, two = (rows[rows["freeze"] == arm] for arm in ("fixed", "full"))
    pairs = one.merge(two, on=keys, suffixes=("", "_full"))
    if pairs.empty:
        return []
    require_distinct(pairs, keys, ["cell", "cell_full"])
    differences = pairs["test_accuracy"] - pairs["test_accuracy_full"]
    interval = over_replicates(differences, pairs["encoder_replicate"], pairs["label_subset"])
    line = {
        "latent_dim": pairs["latent_dim"].iloc[0],
        **setting,
        **interval.columns("difference", "pairs"),
        "p": interval.p_value(),
        "fixed": one["val_accuracy"].mean(),
        "full": two["val_accuracy"].mean(),
        "cells": f"{one['cell'].iloc[0]} {two['cell'].iloc[0]}",
    }
    return [line]


def sensitivity_conclusions(table: pd.DataFrame) -> list[str]:
    """Say whether the steps decide which arm is better, a sentence per number of labels."""
    sentences = []
    for labels, lines in table.groupby("labels") if len(table) else ():
        steps, tuned = (lines[lines["varied"] == name] for name in ("steps", "tuned"))
        if len(steps) < 2:
            continue
        parts = [f"{in_points(line)} at {line['value']:.0f}" for _, line in steps.iterrows()]
        best = "".join(
            f" Each at the steps and the rate with its best validation accuracy: {in_points(line)}."
            for _, line in tuned.iterrows()
        )
        sentences.append(
            f"“Encoder fixed” minus “everything trained” by the steps of both, d = "
            f"{steps['latent_dim'].iloc[0]:.0f}, {labels} labels, n = {steps['pairs'].iloc[0]}, in "
            f"percentage points: {', '.join(parts)} steps: {_verdict(steps)}.{best}"
        )
    return sentences


def _verdict(steps: pd.DataFrame) -> str:
    """The verdict of the corrected p values over all numbers of steps."""
    decided = steps[steps["p_holm"] < LEVEL]
    if decided.empty:
        return "undecided at each"
    if decided["difference"].min() < 0 < decided["difference"].max():
        return "the number of steps decides which is better"
    better = "fixed" if decided["difference"].iloc[0] > 0 else "full"
    if len(decided) == len(steps):
        return f"{better} is better at each"
    where = " and ".join(f"{value:.0f}" for value in decided["value"])
    return f"{better} is better at {where}, undecided at the others"


@styled()
def draw_sensitivity(table: pd.DataFrame) -> Figure:
    """Draw the difference against steps and against the factor of the rates, with intervals.

    One series per number of labels.
    """
    shown = [name for name in VARIED if name in set(table["varied"])]
    made, panels = figure(len(shown), width=8, height=3.6, sharey=True, squeeze=False)
    counts = sorted(table["labels"].unique())
    for axes, name in zip(panels[0], shown, strict=True):
        for labels, lines in table[table["varied"] == name].groupby("labels"):
            index = counts.index(labels)
            series = Series(f"{labels} labels", index, 0.03 * index, scale=100)
            draw_estimates(axes, lines, "value", "difference", series)
        axes.axhline(0, color="#444444", linewidth=1)
        axes.set_xscale("log")
        ticks = sorted(table[table["varied"] == name]["value"].unique())
        axes.set_xticks(ticks, [f"{tick:.2g}" if tick < 1 else f"{tick:.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(AXIS_LABELS[name])
    panels[0][0].set_ylabel("fixed − full (percentage points)")
    legend_below(made, panels, columns=len(counts))
    return made
