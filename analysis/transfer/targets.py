"""All arms in one table, beside what they were to reach."""

from __future__ import annotations

import math

import pandas as pd

from analysis.selection import best_setting
from analysis.transfer.accuracies import accuracy_interval
from analysis.transfer.arms import SETTING, name_of, ordered, with_arms

AUGMENTED_TUNED = {20: 0.78, 40: 0.86, 80: 0.91, 160: 0.94}
PROPAGATED = {20: 0.92, 40: 0.945, 80: 0.955, 160: 0.965}
BEST_ARM = {10: 0.97, 20: 0.98, 40: 0.985, 80: 0.987, 160: 0.989}

TARGETS = {
    "fixed": {20: 0.65, 40: 0.74, 80: 0.81, 160: 0.86},
    "lp-ft + augmented": AUGMENTED_TUNED,
    "propagation": PROPAGATED,
    "propagation + augmented": BEST_ARM,
    "propagation + contrastive": BEST_ARM,
    "consistency + contrastive": BEST_ARM,
    "supervised + augmented": {20: 0.827, 40: 0.912, 80: 0.95, 160: 0.968},
}
"""By arm and number of labels: the test accuracy that the study set out to reach on all of
MNIST."""


def judged(low: float, high: float, target: float) -> str:
    """Whether a 95 % interval says that a target is met."""
    if math.isnan(target) or math.isnan(low) or math.isnan(high):
        return "" if math.isnan(target) else "undecided"
    if low >= target:
        return "met"
    return "not met" if high < target else "undecided"


def arms_table(rows: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """One line an arm and number of labels, at the d, depth and batch size with that arm's best
    mean validation accuracy, of those that have all the numbers of labels.

    Columns `arm`, `name`, `labels`, `latent_dim`, `depth`, `asked_batch_size`, `test_accuracy`,
    `low`, `high`, `n` (classifiers), `target`, `verdict`, `interval`, `cells`; accuracies are
    fractions. Targets are for the dataset `mnist` alone.
    """
    rows = with_arms(rows)
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
                    "test_accuracy": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "n": interval.n,
                    "target": target,
                    "verdict": judged(interval.low, interval.high, target),
                    "interval": interval.kind,
                    "cells": " ".join(sorted(set(group["cell"]))),
                }
            )
    return pd.DataFrame(lines)


def target_sentence(table: pd.DataFrame) -> list[str]:
    """How many of the targets are met, where there are any: none or one sentence."""
    counts = table[table["target"].notna()]["verdict"].value_counts()
    if counts.empty:
        return []
    parts = [f"{counts.get(v, 0)} {v}" for v in ("met", "not met", "undecided")]
    return [f"Of {counts.sum()} target accuracies, judged by the interval: {', '.join(parts)}."]
