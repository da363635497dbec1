"""The problems that `study search` solves, one for each latent dimension."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from study import presets
from study.command_line.options import OPTION_OF, as_bad_input, given_settings
from study.errors import BadInput
from study.experiments import Experiment, Selection
from study.grid import check_data, override
from study.search.problems import Problem
from study.search.spaces import SPACES
from trainables.contract import ConfigError
from trainables.data import Dataset


def problems(arguments: argparse.Namespace, data: Dataset, selection: Selection) -> list[Problem]:
    """The problems of a command, one for each latent dimension. Raises `BadInput`."""
    if arguments.trials is None and arguments.minutes is None:
        raise BadInput("--trials", "is missing", "a search needs --trials, --minutes or both")
    *needed, experiment = selection.experiments
    fix = _fixed(arguments, experiment)
    given = given_settings(arguments, data) | fix
    place = _place(experiment, given, len(data.classes))
    objectives = ("error", *(arguments.against or ()))
    found = []
    for dim in dict.fromkeys(place["latent_dim"]):
        recipe = experiment.recipe({"latent_dim": dim})
        axes = {axis: values[:1] for axis, values in place.items()} | {"latent_dim": (dim,)}
        axes |= {k: (v,) for k, v in recipe.items() if k in axes and k not in given}
        fixed = {**experiment.fixed, **{k: v for k, v in recipe.items() if k not in axes}}
        point = override(replace(experiment, axes=axes, fixed=fixed, recipes={}), {}, fix)
        draft = Problem("", point, (), {}, tuple(needed), data.fingerprint, objectives)
        try:
            groups = draft.groups({})
            check_data(groups, data)
        except ConfigError as error:
            raise as_bad_input(error, arguments, data) from error
        start = groups[-1][0].config
        dimensions = SPACES[experiment.name].at(start, given)
        if not dimensions:
            names = " ".join(name for name, _ in arguments.fix)
            option, value = ("--fix", names) if names else ("--freeze", start.get("freeze"))
            raise BadInput(option, value, "leaves nothing to search")
        # `Problem.identity` distinguishes searches that share a name.
        where = [str(start[axis]) for axis in ("labels", "freeze") if axis in start]
        found.append(
            replace(
                draft,
                name="-".join([experiment.name, f"d{dim}", *where]),
                dimensions=dimensions,
                start={dimension.name: start[dimension.name] for dimension in dimensions},
            )
        )
    return found


def _fixed(arguments: argparse.Namespace, experiment: Experiment) -> dict[str, Any]:
    """The settings given by `--fix`. Raises `BadInput`."""
    fixed = {}
    for name, value in arguments.fix:
        try:
            fixed[name] = presets.check_value(experiment, name, value, where=name)
        except presets.PresetError as error:
            raise BadInput("--fix", f"{name}={value}", str(error)) from error
    return fixed


def _place(
    experiment: Experiment, given: dict[str, Any], classes: int
) -> dict[str, tuple[Any, ...]]:
    """The values on each axis: those given, else the search space's own.

    Raises `BadInput` if an axis other than `latent_dim` is given several.
    """
    space = SPACES[experiment.name]
    place = {}
    for axis, values in experiment.axes.items():
        if axis not in given:
            value = space.defaults.get(axis, values[0])
            if axis == "labels" and classes and value % classes:
                value = min(values, key=lambda known: abs(known - value))
            place[axis] = (value,)
            continue
        asked = given[axis]
        place[axis] = tuple(asked) if isinstance(asked, list) else (asked,)
        if len(set(place[axis])) > 1 and axis != "latent_dim":
            searched = any(dimension.name == axis for dimension in space.dimensions)
            status = "searched" if searched else "not searched, and a search is for one point"
            allowed = f"{axis} is {status}: give one value, to exclude it from the search, or none"
            raise BadInput(OPTION_OF[axis], " ".join(map(str, place[axis])), allowed)
    return place
