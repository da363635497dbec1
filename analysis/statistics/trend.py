"""The slope of one quantity over another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.statistics.interval import Interval, finite, kind_of, mean_interval, same_length


def trend(x: ArrayLike, y: ArrayLike, group: ArrayLike) -> Interval:
    """Interval for the slope of y over x: y's unit per unit of x. All arrays have shape (n,).

    A least-squares slope is fitted in each `group` (the replicate of each point), and the interval
    is Student's t over the groups' slopes: points of one replicate may depend on one another. A
    group with only one x has no slope and is left out; n counts the others. For a slope per
    doubling of d, pass log2(d) as x. Bounds are NaN for one group.

    Raises ValueError on lengths that differ, on NaN, and if every group has fewer than two
    different x.
    """
    abscissa, ordinate, labels = finite(x, "x"), finite(y, "y"), np.asarray(group)
    same_length(x=abscissa, y=ordinate, group=labels)
    members = [labels == label for label in np.unique(labels)]
    lines = [rows for rows in members if len(np.unique(abscissa[rows])) > 1]
    if not lines:
        found = np.unique(abscissa[members[0]]).tolist()
        raise ValueError(f"a slope needs two different x, got {found}")
    slopes = [stats.linregress(abscissa[rows], ordinate[rows]).slope for rows in lines]
    kind = kind_of("Student t over the slope of each group")
    return replace(mean_interval(slopes), kind=kind)
