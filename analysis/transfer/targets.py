"""All arms in one table, with their target accuracies."""

from __future__ import annotations

import math

import pandas as pd

from analysis.selection import best_setting
from analysis.transfer.accuracies import accuracy_interval
from analysis.transfer.arms import SETTING, name_of, ordered

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


def judged(low: float, high: float, target: float) -> str:
    """Return "met", "not met" or "undecided" for a 95 % interval; empty without a target."""
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
                    **interval.columns("test_accuracy"),
                    "n": interval.n,
                    "target": target,
                    "verdict": judged(interval.low, interval.high, target),
                    "interval": interval.kind,
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
