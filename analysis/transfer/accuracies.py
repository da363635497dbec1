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
    probability_of_improvement,
)
from analysis.transfer.arms import SETTING, at_one_setting, ordered, with_arms
from trainables.data import CLASSES

CHANCE = 1 / CLASSES


def accuracy_interval(group: pd.DataFrame) -> Interval:
    """Interval of a mean accuracy: over encoders and label subsets where encoders are shared,
    over label subsets alone where every classifier had its own encoder (`scratch`)."""
    if group["encoder_cell"].isna().all():
        return mean_interval(group["test_accuracy"])
    return crossed_bootstrap(
        group["test_accuracy"], group["encoder_replicate"], group["label_subset"]
    )


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a cell: mean test accuracy (a fraction) with its interval.

    Columns `latent_dim`, `depth`, `asked_batch_size`, `labels`, `freeze`, `pretraining`, `arm`,
    `test_accuracy`, `low`, `high`, `interval`, `replicates`, `encoders`, `cells`.
    """
    rows = with_arms(rows)
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = accuracy_interval(group)
        first = group.iloc[0]
        lines.append(
            {
                "latent_dim": first["latent_dim"],
                **{name: first[name] for name in SETTING},
                "labels": first["labels"],
                "freeze": first["freeze"],
                "pretraining": first["pretraining"],
                "arm": first["arm"],
                "test_accuracy": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "interval": interval.kind,
                "replicates": interval.n,
                "encoders": group["encoder_replicate"].nunique(),
                "cells": cell,
            }
        )
    order = [*SETTING, "latent_dim", "labels", "pretraining", "freeze"]
    return pd.DataFrame(lines).sort_values(order, ignore_index=True)


def pairs_of(rows: pd.DataFrame, first: str, second: str, keys: list[str]) -> pd.DataFrame:
    """Rows of arm `first` beside those of arm `second` with the same `keys` and label subset:
    columns end in `_1` and `_2`; `difference` is first − second, and `encoder` the replicate of
    the pretrained encoder, of whichever arm has one.

    Encoders of different d or pretraining share a replicate number only; it stands for the
    random seed.
    """
    rows = with_arms(rows)
    one, two = rows[rows["arm"] == first], rows[rows["arm"] == second]
    pairs = one.merge(two, on=[*keys, "label_subset"], suffixes=("_1", "_2"))
    own = pairs["encoder_cell_1"].notna()
    return pairs.assign(
        difference=pairs["test_accuracy_1"] - pairs["test_accuracy_2"],
        encoder=pairs["encoder_replicate_1"].where(own, pairs["encoder_replicate_2"]),
    )


def _difference_interval(differences: pd.DataFrame, pretrained: bool) -> Interval:
    """Over encoders and label subsets, or over label subsets alone where no arm has an encoder
    that others share."""
    if not pretrained:
        return mean_interval(differences["difference"])
    columns = (differences[name] for name in ("difference", "encoder", "label_subset"))
    return crossed_bootstrap(*columns)


def _pretrained(pairs: pd.DataFrame) -> bool:
    return bool(pairs[["encoder_cell_1", "encoder_cell_2"]].notna().to_numpy().any())


def differences(rows: pd.DataFrame, first: str = "fixed", second: str = "full") -> pd.DataFrame:
    """Paired differences of two arms, `first` − `second`, by d, labels, depth and batch size, on
    common seeds and label subsets.

    Columns `latent_dim`, `labels`, `depth`, `asked_batch_size`, `difference`, `low`, `high`, `p`
    (two-sided), `p_holm` (corrected for the number of lines), `probability` that `first` beats
    `second`, `interval`, `pairs`, `cells`.
    """
    keys = ["latent_dim", "labels", *SETTING]
    lines = []
    for values, pairs in pairs_of(rows, first, second, keys).groupby(keys):
        interval = _difference_interval(pairs, _pretrained(pairs))
        probability = probability_of_improvement(
            pairs["test_accuracy_1"],
            pairs["test_accuracy_2"],
            pairs["encoder"],
            pairs["label_subset"],
        )
        lines.append(
            {
                **dict(zip(keys, values, strict=True)),
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": interval.p_value(),
                "probability": probability.estimate,
                "interval": interval.kind,
                "pairs": interval.n,
                "cells": " ".join([pairs["cell_1"].iloc[0], pairs["cell_2"].iloc[0]]),
            }
        )
    return _corrected(lines)


def _corrected(lines: list[dict[str, object]]) -> pd.DataFrame:
    """The lines as a table, with `p_holm` after `p`."""
    table = pd.DataFrame(lines)
    if len(table):
        table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"]))
    return table


def overall_difference(
    rows: pd.DataFrame, first: str, second: str, labels: int | None = None
) -> Interval | None:
    """Paired difference of two arms, averaged over d (and over label counts, unless one is
    given) before resampling, since cells of one encoder and subset are not independent; at one
    setting of depth and batch size."""
    rows = at_one_setting(with_arms(rows))
    if labels is not None:
        rows = rows[rows["labels"] == labels]
    pairs = pairs_of(rows, first, second, ["latent_dim", "labels"])
    if pairs.empty:
        return None
    means = pairs.groupby(["encoder", "label_subset"])["difference"].mean().reset_index()
    return _difference_interval(means, _pretrained(pairs))


def against(rows: pd.DataFrame, reference: str = "fixed") -> pd.DataFrame:
    """Every other arm minus the reference, by labels, means over d at one setting of depth and
    batch size: paired differences.

    Columns `arm`, `reference`, `labels`, `difference`, `low`, `high`, `p`, `p_holm`, `interval`,
    `pairs`, `cells`; empty where the reference is not among the rows.
    """
    rows = at_one_setting(with_arms(rows))
    lines = []
    for arm in ordered(rows["arm"]):
        for labels in sorted(rows["labels"].unique()):
            interval = overall_difference(rows, arm, reference, int(labels))
            if arm == reference or interval is None:
                continue
            of_pair = rows[(rows["labels"] == labels) & rows["arm"].isin([arm, reference])]
            lines.append(
                {
                    "arm": arm,
                    "reference": reference,
                    "labels": labels,
                    "difference": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "p": interval.p_value(),
                    "interval": interval.kind,
                    "pairs": interval.n,
                    "cells": " ".join(sorted(set(of_pair["cell"]))),
                }
            )
    return _corrected(lines)


def best_classifier(rows: pd.DataFrame) -> pd.Series:
    """The row of the classifier with the best *validation* accuracy."""
    return rows.loc[rows["val_accuracy"].idxmax()]


def confusion(results: Results, row: pd.Series) -> np.ndarray:
    """Counts (10, 10) of test images by true digit (rows) and predicted digit (columns)."""
    predicted = results.predictions(row["cell"], [int(row["replicate"])])[0]
    return confusion_matrix(results.test_labels.numpy(), predicted, labels=range(CLASSES))
