"""A search problem: a point on an experiment's grid, the settings that vary, the objectives."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import distribution_to_json

from study.experiments import Experiment
from study.grid import Cell, override, plan
from study.search.spaces import Dimension


@dataclass(frozen=True)
class Problem:
    """All that distinguishes one search from another."""

    name: str
    """The Optuna study's name: `autoencoder-d14`."""
    experiment: Experiment
    """Each of its axes has one value; `fixed` has the other settings that don't vary."""
    dimensions: tuple[Dimension, ...]
    """The settings that vary."""
    start: Mapping[str, Any]
    """The first point to try: the values that the dimensions have without a search."""
    needed: tuple[Experiment, ...]
    """The experiments that `experiment` builds on."""
    data: str
    """The dataset's fingerprint."""
    objectives: tuple[str, ...] = ("error",)
    """`error` (the experiment's metric on the validation split) always comes first; `parameters`
    (of one model) and `seconds` (of training one replicate) may follow."""

    def groups(self, params: Mapping[str, Any]) -> list[list[Cell]]:
        """The cell with these values of the dimensions, and the cells that it builds on.

        The cell itself is in the last group. `params` may also have `seed` and `replicates`. Raises
        `ConfigError`.
        """
        config = {**self.experiment.fixed, **params}
        axes = {k: (config.pop(k, values[0]),) for k, values in self.experiment.axes.items()}
        point = override(self.experiment, axes, config)
        # The cells that it builds on take only its seed.
        seed = {"seed": config["seed"]} if "seed" in config else {}
        needed = [override(experiment, {}, seed) for experiment in self.needed]
        return plan([*needed, point], self.data, (point.name,))

    def cell(self, params: Mapping[str, Any]) -> Cell:
        """The cell with these values of the dimensions. Raises `ConfigError`."""
        return self.groups(params)[-1][0]

    @property
    def epochs(self) -> range:
        """The epochs of a trial after which it can be compared with others."""
        return self.cell(self.start).settings.scored_epochs

    @property
    def epochs_before(self) -> int:
        """Number of epochs of an earlier stage, in which trials aren't compared."""
        return self.epochs.start - self.epochs.step

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """The direction of each objective."""
        up = self.experiment.best == "max"
        return ["maximize" if up and name == "error" else "minimize" for name in self.objectives]

    @property
    def columns(self) -> list[str]:
        """The column of a cell's rows that holds each objective."""
        columns = {"error": self.experiment.metric, "seconds": "train_seconds"}
        return [columns.get(name, name) for name in self.objectives]

    @property
    def size(self) -> float:
        """Number of points: combinations of the dimensions' values, or infinity."""
        return math.prod(math.inf if d.values is None else len(d.values) for d in self.dimensions)

    def points(self) -> Iterator[tuple[Any, ...]]:
        """All points, each with a value for every dimension; none if `size` is infinite."""
        return itertools.product(*(d.values or () for d in self.dimensions))

    def identity(self) -> dict[str, Any]:
        """JSON that an earlier search must share to be continued."""
        axes = {axis: values[0] for axis, values in self.experiment.axes.items()}
        fixed = {**axes, **self.experiment.fixed, "replicates": self.experiment.replicates}
        dimensions = {
            d.name: json.loads(distribution_to_json(d.distribution())) for d in self.dimensions
        }
        return {
            "experiment": self.experiment.name,
            "dimensions": dimensions,
            "settings": {k: v for k, v in sorted(fixed.items()) if k not in dimensions},
            "data": self.data,
            "parent": self.cell(self.start).parent_id,
            "objectives": list(self.objectives),
        }


def rungs(epochs: range) -> list[int]:
    """The epochs after which trials are compared.

    The first comes after a tenth of the epochs, and each further one three times as late. None is
    the last epoch, since stopping a trial there saves nothing.
    """
    found, trained = [], max(1, len(epochs) // 10)
    while trained < len(epochs):
        found.append(epochs[trained - 1])
        trained *= 3
    return found
