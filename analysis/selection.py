"""Selection of the best setting when cells may be missing, of replicates that can be compared, and
of the lines on a Pareto front."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


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


def front(table: pd.DataFrame, metric: str, cost: str, best: str = "min") -> pd.DataFrame:
    """The Pareto front of the columns `metric` and `cost`, by rising cost.

    Of lines with equal cost, only the best is kept; lines of unknown cost are left out. `best` is
    `min` or `max` of the metric; less cost is always better.
    """
    known = table.dropna(subset=[cost])
    order = known.sort_values([cost, metric], ascending=[True, best == "min"])
    losses = order[metric] if best == "min" else -order[metric]
    return order[losses < losses.cummin().shift(fill_value=np.inf)]
