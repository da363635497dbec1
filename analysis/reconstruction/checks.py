"""Comparisons under other settings: a larger budget, larger minibatches, other widths."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.selection import with_common_replicates
from analysis.statistics import (
    Interval,
    holm,
    mean_interval,
    negligible,
    sequential_interval,
    sequential_p_value,
)
from analysis.style import error_bars, figure, marks, styled, tell_counts
from study.words import counted

KEYS = ["latent_dim", "depth", "batch_size", "epochs", "width", "replicate"]
"""Settings that two compared models share, except the one being compared."""

CHECKS = ("longer", "batches", "widths")
"""The experiments that train some of the autoencoders under other settings."""


def all_rows(results: Results) -> pd.DataFrame:
    """The rows of the autoencoders and of their checks, each model once."""
    tables = [results.of(name) for name in ("autoencoder", *CHECKS)]
    every = pd.concat([table for table in tables if len(table)], ignore_index=True)
    return every.drop_duplicates(["cell", "replicate"], ignore_index=True)


def change(
    rows: pd.DataFrame,
    first: Mapping[str, object],
    second: Mapping[str, object],
    per: list[str],
    negligible_below: float | None = None,
) -> pd.DataFrame:
    """Change of the test error from settings `first` to settings `second`, in per cent.

    Models are paired by the other settings in `KEYS`. A replicate's log ratios are averaged over
    settings that are not in `per`; the interval is over replicates. One row per value of `per`:
    the columns in `per`, `percent`, `low`, `high`, `p`, `n`, `negligible`, `interval`, `cells`.

    With `negligible_below`, a fraction of the error, intervals and p values are anytime-valid
    (valid however often one looks), and `negligible` says whether the change is known to be
    smaller.
    """
    common = [key for key in KEYS if key not in first]
    one, two = (
        rows[(rows[list(chosen)] == pd.Series(chosen)).all(axis=1)] for chosen in (first, second)
    )
    pairs = two.merge(one, on=common, suffixes=("", "_first"))
    pairs["ratio"] = np.log(pairs["test_mse"] / pairs["test_mse_first"])
    groups = list(pairs.groupby(per)) if len(pairs) else []
    lines = []
    for values, group in groups:
        # Each replicate's mean must be over the same cells.
        group = with_common_replicates(group)
        ratios = group.groupby("replicate")["ratio"].mean()
        if negligible_below is None:
            of_logs = mean_interval(ratios)
            p, small = of_logs.p_value(), False
        else:
            of_logs, p = sequential_interval(ratios), sequential_p_value(ratios)
            small = negligible(ratios, float(np.log1p(negligible_below)), len(groups))
        interval = in_per_cent(of_logs)
        cells = sorted({*group["cell"], *group["cell_first"]})
        lines.append(
            {
                **dict(zip(per, values, strict=True)),
                **interval.columns("percent", "n"),
                "p": p,
                "negligible": small,
                "cells": " ".join(cells),
            }
        )
    return pd.DataFrame(lines)


def in_per_cent(interval: Interval) -> Interval:
    """Convert the interval of a mean log ratio to a change in per cent."""
    return interval.mapped(lambda log_ratio: 100 * float(np.expm1(log_ratio)))


def layer_changes(rows: pd.DataFrame, negligible_below: float | None = None) -> pd.DataFrame:
    """`change` from each depth to the next, by d and epochs.

    Adds `question` and `p_holm` (corrected for all d of one budget).
    """
    tables = []
    for fewer, more in pairwise(sorted(rows["depth"].unique())):
        depths = {"depth": fewer}, {"depth": more}
        table = change(rows, *depths, ["epochs", "latent_dim"], negligible_below)
        if len(table):
            adjusted = table.groupby("epochs")["p"].transform(lambda p: holm(p.to_numpy()))
            question = f"{more} layers instead of {fewer}"
            tables.append(table.assign(p_holm=adjusted, question=question))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def batch_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`change` from the smallest minibatch to a larger one, by depth, mean over d.

    The larger one is the largest whole multiple of the smallest: one comparison is at equal epochs,
    one at equal updates. If there is no multiple, it is the largest, at equal epochs alone.
    """
    smallest, *larger = sorted(rows["batch_size"].unique())
    if not larger:
        return pd.DataFrame()
    multiples = [size for size in larger if size % smallest == 0]
    largest = (multiples or larger)[-1]
    budgets = {"as many epochs": 1}
    if multiples:
        budgets["as many updates"] = largest // smallest
    epochs = rows[rows["batch_size"] == smallest]["epochs"].min()
    tables = []
    for budget, factor in budgets.items():
        first = {"batch_size": smallest, "epochs": epochs}
        second = {"batch_size": largest, "epochs": factor * epochs}
        table = change(rows, first, second, ["depth"])
        question = f"batch {largest} instead of {smallest}, {budget}"
        tables.append(table.assign(question=question, epochs=epochs * factor))
    return pd.concat(tables, ignore_index=True)


def width_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`change` from each width to the next, by epochs, d and depth."""
    tables = [
        change(rows, {"width": fewer}, {"width": more}, ["epochs", "latent_dim", "depth"]).assign(
            question=f"{more} channels instead of {fewer}"
        )
        for fewer, more in pairwise(sorted(rows["width"].unique()))
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def checks(rows: pd.DataFrame) -> pd.DataFrame:
    """All changes in one table.

    Columns `question`, `epochs`, `latent_dim` (NaN: mean over all that were checked), `percent`,
    `low`, `high`, `p`, `p_holm`, `n`, `interval`, `cells`.
    """
    tables = [layer_changes(rows), batch_changes(rows), width_changes(rows)]
    table = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
    columns = ["question", "epochs", "latent_dim", "percent", "low", "high", "p", "p_holm", "n",
               "interval", "cells"]  # fmt: skip
    return table.reindex(columns=columns)


@styled()
def draw_checks(table: pd.DataFrame) -> Figure:
    """Draw the changes of the test error in per cent with their intervals, a colour per budget."""
    made, axes = figure(width=8, height=1.2 + 0.26 * len(table))
    budgets = sorted(table["epochs"].unique())
    dims = [f", d = {d:.0f}" if d > 0 else "" for d in table["latent_dim"]]
    names = [f"{question}{dim}" for question, dim in zip(table["question"], dims, strict=True)]
    for index, epochs in enumerate(budgets):
        chosen = np.flatnonzero(table["epochs"] == epochs)
        part = table.iloc[chosen]
        reach = error_bars(part["percent"], part["low"], part["high"])
        drawn = axes.errorbar(
            part["percent"],
            chosen,
            xerr=reach,
            linestyle="",
            capsize=2.5,
            **marks(index),
            label=counted(epochs, "epoch"),
        )
        tell_counts(drawn, part)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set_yticks(range(len(table)), names)
    axes.invert_yaxis()
    axes.set_xlabel("change of the test error (%)")
    made.legend(loc="outside lower center", ncols=len(budgets))
    return made
