"""Samples of a quantity, their statistics, and lines of the table. No torch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one quantity."""

    values: tuple[float, ...]
    """Values in the order in which they were taken."""

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The median: the middle value, or the mean of the two in the middle."""
        return statistics.median(self.values)

    def ratios_to(self, other: Sample) -> Sample:
        """Ratios to `other`, value by value: both samples were taken in turns."""
        pairs = zip(self.values, other.values, strict=True)
        return Sample(tuple(value / reference for value, reference in pairs))


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    """What was measured."""
    value: Sample
    unit: str
    """`s`, `ms`, `×`, `%`, `GiB` …"""
    at_least: float | None = None
    """Target: the median is at least this."""
    at_most: float | None = None
    """Target: the median is at most this."""
    quality: str = ""
    """Quality of the timed results, such as their error: being faster and worse is no gain."""
    note: str = ""
    """How it was measured, if that isn't obvious."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further numbers, for the JSON file."""

    @property
    def reached(self) -> bool | None:
        """True if the median is within the bounds; None without bounds."""
        if self.at_least is None and self.at_most is None:
            return None
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= self.value.median <= high

    @property
    def target(self) -> str:
        """The bound in words: `≥ 8`, `≤ 2` or nothing."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Options:
    """The argument of every module's `measure`."""

    data_dir: Path | None = None
    """Folder with full MNIST in torchvision's layout; None for `trainables.data`'s default."""
    folder: Path = Path()
    """An empty folder for temporary results."""
    repeats: int = 3
    """Number of repeats of whole runs. Short loops have their own number."""
    tiny: bool = False
    """For tests: everything runs in seconds, and the numbers mean nothing."""
    say: Callable[[str], None] = print
    """Called with a line on what is being measured."""


def time_in_turns(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Sample]:
    """Seconds of each function, measured in turns (A B A B …).

    Other load on the machine then affects all functions alike. The first `warm_up` rounds don't
    count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            started = clock()
            function()
            if turn >= warm_up:
                seconds[name].append(clock() - started)
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


@dataclass(frozen=True)
class Stratum:
    """A random sample of the fits of one kind."""

    fits: int
    """Number of fits of this kind in the whole grid."""
    wall: float
    """Wall-clock seconds of the sample, with as many fits at a time as there are cores."""
    seconds: Sequence[float]
    """Seconds of each fit of the sample."""

    @property
    def mean(self) -> float:
        """Wall-clock seconds per fit."""
        return self.wall / len(self.seconds)

    @property
    def relative_error(self) -> float:
        """Standard error of the mean over the mean, from the spread of the fits."""
        if len(self.seconds) < 2:
            return math.nan
        spread = statistics.stdev(self.seconds) / statistics.mean(self.seconds)
        return spread / math.sqrt(len(self.seconds))


def extrapolate(strata: Sequence[Stratum]) -> tuple[float, float]:
    """Seconds that all fits of all strata would take, and twice their standard error."""
    total = sum(stratum.fits * stratum.mean for stratum in strata)
    variance = sum((s.fits * s.mean * s.relative_error) ** 2 for s in strata)
    return total, 2 * math.sqrt(variance)
