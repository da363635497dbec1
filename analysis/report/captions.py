"""Words that several captions share."""

import pandas as pd

from analysis.statistics import PERCENT

GIVEN = "for these test images and this split"
"""Variation that intervals over replicates leave out."""


STUDENT = f"{PERCENT} Student-t intervals over replicates"


def bars(kind: str, observations: int, word: str = "bars") -> str:
    """`bars are 95 % intervals`, of this kind; one observation alone has none."""
    return f"{word} are {kind}" if observations > 1 else "one model each, so no interval"


def intervals(rows: pd.DataFrame) -> str:
    """The meaning of bars and dots, for rows of models."""
    return bars(f"{STUDENT}, dots the replicates", rows["replicate"].nunique())
