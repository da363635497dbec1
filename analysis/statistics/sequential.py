"""Anytime-valid tests and intervals for a mean of unknown variance: valid at every look."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.statistics.interval import CONFIDENCE, LEVEL, Interval, finite, kind_of

METHOD = "anytime-valid"
"""The method in `Interval.kind`."""


def log_e_value(values: ArrayLike) -> float:
    """Logarithm of the evidence of `values` (n,) against mean 0.

    With S = Σxᵢ and V = Σxᵢ² of the values xᵢ:

        Mₙ = √(1/(n + 1)) · (1 − S²/((n + 1)·V))^(−n/2)

    It is the likelihood ratio of normal values with effect size μ/σ ~ N(0, 1) against μ = 0,
    with the right Haar prior on σ, and so an e-process: under mean 0, for every σ, the chance
    that Mₙ ever reaches 1/α is at most α (Wang & Ramdas 2023, arXiv 2310.03722, with c = 1).
    Values must be independent and nearly normal; docs/benchmarks.md has the error rates for other
    values. 0 for fewer than two values, and if all are 0.
    """
    x = finite(values, "values")
    n = len(x)
    if n < 2 or not x.any():
        return 0.0
    x = x / np.abs(x).max()  # so that no square underflows
    share = x.sum() ** 2 / ((n + 1) * (x**2).sum())
    return 0.5 * math.log(1 / (n + 1)) - n / 2 * math.log1p(-share)


def sequential_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Interval of all means that `log_e_value` of the deviations from them doesn't reject.

    With the stated confidence, the intervals for n = 2, 3 … all contain the true mean.

    With x̄, Q = Σ(xᵢ − x̄)² and k = (α·√(1/(n + 1)))^(2/n), the interval is x̄ ± the root of
    (1 − k)(n + 1)·Q / (n·(n − (1 − k)(n + 1))). It is unbounded (NaN) while the denominator is
    not positive, and for n = 1.
    """
    x = finite(values, "values")
    n, mean = len(x), float(x.mean())
    kind = kind_of(METHOD, confidence)
    k = ((1 - confidence) * math.sqrt(1 / (n + 1))) ** (2 / n)
    rejected = (1 - k) * (n + 1)
    if n < 2 or rejected >= n:
        return Interval(mean, math.nan, math.nan, n, kind)
    sum_of_squares = float(((x - mean) ** 2).sum())
    reach = math.sqrt(rejected * sum_of_squares / (n * (n - rejected)))
    return Interval(mean, mean - reach, mean + reach, n, kind)


def confidence_sequence(values: ArrayLike, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """The interval after each of `values` (n,), in their order.

    Columns `n`, `estimate`, `low`, `high` (of `sequential_interval`), and `p`: the least 1/Mᵢ so
    far, but at most 1. It is a p value that is valid at every look and never rises.
    """
    x = finite(values, "values")
    lines, p = [], 1.0
    for n in range(1, len(x) + 1):
        interval = sequential_interval(x[:n], confidence)
        p = min(p, math.exp(-log_e_value(x[:n])))
        lines.append((n, interval.estimate, interval.low, interval.high, p))
    return pd.DataFrame(lines, columns=["n", "estimate", "low", "high", "p"])


def sequential_p_value(values: ArrayLike) -> float:
    """The p value of mean 0 at the end of `confidence_sequence`; NaN for fewer than two values."""
    x = finite(values, "values")
    return float(confidence_sequence(x)["p"].iloc[-1]) if len(x) > 1 else math.nan


def negligible(values: ArrayLike, negligible_below: float, comparisons: int = 1) -> bool:
    """Return whether the mean is known to lie within ± `negligible_below`.

    This is judged by the intersection of all intervals of the confidence sequence, at Bonferroni's
    level for the number of `comparisons`, so that neither many looks nor many comparisons add
    error.
    """
    known = confidence_sequence(values, 1 - LEVEL / comparisons)
    low, high = known["low"].max(), known["high"].min()  # NaN if no interval is bounded
    return bool(-negligible_below < low and high < negligible_below)
