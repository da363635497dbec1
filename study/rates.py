"""Seconds of a block: a regression on settings, learned from blocks that are done.

    seconds = replicates × work × rate

The work is what the settings say (`Settings.work`). The logarithm of the rate is a sum of effects
of the settings: one for each word, one for each doubling of an integer. What has not been seen has
no effect, and widens the range.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.grid import Cell

BASE, WORD, DOUBLING, OWN_DOUBLING = 10.0, 0.6, 0.3, 0.1
"""Standard deviations of the effects before anything is seen, of log seconds: of what all have,
of a word, and of a doubling, for all cells and for those of one kind of work."""

NOISE, KIND, LOAD, EARLIER = 0.25, 0.2, 0.25, 0.5
"""Standard deviations of log seconds: of blocks of one kind, of kinds around the sum of effects,
of all that is left together, as what else the machine does changes, and of earlier runs."""

SHIFT = 0.3
"""The same of how much faster or slower all was in earlier runs."""

MEMORY, FIRM = 0.8, 2.0
"""How fast a slower machine is believed: each block keeps this share of the earlier evidence, and
after so many seconds of blocks half of the slowdown seen is believed."""

NO_MATTER = ("seed", "epochs", "contrastive_updates", "pseudo_epochs")
"""Settings that don't change the time of a unit of work: all but the seed count in the work."""

MOST_KINDS = 400
"""Kinds that are learned from: the latest."""

Features = Mapping[str, float]


@dataclass
class Kind:
    """Blocks with the same settings, as far as these matter."""

    features: Features
    log_rate: float = 0.0
    """Logarithm of seconds a replicate and unit of work: later blocks count more."""
    count: int = 0
    """Blocks seen."""
    earlier: bool = False
    """Whether in an earlier run alone."""

    @property
    def deviation(self) -> float:
        """Standard deviation of the log rate around the sum of effects."""
        return math.sqrt(KIND**2 + NOISE**2 / self.count + EARLIER**2 * self.earlier)


@dataclass(frozen=True)
class Fit:
    """The effects of settings."""

    effects: Mapping[str, float]
    """By feature."""
    covariance: np.ndarray
    """Of the effects, in their order."""
    seen: int
    """Blocks it was made from."""

    def log_rate(self, features: Features) -> float:
        """The sum of the effects that are known."""
        return sum(self.effects.get(name, 0.0) * value for name, value in features.items())


class Rates:
    """Seconds of the blocks of a study on data of so many training `images`."""

    def __init__(self, images: int = 1) -> None:
        self.images = images
        self._kinds: dict[tuple[Any, ...], Kind] = {}
        self._seen = 0
        self._trainables: set[str] = set()
        self._fit: Fit | None = None
        self._latest: deque[tuple[Features, float, float]] = deque(maxlen=20)
        """Features, log rate and seconds of the latest blocks of this run, the latest first."""
        self._slowness: float | None = None
        self._described: dict[tuple[Cell, int], tuple[tuple[Any, ...], Kind, float]] = {}

    def observe(self, cell: Cell, replicates: int, seconds: float, earlier: bool = False) -> None:
        """So many replicates of a cell took `seconds`, now or in an `earlier` run, when the machine
        may have been more or less busy."""
        seconds = max(seconds, 1e-3)
        key, kind, work = self._describe(cell, replicates)
        kind = self._kinds.pop(key, kind)
        self._kinds[key] = kind  # the latest is last
        if kind.earlier and not earlier:
            kind.count = 0
        kind.earlier = earlier
        kind.count += 1
        log_rate = math.log(seconds / work)
        kind.log_rate += max(0.3, 1 / kind.count) * (log_rate - kind.log_rate)
        if not earlier:
            self._latest.appendleft((kind.features, log_rate, seconds))
        self._slowness = None
        self._trainables.add(cell.experiment.trainable)
        self._seen += 1

    def knows(self, cell: Cell) -> bool:
        """Whether a block of its trainable was seen."""
        return cell.experiment.trainable in self._trainables

    @property
    def slowness(self) -> float:
        """How many times the expected seconds the latest blocks took, long ones above all."""
        if self._slowness is None:
            off, weight, fit = 0.0, FIRM, self._fitted()
            for age, (features, log_rate, seconds) in enumerate(self._latest):
                difference = min(1.0, max(-1.0, log_rate - fit.log_rate(features)))
                off += MEMORY**age * seconds * difference
                weight += MEMORY**age * seconds
            self._slowness = math.exp(off / weight)
        return self._slowness

    def seconds(self, cell: Cell, replicates: int) -> float | None:
        """Expected seconds of a block; None where nothing was seen."""
        expected = self._expected(cell, replicates)
        return None if expected is None else expected * self.slowness

    def _expected(self, cell: Cell, replicates: int) -> float | None:
        """The same on a machine that is as busy as it was."""
        if not self._kinds:
            return None
        key, kind, work = self._describe(cell, replicates)
        fit = self._fitted()
        log_rate = fit.log_rate(kind.features)
        if known := self._kinds.get(key):
            trust = KIND**2 / (KIND**2 + NOISE**2 / known.count)
            log_rate += trust * (known.log_rate - log_rate)
        return work * math.exp(log_rate)

    def spread(self, blocks: Iterable[tuple[Cell, int, float]]) -> float:
        """Standard deviation of the logarithm of the sum of blocks' seconds: cell, replicates and
        seconds of each."""
        sums: dict[str, float] = {}
        total = squares = 0.0
        for cell, replicates, seconds in blocks:
            for name, value in self._describe(cell, replicates)[1].features.items():
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

    def _describe(self, cell: Cell, replicates: int) -> tuple[tuple[Any, ...], Kind, float]:
        """Key and kind of a block, and its work; kept, as a progress asks again and again."""
        known = self._described.get((cell, replicates))
        if known is None:
            found = features(cell, replicates)
            work = max(1.0, replicates * cell.settings.work(self.images))
            known = tuple(found.items()), Kind(found), work
            self._described[cell, replicates] = known
        return known

    def _fitted(self) -> Fit:
        """Kept until a tenth more blocks were seen."""
        if self._fit is None or self._seen >= 1.1 * self._fit.seen:
            self._fit = fitted(list(self._kinds.values())[-MOST_KINDS:], self._seen)
        return self._fit


def features(cell: Cell, replicates: int) -> Features:
    """Features that may change the rate: words, whether a float is 0, logarithms of integers.

    Cells of the same trainable and with the same words on the axes, such as `freeze`, have an
    effect of their own, and own effects of integers.
    """
    axes = (cell.config.get(axis) for axis in cell.experiment.axes)
    own = " ".join((cell.experiment.trainable, *(word for word in axes if isinstance(word, str))))
    found = {"": 1.0, f"trainable={cell.experiment.trainable}": 1.0, f"own={own}": 1.0}
    for name, value in {**cell.config, "replicates": replicates}.items():
        if name in NO_MATTER:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            found[name] = found[f"{own}:{name}"] = math.log2(1 + abs(value))
        else:
            found[f"{name}={value > 0 if isinstance(value, float) else value}"] = 1.0
    return found


def fitted(kinds: list[Kind], seen: int) -> Fit:
    """Ridge regression of the kinds' rates. What is far off counts less: the first block of a
    worker imports what it needs."""
    rows = [{**kind.features, "earlier": float(kind.earlier)} for kind in kinds]
    names = list(dict.fromkeys(name for row in rows for name in row))
    inputs = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    rates = np.array([kind.log_rate for kind in kinds])
    deviation = np.array([kind.deviation for kind in kinds])
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
    """Standard deviation of an effect before anything is seen."""
    if name in ("", "earlier"):
        return SHIFT if name else BASE
    return WORD if "=" in name else OWN_DOUBLING if ":" in name else DOUBLING
