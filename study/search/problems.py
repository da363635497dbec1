"""What is searched: a place on an experiment's grid, and the settings that vary there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from optuna.distributions import distribution_to_json

from study import presets
from study.command_line.options import OPTION_OF, Selection, as_bad_input
from study.errors import BadInput
from study.experiments import Experiment
from study.grid import Cell, naming, override, plan, validated
from study.search.spaces import SPACES, Dimension
from trainables.contract import ConfigError
from trainables.data import Dataset

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
    data: str
    """The dataset's fingerprint."""
    parent: str | None
    """Id of the cell that all cells of the search build on."""
    objectives: tuple[str, ...] = ("error",)
    """Of `OBJECTIVES`."""

    def cell(self, params: Mapping[str, Any]) -> Cell:
        """The cell with these values of the dimensions. Raises `ConfigError`."""
        experiment = self.experiment
        axes = {axis: (params.get(axis, values[0]),) for axis, values in experiment.axes.items()}
        fixed = {**experiment.fixed, **params}
        point = Experiment(
            **{**vars(experiment), "axes": axes, "fixed": fixed, "recipes": {}},
        )
        (settings,) = validated(point)
        config = dict(vars(settings))
        identity = naming(experiment, self.data).cell(config, self.parent)
        return Cell(experiment.name, experiment.trainable, config, self.parent, identity)

    @property
    def epochs(self) -> range:
        """The epochs of a trial after which it can be compared with others."""
        module = self.experiment.settings_module()
        scored: range = module.Config(**self.cell(self.start).config).scored_epochs
        return scored

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
        fixed = {**{k: v[0] for k, v in self.experiment.axes.items()}, **self.experiment.fixed}
        names = {dimension.name for dimension in self.dimensions}
        content = {
            "experiment": self.experiment.name,
            "dimensions": {
                dimension.name: json.loads(distribution_to_json(dimension.distribution()))
                for dimension in self.dimensions
            },
            "settings": {k: v for k, v in sorted(fixed.items()) if k not in names},
            "data": self.data,
            "parent": self.parent,
            "objectives": list(self.objectives),
        }
        return json.loads(json.dumps(content))


def problems(arguments: argparse.Namespace, data: Dataset, selection: Selection) -> list[Problem]:
    """One search a latent dimension. Raises `BadInput` for what makes none."""
    if arguments.trials is None and arguments.minutes is None:
        raise BadInput("--trials", "is missing", "a search needs it, or --minutes, or both")
    experiment = selection.experiments[-1]
    space = SPACES[experiment.name]
    given = {name: getattr(arguments, name, None) for name in OPTION_OF}
    given = {name: value for name, value in given.items() if value is not None}
    fix = {}
    for name, value in arguments.fix:
        try:
            fix[name] = presets.checked(experiment, name, value)
        except presets.PresetError as error:
            raise BadInput("--fix", f"{name}={value}", str(error)) from error
    given |= fix
    names = {dimension.name for dimension in space.dimensions}
    place: dict[str, tuple[Any, ...]] = {}
    for axis, values in experiment.axes.items():
        asked = given.get(axis)
        if asked is not None:
            values = tuple(asked) if isinstance(asked, list) else (asked,)
        if asked is not None and len(set(values)) > 1 and axis != "latent_dim":
            what = "searched" if axis in names else "not searched, and a search is for one point"
            shown = " ".join(map(str, values))
            raise BadInput(
                OPTION_OF.get(axis, axis), shown,
                f"{axis} is {what}: give one value, which takes it out of the search, or none",
            )  # fmt: skip
        place[axis] = values if asked is not None else (space.place.get(axis, values[0]),)
    found = []
    for dim in dict.fromkeys(place["latent_dim"]):
        axes = {axis: (values[0],) for axis, values in place.items()} | {"latent_dim": (dim,)}
        recipe = experiment.recipe({"latent_dim": dim})
        axes |= {k: (v,) for k, v in recipe.items() if k in axes and k not in given}
        fixed = {**experiment.fixed, **{k: v for k, v in recipe.items() if k not in axes}}
        at = replace(experiment, axes=axes, fixed={**fixed, **fix}, recipes={})
        found.append(_problem(arguments, data, selection, at, given))
    return found


def _problem(
    arguments: argparse.Namespace,
    data: Dataset,
    selection: Selection,
    experiment: Experiment,
    given: dict[str, Any],
) -> Problem:
    draft = Problem(experiment.name, experiment, (), {}, data.fingerprint, None)
    try:
        settings = draft.cell({}).config
    except ConfigError as error:
        raise as_bad_input(error) from error
    dimensions = SPACES[experiment.name].at(settings, given)
    if not dimensions:
        raise BadInput(
            "--fix", " ".join(name for name, _ in arguments.fix), "leaves nothing to search"
        )
    # What the name doesn't say of the place, `Problem.facts` does.
    where = [f"d{settings['latent_dim']}"]
    where += [str(settings[axis]) for axis in ("labels", "freeze") if axis in settings]
    problem = Problem(
        "-".join([experiment.name, *where]),
        experiment,
        dimensions,
        {dimension.name: settings[dimension.name] for dimension in dimensions},
        data.fingerprint,
        None,
        ("error", *(arguments.against or ())),
    )
    groups = groups_of(selection, problem, {}, data.fingerprint)
    return replace(problem, parent=groups[-1][0].parent)


def groups_of(
    selection: Selection, problem: Problem, params: dict[str, Any], data: str
) -> list[list[Cell]]:
    """The cell of a point, the last group, and those that it builds on."""
    config = {**problem.experiment.fixed, **problem.start, **params}
    axes = {k: (config.get(k, values[0]),) for k, values in problem.experiment.axes.items()}
    fixed = {k: v for k, v in config.items() if k not in axes}
    point = override(problem.experiment, axes, fixed)
    others = [
        # What these share is the seed.
        override(other, {}, {"seed": config["seed"]} if "seed" in config else {})
        for other in selection.experiments[:-1]
    ]
    return plan([*others, point], data, (point.name,))
