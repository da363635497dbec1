"""What an arm is: a value of `freeze` with a value of `pretraining`, and what to call it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

WAYS = {
    "fixed": "encoder fixed",
    "full": "everything trained",
    "scratch": "not pretrained",
    "lp-ft": "probe, then tuned",
    "propagation": "labels propagated",
}
"""What figures call the values of `freeze`, in the order in which they are shown; one that isn't
here is called by its own name, and comes last."""

PLAIN = "plain"
JOINED = " + "
"""Between the two parts of the key of an arm that isn't plain."""


def with_arms(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `arm`, the key of each one's arm: its `freeze` alone where its `pretraining`
    is plain, as in results from before there was another; else both."""
    if "arm" in rows:
        return rows
    if "pretraining" not in rows:
        return rows.assign(pretraining=PLAIN, arm=rows["freeze"])
    pretraining = rows["pretraining"].fillna(PLAIN)
    both = rows["freeze"] + JOINED + pretraining
    return rows.assign(
        pretraining=pretraining, arm=rows["freeze"].where(pretraining == PLAIN, both)
    )


def split(arm: str) -> tuple[str, str]:
    """`freeze` and `pretraining` of an arm's key."""
    way, _, pretraining = arm.partition(JOINED)
    return way, pretraining or PLAIN


def name_of(arm: str) -> str:
    """What figures and sentences call an arm."""
    way, pretraining = split(arm)
    name = WAYS.get(way, way)
    return name if pretraining == PLAIN else f"{name}, {pretraining}"


def ordered(arms: Iterable[str]) -> list[str]:
    """Distinct arms in the order in which they are shown: plain ones first."""
    known = list(WAYS)

    def place(arm: str) -> tuple[bool, int]:
        way, pretraining = split(arm)
        return pretraining != PLAIN, known.index(way) if way in known else len(known)

    return sorted(dict.fromkeys(arms), key=place)
