"""Comparisons under other settings: a larger budget, larger minibatches, other networks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.selection import setting_text, with_common_replicates
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

KEYS = ["latent_dim", "depth", "batch_size", "epochs", "width", "network", "replicate"]
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
    settings that are not in `per`; the interval is over replicates. One row per value of `per`
    (without `per`, one row; none without pairs):
    the columns in `per`, `percent`, `low`, `high`, `p`, `n`, `negligible`, `interval`, `cells`.

    With `negligible_below`, a fraction of the error, intervals and p values are anytime-valid
    (valid however often one looks), and `negligible` says whether the change is known to be
    smaller.
    """
    common = [key for key in KEYS if key not in first]
    pairs = _where(rows, second).merge(_where(rows, first), on=common, suffixes=("", "_first"))
    pairs["ratio"] = np.log(pairs["test_mse"] / pairs["test_mse_first"])
    groups = list(pairs.groupby(per)) if per and len(pairs) else [((), pairs)][: len(pairs)]
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


def _where(rows: pd.DataFrame, settings: Mapping[str, object]) -> pd.DataFrame:
    return rows[(rows[list(settings)] == pd.Series(settings)).all(axis=1)]


def in_per_cent(interval: Interval) -> Interval:
    """Convert the interval of a mean log ratio to a change in per cent."""
    return interval.mapped(lambda log_ratio: 100 * float(np.expm1(log_ratio)))


def layer_changes(rows: pd.DataFrame, negligible_below: float | None = None) -> pd.DataFrame:
    """`change` from each depth to the next, by d and epochs.

    Adds `question` and `p_holm` (corrected for all d of one budget).
    """
    table = _changes_of(
        rows, "depth", ["epochs", "latent_dim"], "{} layers instead of {}", negligible_below
    )
    if table.empty:
        return table
    # The epochs of a recipe differ by d, so budgets are the first, the second … of each d.
    budget = table.groupby(["question", "latent_dim"])["epochs"].rank("dense")
    by_family = table.groupby(["question", budget])["p"]
    return table.assign(p_holm=by_family.transform(lambda p: holm(p.to_numpy())))


def batch_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`change` from the smallest minibatch to a larger one, by depth, mean over d.

    The larger one is the largest whole multiple of the smallest: one comparison is at equal epochs,
    one at equal updates, over the same models. If there is no multiple, it is the largest, at equal
    epochs alone. Both are of the same d, where the minibatch varies.
    """
    rows = rows[rows.groupby("latent_dim")["batch_size"].transform("nunique") > 1]
    if rows.empty:
        return pd.DataFrame()
    smallest, *larger = sorted(rows["batch_size"].unique())
    multiples = [size for size in larger if size % smallest == 0]
    largest = (multiples or larger)[-1]
    budgets = {"as many epochs": 1}
    if multiples:
        budgets["as many updates"] = largest // smallest
    epochs = rows[rows["batch_size"] == smallest]["epochs"].min()
    place = ["latent_dim", "depth", "width", "network"]
    tables = []
    others = {
        budget: {"batch_size": largest, "epochs": factor * epochs}
        for budget, factor in budgets.items()
        if len(_where(rows, {"batch_size": largest, "epochs": factor * epochs}))
    }
    for second in others.values():
        rows = rows.merge(_where(rows, second)[place].drop_duplicates(), on=place)
    for budget, second in others.items():
        table = change(rows, {"batch_size": smallest, "epochs": epochs}, second, ["depth"])
        question = f"batch {largest} instead of {smallest}, {budget}"
        tables.append(table.assign(question=question, epochs=second["epochs"]))
    return _with_depth(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame()


def width_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`change` from each width to the next, by epochs, d and depth."""
    per = ["epochs", "latent_dim", "depth"]
    return _with_depth(_changes_of(rows, "width", per, "{} channels instead of {}"))


def network_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`change` from each kind of network to the next, in the order of their names, by epochs, d
    and depth."""
    per = ["epochs", "latent_dim", "depth"]
    return _with_depth(_changes_of(rows, "network", per, "{} instead of {}"))


def _changes_of(
    rows: pd.DataFrame,
    setting: str,
    per: list[str],
    question: str,
    negligible_below: float | None = None,
) -> pd.DataFrame:
    """`change` from each value of `setting` to the next, with the `question` it answers."""
    tables = [
        change(rows, {setting: one}, {setting: other}, per, negligible_below).assign(
            question=question.format(setting_text(other), setting_text(one))
        )
        for one, other in pairwise(sorted(rows[setting].unique()))
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _with_depth(table: pd.DataFrame) -> pd.DataFrame:
    """The same, with the number of layers in the question if it is not the same in all lines."""
    if table.empty or len(set(table["depth"])) == 1:
        return table
    layers = [counted(depth, "layer") for depth in table["depth"]]
    return table.assign(question=table["question"] + ", " + pd.Series(layers, table.index))


def checks(rows: pd.DataFrame) -> pd.DataFrame:
    """All changes in one table.

    Columns `question`, `epochs`, `latent_dim` (NaN: mean over all that were checked), `percent`,
    `low`, `high`, `p`, `p_holm`, `n`, `interval`, `cells`.
    """
    tables = [of(rows) for of in (layer_changes, batch_changes, width_changes, network_changes)]
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
