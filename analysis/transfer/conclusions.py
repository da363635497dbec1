"""Which arm is better, in sentences computed from the rows."""

from __future__ import annotations

import pandas as pd

from analysis.statistics import (
    verdict,
)
from analysis.transfer.accuracies import ARMS, CHANCE, best_classifier, overall_difference


def conclusions(rows: pd.DataFrame) -> list[str]:
    """Which arm is better, by how much, in sentences computed from the rows."""
    sentences = []
    best = best_classifier(rows)
    sentences.append(
        f"Best score: {100 * best['test_accuracy']:.1f} % of the test images, by the classifier "
        f"with the best validation accuracy ({ARMS.get(best['freeze'], best['freeze'])}, d = "
        f"{best['latent_dim']}, {best['labels']} labels)."
    )
    arms = set(rows["freeze"])
    basis = None
    for first, second in (("fixed", "full"), ("full", "scratch")):
        if not {first, second} <= arms:
            continue
        for labels in sorted(rows["labels"].unique()):
            interval = overall_difference(rows, first, second, int(labels))
            if interval is None:
                continue
            basis = interval
            one, two = ARMS[first], ARMS[second]
            sentences.append(
                verdict(
                    interval,
                    f"With {labels} labels “{one}” beats “{two}”: ",
                    f"With {labels} labels “{two}” beats “{one}”: ",
                    f"With {labels} labels it is undecided whether “{one}” or “{two}” is better: ",
                )
                + f"{interval.text(1, 100)} percentage points."
            )
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
