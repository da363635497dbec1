"""How accurate the cells are: means, intervals, and paired differences between the arms."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from analysis.results import Results
from analysis.statistics import (
    Interval,
    crossed_bootstrap,
    holm,
    mean_interval,
    paired_difference,
    probability_of_improvement,
)
from trainables.data import CLASSES

CHANCE = 1 / CLASSES


ARMS = {"fixed": "encoder fixed", "full": "everything trained", "scratch": "not pretrained"}
"""What figures call the values of `freeze`; an arm that isn't here is called by its own name."""


def _accuracy_interval(group: pd.DataFrame) -> Interval:
    """Interval of a mean accuracy: over encoders and label subsets where encoders are shared,
    over label subsets alone where every classifier had its own encoder (`scratch`)."""
    if group["encoder_cell"].isna().all():
        return mean_interval(group["test_accuracy"])
    return crossed_bootstrap(
        group["test_accuracy"], group["encoder_replicate"], group["label_subset"]
    )


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a cell: mean test accuracy (a fraction) with its interval.

    Columns `latent_dim`, `depth`, `labels`, `freeze`, `test_accuracy`, `low`, `high`, `interval`,
    `replicates`, `encoders`, `cells`.
    """
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = _accuracy_interval(group)
        first = group.iloc[0]
        lines.append(
            {
                "latent_dim": first["latent_dim"],
                "depth": first["depth"],
                "labels": first["labels"],
                "freeze": first["freeze"],
                "test_accuracy": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "interval": interval.kind,
                "replicates": interval.n,
                "encoders": group["encoder_replicate"].nunique(),
                "cells": cell,
            }
        )
    order = ["depth", "latent_dim", "labels", "freeze"]
    return pd.DataFrame(lines).sort_values(order, ignore_index=True)


def differences(rows: pd.DataFrame, first: str = "fixed", second: str = "full") -> pd.DataFrame:
    """Paired differences `first` − `second` by d and labels, on common encoders and subsets.

    Columns `latent_dim`, `labels`, `depth`, `difference`, `low`, `high`, `p` (two-sided), `p_holm`
    (corrected for the number of lines), `probability` that `first` beats `second`, `interval`,
    `pairs`, `cells`.
    """
    lines = []
    for (depth, dim, labels), group in rows.groupby(["depth", "latent_dim", "labels"]):
        keys = ["encoder_replicate", "label_subset"]
        one, two = group[group["freeze"] == first], group[group["freeze"] == second]
        pairs = one.merge(two, on=keys, suffixes=("_1", "_2"))
        if pairs.empty:
            continue
        arrays = (
            pairs["test_accuracy_1"],
            pairs["test_accuracy_2"],
            pairs["encoder_replicate"],
            pairs["label_subset"],
        )
        interval = paired_difference(*arrays)
        lines.append(
            {
                "latent_dim": dim,
                "labels": labels,
                "depth": depth,
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": interval.p_value(),
                "probability": probability_of_improvement(*arrays).estimate,
                "interval": interval.kind,
                "pairs": interval.n,
                "cells": " ".join([pairs["cell_1"].iloc[0], pairs["cell_2"].iloc[0]]),
            }
        )
    table = pd.DataFrame(lines)
    if len(table):
        table.insert(7, "p_holm", holm(table["p"]))
    return table


def overall_difference(
    rows: pd.DataFrame, first: str, second: str, labels: int | None = None
) -> Interval | None:
    """Paired difference of two arms, averaged over d (and over label counts, unless one is
    given) before resampling, since cells of one encoder and subset are not independent.

    Encoders of different d share a replicate number only; it stands for the random seed.
    """
    if labels is not None:
        rows = rows[rows["labels"] == labels]
    keys = ["depth", "latent_dim", "labels", "label_subset"]
    one, two = rows[rows["freeze"] == first], rows[rows["freeze"] == second]
    pairs = one.merge(two, on=keys, suffixes=("_1", "_2"))
    if pairs.empty:
        return None
    pairs["difference"] = pairs["test_accuracy_1"] - pairs["test_accuracy_2"]
    means = pairs.groupby(["encoder_replicate_1", "label_subset"])["difference"].mean()
    means = means.reset_index()
    return crossed_bootstrap(
        means["difference"], means["encoder_replicate_1"], means["label_subset"]
    )


def best_classifier(rows: pd.DataFrame) -> pd.Series:
    """The row of the classifier with the best *validation* accuracy."""
    return rows.loc[rows["val_accuracy"].idxmax()]


def confusion(results: Results, row: pd.Series) -> np.ndarray:
    """Counts (10, 10) of test images by true digit (rows) and predicted digit (columns)."""
    predicted = results.predictions(row["cell"])[int(row["replicate"])]
    return confusion_matrix(results.test_labels.numpy(), predicted, labels=range(CLASSES))
