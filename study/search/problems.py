"""What is searched: a place on an experiment's grid, and the settings that vary there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import distribution_to_json

from study.experiments import Experiment
from study.grid import Cell, override, plan
from study.search.spaces import Dimension

OBJECTIVES = ("error", "parameters", "seconds")
"""What a search can improve: the experiment's metric on the validation split, the numbers that a
model learns, and the seconds that a replicate takes to train."""


@dataclass(frozen=True)
class Problem:
    """One search: everything that makes two of them different."""

    name: str
    """Of the Optuna study: `autoencoder-d14`."""
    experiment: Experiment
    """What is searched: its axes have one value each, and `fixed` the settings that don't vary."""
    dimensions: tuple[Dimension, ...]
    """The settings that vary."""
    start: Mapping[str, Any]
    """The first point to try: what these settings are without a search."""
    needed: tuple[Experiment, ...]
    """The experiments that it builds on."""
    data: str
    """The dataset's fingerprint."""
    objectives: tuple[str, ...] = ("error",)
    """Of `OBJECTIVES`."""

    def groups(self, params: Mapping[str, Any]) -> list[list[Cell]]:
        """The cell with these values of the dimensions, in the last group, and those that it
        builds on. `params` may have a `seed` and `replicates` too. Raises `ConfigError`."""
        config = {**self.experiment.fixed, **params}
        axes = {k: (config.pop(k, values[0]),) for k, values in self.experiment.axes.items()}
        point = override(self.experiment, axes, config)
        # What it shares with those that it builds on is the seed.
        seed = {"seed": config["seed"]} if "seed" in config else {}
        return plan(
            [*(override(e, {}, seed) for e in self.needed), point], self.data, (point.name,)
        )

    def cell(self, params: Mapping[str, Any]) -> Cell:
        """The cell with these values of the dimensions. Raises `ConfigError`."""
        return self.groups(params)[-1][0]

    @property
    def epochs(self) -> range:
        """The epochs of a trial after which it can be compared with others."""
        return self.cell(self.start).settings.scored_epochs

    @property
    def epochs_before(self) -> int:
        """Those of a stage before, in which all trials are alike and none is stopped."""
        return self.epochs.start - self.epochs.step

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """`minimize` or `maximize`, an objective each."""
        up = self.experiment.best == "max"
        return ["maximize" if up and n == "error" else "minimize" for n in self.objectives]

    @property
    def columns(self) -> list[str]:
        """The columns of a cell's rows that hold the objectives."""
        known = {"error": self.experiment.metric, "seconds": "train_seconds"}
        return [known.get(name, name) for name in self.objectives]

    def facts(self) -> dict[str, Any]:
        """What must be the same for a search to go on, as JSON has it."""
        axes = {axis: values[0] for axis, values in self.experiment.axes.items()}
        replicates = self.experiment.replicates
        fixed = {**axes, **self.experiment.fixed, "replicates": replicates}
        names = {dimension.name for dimension in self.dimensions}
        content = {
            "experiment": self.experiment.name,
            "dimensions": {
                dimension.name: json.loads(distribution_to_json(dimension.distribution()))
                for dimension in self.dimensions
            },
            "settings": {k: v for k, v in sorted(fixed.items()) if k not in names},
            "data": self.data,
            "parent": self.cell(self.start).parent_id,
            "objectives": list(self.objectives),
        }
        return json.loads(json.dumps(content))
