"""Accuracies of cells and arms: means, intervals, paired differences, and target accuracies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from analysis.results import Results
from analysis.selection import best_setting
from analysis.statistics import (
    Interval,
    crossed_bootstrap,
    holm_table,
    mean_interval,
    negligible,
    sequential_interval,
    sequential_p_value,
)
from analysis.transfer.arms import SETTING, at_one_setting, name_of, ordered
from study.errors import StoreError
from study.words import brief

ASSIGNED_ARM = "full"
"""The arm that the assignment asks to compare with `fixed`. Holm's correction treats its
comparisons as a family of their own, so that further arms don't reduce their power."""

BEST_ARM = {10: 0.97, 20: 0.98, 40: 0.985, 80: 0.987, 160: 0.989}

TARGETS = {
    "fixed": {20: 0.65, 40: 0.74, 80: 0.81, 160: 0.86},
    "lp-ft + augmented": {20: 0.78, 40: 0.86, 80: 0.91, 160: 0.94},
    "propagation": {20: 0.92, 40: 0.945, 80: 0.955, 160: 0.965},
    "propagation + augmented": BEST_ARM,
    "propagation + contrastive": BEST_ARM,
    "consistency + contrastive": BEST_ARM,
    "supervised + augmented": {20: 0.827, 40: 0.912, 80: 0.95, 160: 0.968},
}
"""Test accuracy that the study set out to reach on all of MNIST, by arm and number of labels."""


def accuracy_interval(group: pd.DataFrame, metric: str = "test_accuracy") -> Interval:
    """Interval of a mean accuracy, 0 to 1, over replicates: see `over_replicates`."""
    pretrained = bool(group["encoder_cell"].notna().any())
    encoders = group["encoder_replicate"] if pretrained else group["label_subset"]
    return over_replicates(group[metric], encoders, group["label_subset"]).within(0, 1)


def over_replicates(values: pd.Series, encoders: pd.Series, subsets: pd.Series) -> Interval:
    """Interval of the mean of `values` (n,) over encoders and label subsets.

    It is Student's t if every replicate has its own encoder and its own label subset, and so is
    independent of the others; else the crossed bootstrap.
    """
    if encoders.is_unique and subsets.is_unique:
        return mean_interval(values)
    return crossed_bootstrap(values, encoders, subsets)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: mean test accuracy (a fraction) with its interval.

    Columns `latent_dim`, `depth`, `asked_batch_size`, `labels`, `freeze`, `pretraining`, `arm`,
    `test_accuracy`, `low`, `high`, `interval`, `replicates`, `encoders`, `cells`.
    """
    place = ["latent_dim", *SETTING, "labels", "freeze", "pretraining", "arm"]
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = accuracy_interval(group)
        first = group.iloc[0]
        lines.append(
            {
                **{name: first[name] for name in place},
                **interval.columns("test_accuracy", "replicates"),
                "encoders": group["encoder_replicate"].nunique(),
                "cells": cell,
            }
        )
    order = [*SETTING, "latent_dim", "labels", "pretraining", "freeze"]
    return pd.DataFrame(lines).sort_values(order, ignore_index=True)


def pairs_of(rows: pd.DataFrame, first: str, second: str, keys: list[str]) -> pd.DataFrame:
    """Pair the rows of arm `first` with those of arm `second` by `keys` and label subset.

    The arms' columns end in `_1` and `_2`. `difference` is first − second. `encoder` is the
    replicate of the pretrained encoder of `first`, else of `second`, else the label subset.

    Encoders of different d or pretraining share only a replicate number, which stands for the
    random seed. The supervised network has no d, so each of its rows is paired with every d.

    Raises `StoreError` if a pair of encoder and label subset occurs twice.
    """
    one, two = rows[rows["arm"] == first], rows[rows["arm"] == second]
    common = [key for key in keys if one[key].notna().all() and two[key].notna().all()]
    pairs = one.merge(two, on=[*common, "label_subset"], suffixes=("_1", "_2"))
    for key in set(keys) - set(common):  # the supervised network is the same for every d
        pairs[key] = pairs[f"{key}_1"].fillna(pairs[f"{key}_2"])
    encoder = pairs["label_subset"]
    for side in ("_2", "_1"):
        pretrained = pairs[f"encoder_cell{side}"].notna()
        encoder = pairs[f"encoder_replicate{side}"].where(pretrained, encoder)
    pairs = pairs.assign(
        difference=pairs["test_accuracy_1"] - pairs["test_accuracy_2"], encoder=encoder
    )
    require_distinct(pairs, [*keys, "encoder", "label_subset"], ["cell_1", "cell_2"])
    return pairs


def require_distinct(pairs: pd.DataFrame, keys: list[str], cells: list[str]) -> None:
    """Raise `StoreError` if two pairs have the same `keys`; it names their values of `cells`."""
    repeated = pairs[pairs.duplicated(keys, keep=False)]
    if len(repeated):
        names = sorted(set(repeated[cells].to_numpy().ravel()))
        raise StoreError(
            f"cells {brief(names)}: some share their arm and setting, so a pair of encoder and "
            "label subset occurs twice; a comparison needs one cell per arm and setting"
        )


def _difference_interval(pairs: pd.DataFrame) -> Interval:
    return over_replicates(*(pairs[name] for name in ("difference", "encoder", "label_subset")))


def differences(rows: pd.DataFrame, first: str = "fixed", second: str = "full") -> pd.DataFrame:
    """Paired differences of two arms, `first` − `second`, by d, labels, depth and batch size.

    Pairs share their seed and label subset. Columns `latent_dim`, `labels`, `depth`,
    `asked_batch_size`, `difference`, `low`, `high`, `p` (two-sided), `p_holm` (corrected for the
    number of rows), `probability` that `first` beats `second` (a tie counts half; Agarwal et al.
    2021, "Deep RL at the edge of the statistical precipice", NeurIPS), `interval`, `pairs`,
    `cells`.
    """
    keys = ["latent_dim", "labels", *SETTING]
    lines = []
    for values, pairs in pairs_of(rows, first, second, keys).groupby(keys):
        interval = _difference_interval(pairs)
        lines.append(
            {
                **dict(zip(keys, values, strict=True)),
                **interval.columns("difference", "pairs"),
                "p": interval.p_value(),
                "probability": float(np.heaviside(pairs["difference"], 0.5).mean()),
                "cells": " ".join([pairs["cell_1"].iloc[0], pairs["cell_2"].iloc[0]]),
            }
        )
    return holm_table(lines)


def differences_by_labels(
    rows: pd.DataFrame, first: str, second: str
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Paired differences of two arms for each number of labels, in ascending order.

    Cells of one encoder and label subset are not independent, so differences are means over d:
    columns `encoder`, `label_subset`, `difference`. `rows` are of one setting of depth and batch
    size.
    """
    for labels, pairs in pairs_of(rows, first, second, ["latent_dim", "labels"]).groupby("labels"):
        yield labels, _means_over_dimension(pairs)


def _means_over_dimension(pairs: pd.DataFrame) -> pd.DataFrame:
    groups = pairs.groupby(["label_subset", "encoder"])["difference"]
    # Means over fewer cells than the others are not comparable.
    complete = groups.size() == groups.size().max()
    return groups.mean()[complete].reset_index()


def against(
    rows: pd.DataFrame, reference: str = "fixed", negligible_below: float | None = None
) -> pd.DataFrame:
    """Paired differences of every other arm minus the reference, by labels.

    The differences are means over d, at one setting of depth and batch size. Columns `arm`,
    `reference`, `labels`, `difference`, `low`, `high`, `p`, `p_holm`, `interval`, `pairs`,
    `negligible`, `cells`; empty if the reference is not among the rows.

    With `negligible_below`, a fraction, intervals and p values are anytime-valid (valid however
    often one looks), and `negligible` says whether the difference is known to be smaller.
    """
    rows = at_one_setting(rows)
    lines = []
    for arm in ordered(rows["arm"]):
        if arm == reference:
            continue
        for labels, means in differences_by_labels(rows, arm, reference):
            if negligible_below is None:
                interval = _difference_interval(means)
                p, small = interval.p_value(), False
            else:
                values = means["difference"]
                interval, p = sequential_interval(values), sequential_p_value(values)
                small = negligible(values, negligible_below, rows["labels"].nunique())
            of_pair = rows[(rows["labels"] == labels) & rows["arm"].isin([arm, reference])]
            lines.append(
                {
                    "arm": arm,
                    "reference": reference,
                    "labels": labels,
                    **interval.columns("difference", "pairs"),
                    "p": p,
                    "negligible": small,
                    "cells": " ".join(sorted(set(of_pair["cell"]))),
                }
            )
    asked = [line for line in lines if line["arm"] == ASSIGNED_ARM]
    others = [line for line in lines if line["arm"] != ASSIGNED_ARM]
    tables = [holm_table(part) for part in (asked, others) if part]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def target_verdict(low: float, high: float, target: float) -> str:
    """Return "met", "not met" or "undecided" for an interval; empty without a target."""
    if math.isnan(target) or math.isnan(low) or math.isnan(high):
        return "" if math.isnan(target) else "undecided"
    if low >= target:
        return "met"
    return "not met" if high < target else "undecided"


def arms_table(rows: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """One row per arm and number of labels, at the arm's best d, depth and batch size.

    Best is the highest mean validation accuracy; settings that lack numbers of labels are left out.

    Columns `arm`, `name`, `labels`, `latent_dim`, `depth`, `asked_batch_size`, `test_accuracy`,
    `low`, `high`, `n` (classifiers), `target`, `verdict`, `interval`, `cells`; accuracies are
    fractions. Only the dataset `mnist` has targets.
    """
    lines = []
    for arm in ordered(rows["arm"]):
        mine = rows[rows["arm"] == arm]
        where = ["latent_dim", *SETTING]
        # The supervised network has no latent dimension and no depth.
        mine = mine.assign(**{name: mine[name].fillna(0) for name in where})
        chosen = best_setting(mine, where, "labels", "val_accuracy")
        best = mine[(mine[where] == list(chosen)).all(axis=1)]
        for labels, group in best.groupby("labels"):
            interval = accuracy_interval(group)
            targets = TARGETS.get(arm, {}) if dataset == "mnist" else {}
            target = targets.get(int(labels), math.nan)
            lines.append(
                {
                    "arm": arm,
                    "name": name_of(arm),
                    "labels": labels,
                    **dict(zip(where, chosen, strict=True)),
                    **interval.columns("test_accuracy", "n"),
                    "target": target,
                    "verdict": target_verdict(interval.low, interval.high, target),
                    "cells": " ".join(sorted(set(group["cell"]))),
                }
            )
    return pd.DataFrame(lines)


def target_sentence(table: pd.DataFrame) -> list[str]:
    """Say how many of the targets are met: one sentence, or none without targets."""
    counts = table[table["target"].notna()]["verdict"].value_counts()
    if counts.empty:
        return []
    parts = [f"{counts.get(v, 0)} {v}" for v in ("met", "not met", "undecided")]
    return [f"Of {counts.sum()} target accuracies, judged by the interval: {', '.join(parts)}."]


def in_points(line: pd.Series) -> str:
    """Format the difference of a line of comparisons in percentage points with its interval."""
    interval = Interval(*line[["difference", "low", "high", "pairs", "interval"]])
    return interval.text(1, 100, signed=True)


def best_classifier(rows: pd.DataFrame) -> pd.Series:
    """The row of the classifier with the best *validation* accuracy."""
    return rows.loc[rows["val_accuracy"].idxmax()]


def confusion(results: Results, row: pd.Series) -> np.ndarray:
    """Counts (K, K) of test images by true class (rows) and predicted class (columns)."""
    predicted = results.predictions(row["cell"], [int(row["replicate"])])[0]
    return confusion_matrix(
        results.test_labels.numpy(), predicted, labels=range(len(results.classes))
    )
