"""What `study search` is asked for: one problem a latent dimension."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from study import presets
from study.command_line.options import OPTION_OF, as_bad_input
from study.errors import BadInput
from study.experiments import Experiment, Selection
from study.grid import override
from study.search.problems import Problem
from study.search.spaces import SPACES
from trainables.contract import ConfigError
from trainables.data import Dataset


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
        at = override(replace(experiment, axes=axes, fixed=fixed, recipes={}), {}, fix)
        found.append(_problem(arguments, data, selection, at, given))
    return found


def _problem(
    arguments: argparse.Namespace,
    data: Dataset,
    selection: Selection,
    experiment: Experiment,
    given: dict[str, Any],
) -> Problem:
    needed = tuple(selection.experiments[:-1])
    draft = Problem(experiment.name, experiment, (), {}, needed, data.fingerprint)
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
    return Problem(
        "-".join([experiment.name, *where]),
        experiment,
        dimensions,
        {dimension.name: settings[dimension.name] for dimension in dimensions},
        needed,
        data.fingerprint,
        ("error", *(arguments.against or ())),
    )
