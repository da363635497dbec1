"""The slope of one quantity over another."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.statistics.interval import (
    CONFIDENCE,
    FloatArray,
    Interval,
    check_confidence,
    finite,
    kind_of,
    mean_interval,
    same_length,
    student_interval,
)


def trend(
    x: ArrayLike, y: ArrayLike, group: ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Interval for the slope of y over x: y's unit per unit of x. All arrays have shape (n,).

    With `group` (the replicate of each point), a least-squares slope is fitted in each group, and
    the interval is Student's t over the groups' slopes: points of one replicate may depend on one
    another. A group with only one x has no slope and is left out; n counts the others. Without
    `group`, the points must be independent, and the interval is that of one least-squares line
    with n − 2 degrees of freedom. For a slope per doubling of d, pass log2(d) as x. Bounds are NaN
    for one group, or two points.

    Raises ValueError on lengths that differ, on NaN, and if x has fewer than two different values
    (in every group).
    """
    abscissa, ordinate = finite(x, "x"), finite(y, "y")
    same_length(x=abscissa, y=ordinate)
    if group is not None:
        labels = np.asarray(group)
        same_length(x=abscissa, group=labels)
        members = [labels == label for label in np.unique(labels)]
        lines = [rows for rows in members if len(np.unique(abscissa[rows])) > 1] or members
        slopes = [_slope(abscissa[rows], ordinate[rows])[0] for rows in lines]
        kind = kind_of(confidence, "Student t over the slope of each group")
        return replace(mean_interval(slopes, confidence), kind=kind)
    check_confidence(confidence)
    slope, standard_error = _slope(abscissa, ordinate)
    n, method = len(abscissa), "Student t of a least-squares slope"
    if n == 2:
        return Interval(slope, math.nan, math.nan, n, kind_of(confidence, method))
    return student_interval(slope, standard_error, n - 2, n, confidence, method)


def _slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    if len(np.unique(x)) < 2:
        raise ValueError(f"a slope needs two different x, got {np.unique(x).tolist()}")
    line = stats.linregress(x, y)
    return float(line.slope), float(line.stderr)
