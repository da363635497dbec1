"""Selection of the best setting when cells may be missing, of replicates and settings that can be
compared, and of the lines on a Pareto front."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from trainables.own import portable_name, without_digest

ALTERNATIVES = ("batch_size", "width", "network")
"""Settings of an autoencoder, beside d and depth, that a grid can vary at one d."""

WORDING = {"batch_size": "batch {}", "width": "{} channels", "network": "{}"}
"""How a name says a value of each of `ALTERNATIVES`."""


def best_setting(
    rows: pd.DataFrame, setting: list[str], over: str, metric: str, best: str = "max"
) -> tuple[Any, ...]:
    """The values of the columns `setting` with the best mean of `metric` over the values of the
    column `over`.

    Only settings that have every value of `over` are compared; otherwise a setting could win
    because its hard cells are missing. If no setting has them all, those that have the most are
    compared, over the values that they share, if any. `best` is `max` or `min`; `setting` has two
    columns or more.
    """
    # A mean of means, so each value of `over` has the same weight.
    table = rows.pivot_table(index=setting, columns=over, values=metric, aggfunc="mean")
    counts = table.notna().sum(axis=1)
    complete = table[counts == counts.max()]
    shared = complete.dropna(axis="columns")
    means = (complete if shared.empty else shared).mean(axis=1)
    return tuple(means.idxmax() if best == "max" else means.idxmin())


def with_common_replicates(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the replicates that every cell has, and the rows of no model (replicate NaN).

    Means over cells must be over the same cells for each replicate, but an encoder that many
    classifiers start from may have more replicates than other cells.
    """
    cells = rows.groupby("replicate")["cell"].nunique()
    common = cells.index[cells == cells.max()]
    return rows[rows["replicate"].isin(common) | rows["replicate"].isna()]


def varied(rows: pd.DataFrame, settings: Iterable[str] = ALTERNATIVES) -> list[str]:
    """Those of `settings` that have several values at one d.

    A setting of a recipe changes with d only, so cells that differ in it are on one curve over d.
    """
    by_dim = rows.groupby("latent_dim")
    return [name for name in settings if by_dim[name].nunique().max() > 1]


def curves(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each curve over d, by its name, such as `batch 32, 16 channels`.

    The cells of a curve have one value of every setting that is `varied`. Depths stay together.
    The first curve has the smallest batch size.
    """
    settings = varied(rows)
    parts = [part for _, part in rows.groupby(settings)] if settings else [rows]
    named = dict.fromkeys(["batch_size", *settings])
    return {name_of(part, named): part for part in parts}


def name_of(rows: pd.DataFrame, settings: Iterable[str]) -> str:
    """The values of settings in words, such as `batch 64 or 128, 16 channels`."""
    return ", ".join(
        WORDING[name].format(" or ".join(setting_text(value) for value in sorted(set(rows[name]))))
        for name in settings
    )


def setting_text(value: object) -> str:
    """A setting's value in words: a user's own network without folder and digest."""
    return without_digest(portable_name(str(value)))


def deepest_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the autoencoders with the most layers on the first of their `curves`.

    That is one cell for each d. The assignment's questions 2 and 3 are about these.
    """
    if varied(rows, ["depth"]):
        rows = rows[rows["depth"] == rows["depth"].max()]
    return next(iter(curves(rows).values()))


def front(table: pd.DataFrame, metric: str, cost: str, best: str = "min") -> pd.DataFrame:
    """The Pareto front of the columns `metric` and `cost`, by rising cost.

    Of lines with equal cost, only the best is kept; lines of unknown cost are left out. `best` is
    `min` or `max` of the metric; less cost is always better.
    """
    known = table.dropna(subset=[cost])
    order = known.sort_values([cost, metric], ascending=[True, best == "min"])
    losses = order[metric] if best == "min" else -order[metric]
    return order[losses < losses.cummin().shift(fill_value=np.inf)]
