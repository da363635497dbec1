"""Which setting is best, where cells may be missing, which replicates can be compared, and which
lines are worth their cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def best_setting(
    rows: pd.DataFrame, setting: list[str], over: str, metric: str, best: str = "max"
) -> tuple[Any, ...]:
    """The values of the columns `setting` with the best mean of `metric` over the values of the
    column `over`.

    Compared are those settings alone that have every value of `over` that any of them has, since
    a setting whose hard cells are missing would win by it. Where none has them all: those that
    have the most, by the values that they share, if there are any. `best` is `max` or `min`;
    `setting` has two columns or more.
    """
    # A mean of means: each value of `over` counts alike.
    table = rows.pivot_table(index=setting, columns=over, values=metric, aggfunc="mean")
    counts = table.notna().sum(axis=1)
    complete = table[counts == counts.max()]
    shared = complete.dropna(axis="columns")
    means = (complete if shared.empty else shared).mean(axis=1)
    return tuple(means.idxmax() if best == "max" else means.idxmin())


def with_common_replicates(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the replicates that every cell has, and those of no model.

    Means over cells, replicate by replicate, must be of the same cells for each; an encoder that
    many classifiers start from may have more replicates than other cells.
    """
    cells = rows.groupby("replicate")["cell"].nunique()
    common = cells.index[cells == cells.max()]
    return rows[rows["replicate"].isin(common) | rows["replicate"].isna()]


def front(table: pd.DataFrame, metric: str, cost: str, best: str = "min") -> pd.DataFrame:
    """The lines that no other one beats in both the columns `metric` and `cost` (the Pareto front),
    by rising cost: of those that cost the same, the best alone; none whose cost is unknown.

    `best` says of the metric whether its `min` or its `max` is; less cost always is.
    """
    known = table.dropna(subset=[cost])
    order = known.sort_values([cost, metric], ascending=[True, best == "min"])
    losses = order[metric] if best == "min" else -order[metric]
    return order[losses < losses.cummin().shift(fill_value=np.inf)]
