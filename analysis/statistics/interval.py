"""An estimate with its bounds, Student's t intervals for means and slopes, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.95
"""The confidence of every interval of the report."""

PERCENT = f"{100 * CONFIDENCE:g} %"
"""`CONFIDENCE` in words."""

LEVEL = round(1 - CONFIDENCE, 12)
"""A p value below it, after Holm's correction if there are several, counts as a difference."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds and its method."""

    estimate: float
    """The point estimate, in the unit of the values."""
    low: float
    """Lower bound; NaN if the data do not determine one."""
    high: float
    """Upper bound; NaN if the data do not determine one."""
    n: int
    """Number of observations, pairs or groups behind the estimate."""
    kind: str
    """The confidence and the method, as worded in captions."""
    standard_error: float = math.nan
    """Standard error behind the bounds; NaN for an interval that is not `estimate ± t·SE`."""
    degrees_of_freedom: float = math.nan
    """Degrees of freedom of that t; NaN if `standard_error` is NaN."""

    @property
    def bounded(self) -> bool:
        """True if the data determined both bounds."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def excludes(self, value: float) -> bool:
        """Return whether `value` lies outside the interval; False without bounds."""
        return self.bounded and not self.low <= value <= self.high

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p value of `estimate = null`, from the t distribution that gave the bounds.

        It is below 1 − confidence exactly when the interval excludes `null`. NaN if it has no
        standard error (one observation, `sequential_interval`).
        """
        if math.isnan(self.standard_error):
            return math.nan
        distance = abs(self.estimate - null)
        if self.standard_error == 0:
            return 1.0 if distance == 0 else 0.0
        return float(2 * stats.t.sf(distance / self.standard_error, self.degrees_of_freedom))

    def text(
        self, digits: int = 3, scale: float = 1.0, unit: str = "", signed: bool = False
    ) -> str:
        """Format as `estimate unit [low, high]`, times `scale` (100 for per cent).

        Numbers have `digits` decimals and, if `signed`, a + unless negative. Without bounds the
        text is `estimate unit (n = 1, no interval)`; without an estimate, `no value (n = 0)`.
        """
        if math.isnan(self.estimate):
            return f"no value (n = {self.n})"
        form = f"{'+' if signed else ''}.{digits}f"
        estimate = f"{scale * self.estimate:{form}}{unit}"
        if not self.bounded:
            return f"{estimate} (n = {self.n}, no interval)"
        return f"{estimate} [{scale * self.low:{form}}, {scale * self.high:{form}}]"

    def basis(self, also: str = "") -> str:
        """The words after `text` in a sentence: ` (kind, also, n = 4)`.

        Empty without bounds: `text` then already has the n.
        """
        if not self.bounded:
            return ""
        return f" ({', '.join(filter(None, [self.kind, also]))}, n = {self.n})"

    def columns(self, estimate: str, n: str) -> dict[str, Any]:
        """Columns of a table: estimate and n under these names, `low`, `high` and `interval`."""
        bounds = {estimate: self.estimate, "low": self.low, "high": self.high}
        return {**bounds, n: self.n, "interval": self.kind}

    def within(self, least: float, most: float = math.inf) -> Interval:
        """The interval, cut off at the least and the most that the quantity can be.

        With few observations, the bounds of a mean accuracy can be below 0 or above 1.
        """
        low, high = (float(np.clip(bound, least, most)) for bound in (self.low, self.high))
        return replace(self, low=low, high=high)

    def mapped(self, function: Callable[[float], float]) -> Interval:
        """The interval of an increasing function of the quantity."""
        estimate, low, high = map(function, (self.estimate, self.low, self.high))
        return Interval(estimate, low, high, self.n, self.kind)


def mean_interval(values: ArrayLike) -> Interval:
    """Student's t interval for the mean of independent `values`, shape (n,).

    With one value, the bounds are NaN. Raises ValueError on no values, and on NaN or infinity.
    """
    sample = finite(values, "values")
    n = len(sample)
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n, kind_of("Student t"))
    standard_error = float(sample.std(ddof=1)) / math.sqrt(n)
    return student_interval(mean, standard_error, n - 1, n, "Student t")


def finite_mean(values: ArrayLike) -> Interval:
    """`mean_interval` of the finite `values`, shape (n,).

    A collapsed code has a NaN or infinite correlation; the mean of the others is still useful. The
    `n` of the result counts the finite values; the caller reports how many are left out. If none
    is finite, n is 0, and estimate and bounds are NaN.
    """
    sample = np.asarray(values, dtype=np.float64)
    known = sample[np.isfinite(sample)]
    if len(known):
        return mean_interval(known)
    return Interval(math.nan, math.nan, math.nan, 0, kind_of("Student t"))


def independent_difference(a: Interval, b: Interval) -> Interval:
    """Interval for a − b of two independent estimates, each with a standard error.

    Student's t with Welch and Satterthwaite's degrees of freedom (Welch 1947, Biometrika 34(1/2),
    28-35). For two results of `mean_interval` it is Welch's interval. `n` is the sum of both.
    Bounds are NaN if one of the two has no standard error.
    """
    methods = list(dict.fromkeys(side.kind.partition(" % ")[2] for side in (a, b)))
    of_others = "" if methods == ["Student t"] else f" of {' and '.join(methods)}"
    estimate, n, method = a.estimate - b.estimate, a.n + b.n, f"Welch t{of_others}"
    if math.isnan(a.standard_error) or math.isnan(b.standard_error):
        return Interval(estimate, math.nan, math.nan, n, kind_of(method))
    variances = a.standard_error**2, b.standard_error**2
    freedoms = a.degrees_of_freedom, b.degrees_of_freedom
    denominator = sum(v**2 / freedom for v, freedom in zip(variances, freedoms, strict=True))
    freedom = sum(variances) ** 2 / denominator if denominator else min(freedoms)
    return student_interval(estimate, math.sqrt(sum(variances)), freedom, n, method)


def verdict(interval: Interval, positive: str, negative: str, undecided: str) -> str:
    """The sentence that the interval supports: above 0, below 0, or neither.

    It is `undecided` if the interval includes 0 (its ends included) or has no bounds.
    """
    if not interval.excludes(0):
        return undecided
    return positive if interval.low > 0 else negative


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Holm's adjusted p values, shape (m,), in the order given.

    Step-down Bonferroni: the i-th smallest is multiplied by m − i + 1, made monotone, capped at 1.
    It bounds the chance of any false finding under any dependence (Holm 1979, Scandinavian
    Journal of Statistics 6(2), 65-70). A NaN is a comparison that could not be tested: it stays
    NaN and does not count in m.
    """
    p = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    ascending = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(p.shape, math.nan)
    multiplied = p[ascending] * np.arange(len(ascending), 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(multiplied), 1.0)
    return adjusted


def holm_table(lines: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """One family of comparisons as a table, with the column `p_holm` after `p`."""
    table = pd.DataFrame(lines)
    if len(table):
        table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"].to_numpy(float)))
    return table


def trend(x: ArrayLike, y: ArrayLike, group: ArrayLike) -> Interval:
    """Interval for the slope of y over x: y's unit per unit of x. All arrays have shape (n,).

    A least-squares slope is fitted in each `group` (the replicate of each point), and the interval
    is Student's t over the groups' slopes: points of one replicate may depend on one another. A
    group with only one x has no slope and is left out; n counts the others. For a slope per
    doubling of d, pass log2(d) as x. Bounds are NaN for one group.

    Raises ValueError on NaN, and if every group has fewer than two different x.
    """
    abscissa, ordinate, labels = finite(x, "x"), finite(y, "y"), np.asarray(group)
    members = [labels == label for label in np.unique(labels)]
    lines = [rows for rows in members if len(np.unique(abscissa[rows])) > 1]
    if not lines:
        found = np.unique(abscissa[members[0]]).tolist()
        raise ValueError(f"a slope needs two different x, got {found}")
    slopes = [stats.linregress(abscissa[rows], ordinate[rows]).slope for rows in lines]
    kind = kind_of("Student t over the slope of each group")
    return replace(mean_interval(slopes), kind=kind)


def finite(values: ArrayLike, name: str) -> FloatArray:
    """`values` as floats of shape (n,).

    Raises ValueError on another shape, on no values, and on NaN or infinity.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty array of shape (n,), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {int((~np.isfinite(array)).sum())} NaN or infinite entries")
    return array


def kind_of(method: str, confidence: float = CONFIDENCE) -> str:
    """The text of `Interval.kind`, such as `95 % Student t`."""
    return f"{100 * confidence:g} % {method}"


def unadjusted(kind: str) -> str:
    """Name an interval of this kind next to a p value corrected for several comparisons.

    The interval is for one comparison only.
    """
    level, percent, method = kind.partition(" % ")
    return f"unadjusted {level}{percent}interval, {method}"


def student_interval(
    estimate: float, standard_error: float, freedom: float, n: int, method: str
) -> Interval:
    """The interval `estimate` ± t times its standard error."""
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * standard_error
    low, high = estimate - reach, estimate + reach
    return Interval(estimate, low, high, n, kind_of(method), standard_error, freedom)
