"""The experiments that a command asks for, changed by the preset and then by the options."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from study.errors import BadInput
from study.experiments import EXPERIMENTS, STUDIES, Experiment, Selection, derived, members
from study.grid import has_setting, override
from study.presets import find
from trainables.contract import ConfigError

OPTION_OF = {
    "latent_dim": "--latent-dims",
    "depth": "--depths",
    "labels": "--labels",
    "freeze": "--freeze",
    "pretraining": "--pretraining",
    "network": "--networks",
    "width": "--widths",
    "loss": "--losses",
    "batch_size": "--batch-sizes",
    "replicates": "--replicates",
    "encoders": "--encoders",
    "epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
}
"""The option that sets each setting of a trainable."""

NOT_SHARED = ("loss", "batch_size", "epochs", "learning_rate")
"""Settings that an option changes only in the experiment that was named, or a study's first:
`--epochs` of `assignment` are the autoencoder's. The others change in all that have them."""


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that have an option on the command line; axes are lists of values."""
    options = {name: getattr(arguments, name) for name in OPTION_OF}
    return {name: value for name, value in options.items() if value is not None}


def select(arguments: argparse.Namespace, large: bool) -> Selection:
    """The experiments that `arguments` ask for; `large` datasets take more of the preset.

    Raises `BadInput` for an option that no experiment has. Values out of bounds are found later,
    when the grid is laid out.
    """
    preset, given = find(arguments.preset), given_settings(arguments)
    chosen, experiments = members(arguments.name), dict[str, Experiment]()
    target = arguments.name if arguments.name in EXPERIMENTS else chosen[0].name
    target = EXPERIMENTS[target].check_of or target
    if getattr(arguments, "until_decided", False):
        if given.get("encoders"):
            reason = "must be 0 with --until-decided: an encoder of its own for each classifier"
            raise BadInput("--encoders", given["encoders"], reason)
        if any(has_setting(experiment, "encoders") for experiment in chosen):
            given["encoders"] = 0
    for name, value in given.items():
        changed = [EXPERIMENTS[target]] if name in NOT_SHARED else chosen
        if not any(has_setting(experiment, name) for experiment in changed):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise BadInput(OPTION_OF[name], shown, f"{arguments.name} has no such setting")
    for experiment in chosen:
        name = experiment.name
        if experiment.check_of:
            experiments[name] = derived(experiment, experiments[experiment.check_of])
            continue
        fixed = {**preset.fixed.get(name, {}), **(preset.large.get(name, {}) if large else {})}
        experiment = override(experiment, preset.axes.get(name, {}), fixed)
        own = {k: v for k, v in given.items() if k not in NOT_SHARED or name == target}
        axes = {k: tuple(v) for k, v in own.items() if isinstance(v, list)}
        scalars = {k: v for k, v in own.items() if k not in axes}
        recipes = {
            dim: {k: v for k, v in recipe.items() if k not in own}
            for dim, recipe in preset.recipes_of(experiment).items()
        }
        experiments[name] = replace(override(experiment, axes, scalars), recipes=recipes)
    asked = STUDIES.get(arguments.name, (arguments.name,))
    dataset = arguments.dataset or preset.dataset
    return Selection(arguments.name, dataset, list(experiments.values()), asked)


def as_bad_input(error: ConfigError) -> BadInput:
    """A setting that is out of bounds, named by its option."""
    option = OPTION_OF.get(error.field_name, error.field_name)
    return BadInput(option, error.value, f"must be {error.allowed}")
