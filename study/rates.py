"""Expected seconds of a block: a regression on its settings, learned from finished blocks.

    seconds = replicates × work × rate

The work is computed from the settings (`Settings.work`). The logarithm of the rate is a sum of
effects of the settings: one for each word, one for each doubling of an integer. A setting that has
not been seen has no effect, and widens the range.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from study.grid import Cell

BASE, WORD, DOUBLING, OWN_DOUBLING = 10.0, 0.6, 0.3, 0.1
"""Prior standard deviations of effects on log seconds: of the intercept, of a word, and of a
doubling, for all cells and for those of one kind of work."""

NOISE, KIND, LOAD, EARLIER = 0.25, 0.2, 0.25, 0.5
"""Standard deviations of log seconds: of blocks of one kind; of kinds around the sum of effects; of
all remaining blocks together, as the machine's other load changes; and of earlier runs."""

SHIFT = 0.3
"""Prior standard deviation of how much slower earlier runs were, in log seconds."""

MEMORY, PRIOR_SECONDS = 0.8, 2.0
"""How fast a slower machine is believed. Each block keeps the share `MEMORY` of the earlier
evidence. After `PRIOR_SECONDS` of blocks, half of their slowdown is believed."""

IGNORED_SETTINGS = ("seed", "epochs", "contrastive_updates", "pseudo_epochs")
"""Settings that don't change the time of a unit of work. All but the seed are part of the work."""

MOST_KINDS = 400
"""Largest number of kinds in the regression; of more, the latest."""

Features = tuple[tuple[str, float], ...]
"""Names and values of the features of a block."""


@dataclass
class Kind:
    """Blocks with the same features."""

    log_rate: float = 0.0
    """Logarithm of seconds per replicate and unit of work; later blocks count more."""
    count: int = 0
    """Number of blocks seen."""
    earlier: bool = False
    """True if they were seen only in earlier runs."""

    @property
    def deviation(self) -> float:
        """Standard deviation of the log rate around the sum of effects."""
        return math.sqrt(KIND**2 + NOISE**2 / self.count + EARLIER**2 * self.earlier)


@dataclass(frozen=True)
class Fit:
    """Effects of features on the log rate."""

    effects: Mapping[str, float]
    """Effect of each feature."""
    covariance: np.ndarray
    """Covariance of the F effects, in their order, (F, F)."""
    seen: int
    """Number of blocks seen before it was made."""

    def log_rate(self, features: Features) -> float:
        """The sum of the known effects of these features."""
        return sum(self.effects.get(name, 0.0) * value for name, value in features)


class Rates:
    """Expected seconds of a study's blocks, on data with `images` training images."""

    def __init__(self, images: int = 1) -> None:
        self.images = images
        self._kinds: dict[Features, Kind] = {}
        self._seen = 0
        self._trainables: set[str] = set()
        self._fit: Fit | None = None
        self._latest: deque[tuple[Features, float, float]] = deque(maxlen=20)
        """Features, log rate and seconds of the latest blocks of this run, the latest first."""
        self._slowness: float | None = None
        self._described: dict[tuple[Cell, int], tuple[Features, float]] = {}

    def observe(self, cell: Cell, replicates: int, seconds: float, earlier: bool = False) -> None:
        """Learn from a block that took `seconds`.

        In an `earlier` run, the machine may have been more or less busy.
        """
        seconds = max(seconds, 1e-3)
        found, work = self._describe(cell, replicates)
        kind = self._kinds[found] = self._kinds.pop(found, Kind())  # the latest is last
        if kind.earlier and not earlier:
            kind.count = 0
        kind.earlier = earlier
        kind.count += 1
        log_rate = math.log(seconds / work)
        kind.log_rate += max(0.3, 1 / kind.count) * (log_rate - kind.log_rate)
        if not earlier:
            self._latest.appendleft((found, log_rate, seconds))
        self._slowness = None
        self._trainables.add(cell.experiment.trainable)
        self._seen += 1

    def knows(self, cell: Cell) -> bool:
        """Return whether a block of the cell's trainable was seen."""
        return cell.experiment.trainable in self._trainables

    @property
    def slowness(self) -> float:
        """Ratio of actual to expected seconds of the latest blocks; long ones count more."""
        if self._slowness is None:
            off, weight, fit = 0.0, PRIOR_SECONDS, self._fitted()
            for age, (features, log_rate, seconds) in enumerate(self._latest):
                difference = min(1.0, max(-1.0, log_rate - fit.log_rate(features)))
                off += MEMORY**age * seconds * difference
                weight += MEMORY**age * seconds
            self._slowness = math.exp(off / weight)
        return self._slowness

    def seconds(self, cell: Cell, replicates: int) -> float | None:
        """Expected seconds of a block; None if no block was seen."""
        if not self._kinds:
            return None
        found, work = self._describe(cell, replicates)
        log_rate = self._fitted().log_rate(found)
        if known := self._kinds.get(found):
            trust = KIND**2 / (KIND**2 + NOISE**2 / known.count)
            log_rate += trust * (known.log_rate - log_rate)
        return work * math.exp(log_rate) * self.slowness

    def spread(self, blocks: Iterable[tuple[Cell, int, float]]) -> float:
        """Standard deviation of the logarithm of the total seconds of `blocks`.

        A block is its cell, replicates and seconds.
        """
        sums: dict[str, float] = {}
        total = squares = 0.0
        for cell, replicates, seconds in blocks:
            for name, value in self._describe(cell, replicates)[0]:
                sums[name] = sums.get(name, 0.0) + seconds * value
            total += seconds
            squares += seconds**2
        if not total:
            return 0.0
        fit = self._fitted()
        known = np.array([sums.pop(name, 0.0) for name in fit.effects]) / total
        new = sum((prior(name) * value / total) ** 2 for name, value in sums.items())
        variance = (KIND**2 + NOISE**2) * squares / total**2 + LOAD**2 + new
        return math.sqrt(variance + float(known @ fit.covariance @ known))

    def _describe(self, cell: Cell, replicates: int) -> tuple[Features, float]:
        """Features and work of a block; cached, as the progress asks again and again."""
        known = self._described.get((cell, replicates))
        if known is None:
            work = max(1.0, replicates * cell.settings.work(self.images))
            known = features(cell, replicates), work
            self._described[cell, replicates] = known
        return known

    def _fitted(self) -> Fit:
        """The regression, which is repeated when a tenth more blocks were seen."""
        if self._fit is None or self._seen >= 1.1 * self._fit.seen:
            self._fit = fitted(list(self._kinds.items())[-MOST_KINDS:], self._seen)
        return self._fit


def features(cell: Cell, replicates: int) -> Features:
    """Features that may change the rate: words, whether a float is above 0, log2 of integers.

    Cells of the same trainable with the same words on the axes, such as `freeze`, also have a
    common effect and effects of integers of their own.
    """
    own = " ".join((cell.experiment.trainable, *cell.words))
    found = {"": 1.0, f"trainable={cell.experiment.trainable}": 1.0, f"own={own}": 1.0}
    for name, value in {**cell.config, "replicates": replicates}.items():
        if name in IGNORED_SETTINGS:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            found[name] = found[f"{own}:{name}"] = math.log2(1 + abs(value))
        else:
            found[f"{name}={value > 0 if isinstance(value, float) else value}"] = 1.0
    return tuple(found.items())


def fitted(kinds: list[tuple[Features, Kind]], seen: int) -> Fit:
    """Ridge regression of the kinds' log rates.

    Outliers count less: the first block of a worker includes the imports.
    """
    rows = [{**dict(found), "earlier": float(kind.earlier)} for found, kind in kinds]
    names = list(dict.fromkeys(name for row in rows for name in row))
    inputs = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    rates = np.array([kind.log_rate for _, kind in kinds])
    deviation = np.array([kind.deviation for _, kind in kinds])
    priors = np.diag([prior(name) ** -2.0 for name in names])
    trust = np.ones(len(kinds))
    for _ in range(4):
        weighted = inputs * (trust / deviation**2)[:, None]
        covariance = np.linalg.inv(weighted.T @ inputs + priors)
        effects = covariance @ (weighted.T @ rates)
        off = np.abs(rates - inputs @ effects) / deviation
        trust = np.minimum(1.0, 2.0 / np.maximum(off, 1e-9))
    return Fit(dict(zip(names, effects.tolist(), strict=True)), covariance, seen)


def prior(name: str) -> float:
    """Prior standard deviation of the effect of a feature."""
    if name in ("", "earlier"):
        return SHIFT if name else BASE
    return WORD if "=" in name else OWN_DOUBLING if ":" in name else DOUBLING
