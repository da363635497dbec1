"""The terms of a report, and their explanations on a page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from analysis.statistics import LEVEL, PERCENT

WORDS = {
    "arm": "One way to use the labelled images: encoder fixed, everything trained, not pretrained, "
    "a supervised network, …",
    "bootstrap": "An interval from resampling the data with replacement, here of encoders and "
    "label subsets at once.",
    "cell": "One complete setting of all hyperparameters. Its id is a hash of everything its "
    "results depend on.",
    "d": "The latent dimension: how many numbers the code of an image has.",
    "effective rank": "exp of the entropy of the normalised eigenvalues of the correlation matrix: "
    "how many directions the codes use.",
    "Holm": "A correction of p values for the number of comparisons, so that the chance of even "
    f"one false claim among them stays at {100 * LEVEL:g} %.",
    "interval": f"{PERCENT} confidence interval: what it varies over is in each caption.",
    "labels": "The number of labelled images that a classifier learns from.",
    "paired": "Compared on the same seeds, encoders and label subsets, so that what they share "
    "cancels out.",
    "replicate": "One trained model of a cell, with its own seeds for initialisation, order of the "
    "data and label subset.",
    "total correlation": "How much all coordinates of a code together repeat one another, in nats; "
    "0 where they are independent.",
    "undecided": "The data are compatible with either sign: the p value, corrected for the number "
    f"of comparisons, is {LEVEL:g} or more.",
    "Wilson": "An interval of a share, here of test images that one model gets right.",
}
"""The meaning of each term. Statistical terms are explained by their use to a reader."""

_PATTERN = re.compile(
    r"\b(" + "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True)) + r")\b"
)


class Part(NamedTuple):
    """A piece of a sentence."""

    text: str
    meaning: str
    """Explanation to show; empty if none."""


def explained(sentences: Iterable[str]) -> list[list[Part]]:
    """Split sentences into parts, so that each of `WORDS` is explained at its first occurrence."""
    seen: set[str] = set()
    cut = []
    for sentence in sentences:
        parts = []
        for index, text in enumerate(_PATTERN.split(sentence)):
            new = index % 2 == 1 and text not in seen
            if new:
                seen.add(text)
            parts.append(Part(text, WORDS[text] if new else ""))
        cut.append(parts)
    return cut
