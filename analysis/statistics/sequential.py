"""Tests and intervals that stay valid however often one looks, for a mean of unknown variance."""

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
"""`Interval.kind` of these."""


def log_e_value(values: ArrayLike, null: float = 0.0, scale: float = 1.0) -> float:
    """Logarithm of the evidence in `values` (n,) that their mean is not `null`.

    With xᵢ = valueᵢ − null, S = Σxᵢ, V = Σxᵢ² and c = `scale`:

        Mₙ = √(c²/(n + c²)) · (1 − S²/((n + c²)·V))^(−n/2)

    It is the likelihood ratio of normal values with effect size μ/σ ~ N(0, 1/c²) against μ = 0,
    with the right Haar prior on σ, and so an e-process: under mean `null`, whatever σ is, the
    chance that Mₙ ever reaches 1/α is at most α (Wang & Ramdas 2023, arXiv 2310.03722). Values have
    to be independent, and near enough to normal: docs/benchmarks.md has the error rates of
    others. 0 for fewer than two values, and where all equal `null`.
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
    """All means that `log_e_value` doesn't reject: intervals for n = 2, 3 … of which, with the
    stated confidence, every single one holds the true mean.

    With x̄ and Q = Σ(xᵢ − x̄)², and k = (α·√(c²/(n + c²)))^(2/n), they are x̄ ± the root of
    (1 − k)(n + c²)·Q / (n·(n − (1 − k)(n + c²))), and unbounded (NaN) while the last term isn't
    above 0.
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
    far, a p value that stays valid however often one looks, and never rises.
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
    """Whether the mean is known to lie within ± `matters`, for one of so many `comparisons`.

    By the intersection of all intervals of the path, at Bonferroni's level, so that looking often
    or at many comparisons adds no error.
    """
    known = path(values, 1 - LEVEL / comparisons).dropna()
    return bool(len(known) and known["low"].max() > -matters and known["high"].min() < matters)
