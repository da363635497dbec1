"""Expected seconds of a block: a regression on its settings, learned from finished blocks.

    seconds = replicates × work × rate

The work is computed from the settings (`Settings.work`). The logarithm of the rate is a sum of
effects of the settings: one for each value of a categorical setting, one for each doubling of an
integer. A setting that no block has had yet has no effect, and widens the range.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from study.grid import Cell

INTERCEPT_SD, CATEGORY_SD, DOUBLING_SD, OWN_DOUBLING_SD = 10.0, 0.6, 0.3, 0.1
"""Prior standard deviations of effects on log seconds: of the intercept, of a categorical value,
and of a doubling, for all cells and for the cells with the same trainable and categories."""

NOISE_SD, KIND_SD, LOAD_SD, EARLIER_SD = 0.25, 0.2, 0.25, 0.5
"""Standard deviations of log seconds: of blocks of one kind; of kinds around the sum of effects; of
all remaining blocks together, as the machine's other load changes; and of earlier runs."""

EARLIER_SHIFT_SD = 0.3
"""Prior standard deviation of the difference between earlier runs and this one, in log seconds."""

DECAY, PRIOR_SECONDS = 0.8, 2.0
"""Weights in `Rates.slowdown`. Each block multiplies the weight of earlier ones by `DECAY`. The
estimate starts as if `PRIOR_SECONDS` of blocks at the expected speed had been seen: after as many
seconds of slower blocks, the logarithm of the estimate is half of theirs."""

IGNORED_SETTINGS = ("seed", "epochs", "contrastive_updates", "pseudo_epochs")
"""Settings that don't change the time of a unit of work. `Settings.work` counts all of them but the
seed."""

MOST_KINDS = 400
"""Largest number of kinds in the regression, which uses the latest."""

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
        return math.sqrt(KIND_SD**2 + NOISE_SD**2 / self.count + EARLIER_SD**2 * self.earlier)


@dataclass(frozen=True)
class Fit:
    """Effects of features on the log rate."""

    effects: Mapping[str, float]
    """Effect of each feature."""
    covariance: np.ndarray
    """Covariance of the F effects, in their order, (F, F)."""
    blocks: int
    """Number of blocks seen before the fit."""

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
        """Features, log rate and seconds of this run's latest blocks, the latest first."""
        self._slowdown: float | None = None
        self._described: dict[tuple[Cell, int], tuple[Features, float]] = {}

    def observe(self, cell: Cell, replicates: int, seconds: float, earlier: bool = False) -> None:
        """Learn from a block that took `seconds`.

        `earlier` marks a block of an earlier run, when the machine may have been more or less busy.
        """
        seconds = max(seconds, 1e-3)
        key, work = self._describe(cell, replicates)
        kind = self._kinds[key] = self._kinds.pop(key, Kind())  # the latest is last
        if kind.earlier and not earlier:
            kind.count = 0
        kind.earlier = earlier
        kind.count += 1
        log_rate = math.log(seconds / work)
        kind.log_rate += max(0.3, 1 / kind.count) * (log_rate - kind.log_rate)
        if not earlier:
            self._latest.appendleft((key, log_rate, seconds))
        self._slowdown = None
        self._trainables.add(cell.experiment.trainable)
        self._seen += 1

    def knows(self, cell: Cell) -> bool:
        """True if a block of the cell's trainable was seen."""
        return cell.experiment.trainable in self._trainables

    @property
    def slowdown(self) -> float:
        """Ratio of actual to expected seconds of the latest blocks; long ones count more."""
        if self._slowdown is None:
            total, weight, fit = 0.0, PRIOR_SECONDS, self._latest_fit()
            for age, (features, log_rate, seconds) in enumerate(self._latest):
                difference = min(1.0, max(-1.0, log_rate - fit.log_rate(features)))
                total += DECAY**age * seconds * difference
                weight += DECAY**age * seconds
            self._slowdown = math.exp(total / weight)
        return self._slowdown

    def seconds(self, cell: Cell, replicates: int) -> float | None:
        """Expected seconds of a block; None if no block was seen."""
        if not self._kinds:
            return None
        key, work = self._describe(cell, replicates)
        log_rate = self._latest_fit().log_rate(key)
        if kind := self._kinds.get(key):
            weight = KIND_SD**2 / (KIND_SD**2 + NOISE_SD**2 / kind.count)
            log_rate += weight * (kind.log_rate - log_rate)
        return work * math.exp(log_rate) * self.slowdown

    def log_sd(self, blocks: Iterable[tuple[Cell, int, float]]) -> float:
        """Standard deviation of the logarithm of the total seconds of `blocks`.

        Each block is a cell, its number of replicates and its expected seconds.
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
        fit = self._latest_fit()
        known = np.array([sums.pop(name, 0.0) for name in fit.effects]) / total
        unknown = sum((prior_sd(name) * value / total) ** 2 for name, value in sums.items())
        variance = (KIND_SD**2 + NOISE_SD**2) * squares / total**2 + LOAD_SD**2 + unknown
        return math.sqrt(variance + float(known @ fit.covariance @ known))

    def _describe(self, cell: Cell, replicates: int) -> tuple[Features, float]:
        """Features and work of a block; cached, as every forecast needs them."""
        known = self._described.get((cell, replicates))
        if known is None:
            work = max(1.0, replicates * cell.settings.work(self.images))
            known = features(cell, replicates), work
            self._described[cell, replicates] = known
        return known

    def _latest_fit(self) -> Fit:
        """The regression; it is repeated when a tenth more blocks have been seen."""
        if self._fit is None or self._seen >= 1.1 * self._fit.blocks:
            self._fit = fit_rates(list(self._kinds.items())[-MOST_KINDS:], self._seen)
        return self._fit


def features(cell: Cell, replicates: int) -> Features:
    """Features that may change the rate: categories, whether a float is above 0, log2 of integers.

    Cells of the same trainable with the same categories on the axes, such as `freeze`, also have a
    common effect and effects of integers of their own.
    """
    own = " ".join((cell.experiment.trainable, *cell.categories))
    found = {"": 1.0, f"trainable={cell.experiment.trainable}": 1.0, f"own={own}": 1.0}
    for name, value in {**cell.config, "replicates": replicates}.items():
        if name in IGNORED_SETTINGS:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            found[name] = found[f"{own}:{name}"] = math.log2(1 + abs(value))
        else:
            found[f"{name}={value > 0 if isinstance(value, float) else value}"] = 1.0
    return tuple(found.items())


def fit_rates(kinds: list[tuple[Features, Kind]], blocks: int) -> Fit:
    """Ridge regression of the kinds' log rates.

    Outliers count less: the first block of a worker includes the imports.
    """
    rows = [{**dict(key), "earlier": float(kind.earlier)} for key, kind in kinds]
    names = list(dict.fromkeys(name for row in rows for name in row))
    inputs = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    rates = np.array([kind.log_rate for _, kind in kinds])
    deviation = np.array([kind.deviation for _, kind in kinds])
    prior_precision = np.diag([prior_sd(name) ** -2.0 for name in names])
    weights = np.ones(len(kinds))
    for _ in range(4):
        weighted = inputs * (weights / deviation**2)[:, None]
        covariance = np.linalg.inv(weighted.T @ inputs + prior_precision)
        effects = covariance @ (weighted.T @ rates)
        residuals = np.abs(rates - inputs @ effects) / deviation
        weights = np.minimum(1.0, 2.0 / np.maximum(residuals, 1e-9))
    return Fit(dict(zip(names, effects.tolist(), strict=True)), covariance, blocks)


def prior_sd(name: str) -> float:
    """Prior standard deviation of the effect of a feature."""
    if name in ("", "earlier"):
        return EARLIER_SHIFT_SD if name else INTERCEPT_SD
    return CATEGORY_SD if "=" in name else OWN_DOUBLING_SD if ":" in name else DOUBLING_SD
