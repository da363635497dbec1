"""Which arm is better, in sentences computed from the rows."""

from __future__ import annotations

import pandas as pd

from analysis.statistics import (
    verdict,
)
from analysis.transfer.accuracies import (
    CHANCE,
    accuracy_interval,
    against,
    best_classifier,
    overall_difference,
)
from analysis.transfer.arms import name_of, ordered, with_arms

COMPARED = (("fixed", "full"), ("full", "scratch"))
"""The arms that the assignment asks about, each pair with a sentence a number of labels."""


def _against_reference(rows: pd.DataFrame, arms: list[str]) -> list[str]:
    """A sentence an arm: with how many labels it beats a plain, fixed encoder."""
    table = against(rows)
    sentences = []
    for arm, lines in table[table["arm"].isin(arms)].groupby("arm", sort=False):
        parts = []
        for _, line in lines.iterrows():
            if line["low"] > 0:
                word = "better"
            elif line["high"] < 0:
                word = "worse"
            else:
                word = "undecided"
            parts.append(
                f"{word} with {line['labels']} labels ({100 * line['difference']:+.1f} "
                f"[{100 * line['low']:+.1f}, {100 * line['high']:+.1f}])"
            )
        sentences.append(
            f"“{name_of(arm)}” against “{name_of('fixed')}”, in percentage points: "
            f"{', '.join(parts)}."
        )
    return sentences


def _best_arms(rows: pd.DataFrame) -> list[str]:
    """The arm with the best validation accuracy for each number of labels, in one sentence."""
    parts = []
    for labels, group in rows.groupby("labels"):
        cell = group.groupby("cell")["val_accuracy"].mean().idxmax()
        chosen = group[group["cell"] == cell]
        interval = accuracy_interval(chosen)
        parts.append(
            f"{labels} labels: {interval.text(1, 100)} % by “{name_of(chosen['arm'].iloc[0])}”"
        )
    return [f"Best arm by mean validation accuracy, its mean test accuracy: {'; '.join(parts)}."]


def conclusions(rows: pd.DataFrame) -> list[str]:
    """Which arm is better, by how much, in sentences computed from the rows."""
    rows = with_arms(rows)
    sentences = []
    best = best_classifier(rows)
    sentences.append(
        f"Best score: {100 * best['test_accuracy']:.1f} % of the test images, by the classifier "
        f"with the best validation accuracy ({name_of(best['arm'])}, d = "
        f"{best['latent_dim']}, {best['labels']} labels)."
    )
    arms = set(rows["arm"])
    basis = None
    for first, second in COMPARED:
        if not {first, second} <= arms:
            continue
        for labels in sorted(rows["labels"].unique()):
            interval = overall_difference(rows, first, second, int(labels))
            if interval is None:
                continue
            basis = interval
            one, two = name_of(first), name_of(second)
            sentences.append(
                verdict(
                    interval,
                    f"With {labels} labels “{one}” beats “{two}”: ",
                    f"With {labels} labels “{two}” beats “{one}”: ",
                    f"With {labels} labels it is undecided whether “{one}” or “{two}” is better: ",
                )
                + f"{interval.text(1, 100)} percentage points."
            )
    others = [arm for arm in ordered(arms) if arm not in {a for pair in COMPARED for a in pair}]
    if others:
        sentences += _against_reference(rows, others)
        sentences += _best_arms(rows)
    if basis:
        sentences.append(
            "These are means over d of differences on common label subsets and encoders; in "
            f"brackets: {basis.kind}, n = {basis.n} pairs."
        )
    chance = rows.groupby("cell")["test_accuracy"].mean()
    at_chance = int((chance < 1.5 * CHANCE).sum())
    if at_chance:
        sentences.append(
            f"Warning: {at_chance} of {len(chance)} cells are at chance level (below "
            f"{150 * CHANCE:.0f} %), which in this task means too little training or a bug."
        )
    return sentences
