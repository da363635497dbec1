"""Anytime-valid tests and intervals for a mean of unknown variance: valid at every look."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.statistics.interval import (
    CONFIDENCE,
    LEVEL,
    Interval,
    check_confidence,
    finite,
    kind_of,
)

METHOD = "anytime-valid"
"""The method in `Interval.kind`."""


def log_e_value(values: ArrayLike, null: float = 0.0, scale: float = 1.0) -> float:
    """Logarithm of the evidence of `values` (n,) against mean `null`.

    With xᵢ = valueᵢ − null, S = Σxᵢ, V = Σxᵢ² and c = `scale`:

        Mₙ = √(c²/(n + c²)) · (1 − S²/((n + c²)·V))^(−n/2)

    It is the likelihood ratio of normal values with effect size μ/σ ~ N(0, 1/c²) against μ = 0,
    with the right Haar prior on σ, and so an e-process: under mean `null`, for every σ, the
    chance that Mₙ ever reaches 1/α is at most α (Wang & Ramdas 2023, arXiv 2310.03722). Values
    must be independent and nearly normal; docs/benchmarks.md has the error rates for other values.
    0 for fewer than two values, and if all equal `null`.
    """
    x = finite(values, "values") - null
    n, square = len(x), scale**2
    if n < 2 or not x.any():
        return 0.0
    x = x / np.abs(x).max()  # so that no square underflows
    share = x.sum() ** 2 / ((n + square) * (x**2).sum())
    return 0.5 * math.log(square / (n + square)) - n / 2 * math.log1p(-share)


def sequential_interval(
    values: ArrayLike, confidence: float = CONFIDENCE, scale: float = 1.0
) -> Interval:
    """Interval of all means that `log_e_value` doesn't reject.

    With the stated confidence, the intervals for n = 2, 3 … all contain the true mean.

    With x̄, Q = Σ(xᵢ − x̄)² and k = (α·√(c²/(n + c²)))^(2/n), the interval is x̄ ± the root of
    (1 − k)(n + c²)·Q / (n·(n − (1 − k)(n + c²))). It is unbounded (NaN) while the denominator is
    not positive, and for n = 1.
    """
    check_confidence(confidence)
    x = finite(values, "values")
    n, square, mean = len(x), scale**2, float(x.mean())
    kind = kind_of(confidence, METHOD)
    k = ((1 - confidence) * math.sqrt(square / (n + square))) ** (2 / n)
    rejected = (1 - k) * (n + square)
    if n < 2 or rejected >= n:
        return Interval(mean, math.nan, math.nan, n, kind)
    spread = float(((x - mean) ** 2).sum())
    reach = math.sqrt(rejected * spread / (n * (n - rejected)))
    return Interval(mean, mean - reach, mean + reach, n, kind)


def path(values: ArrayLike, confidence: float = CONFIDENCE) -> pd.DataFrame:
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
    """The p value of mean 0 at the end of `path`; NaN for fewer than two values."""
    x = finite(values, "values")
    return float(path(x)["p"].iloc[-1]) if len(x) > 1 else math.nan


def negligible(values: ArrayLike, matters: float, comparisons: int = 1) -> bool:
    """Return whether the mean is known to lie within ± `matters`.

    This is judged by the intersection of all intervals of the path, at Bonferroni's level for the
    number of `comparisons`, so that neither many looks nor many comparisons add error.
    """
    known = path(values, 1 - LEVEL / comparisons).dropna()
    return bool(len(known) and known["low"].max() > -matters and known["high"].min() < matters)
