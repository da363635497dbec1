"""Phrases that several captions share."""

import pandas as pd

from analysis.statistics import PERCENT

GIVEN = "for these test images and this split"
"""The fixed choices whose variation intervals over replicates leave out."""


STUDENT = f"{PERCENT} Student-t intervals over replicates"


def bars(kind: str, observations: int, word: str = "bars") -> str:
    """`bars are KIND`, or, of one observation, that there is no interval."""
    return f"{word} are {kind}" if observations > 1 else "one model each, so no interval"


def intervals(rows: pd.DataFrame) -> str:
    """The meaning of bars and dots, for rows of models."""
    return bars(f"{STUDENT}, dots the replicates", rows["replicate"].nunique())
