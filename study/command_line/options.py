"""What a command asks for: the experiments, with the preset and the options worked in."""

from __future__ import annotations

import argparse
from dataclasses import replace

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

SHARED = ("latent_dim", "depth", "labels", "freeze", "pretraining", "network", "width",
          "replicates", "encoders", "seed")  # fmt: skip
"""Settings that an option changes in every experiment that has them. The others change the
experiment that was named, or a study's first: `--epochs` of `assignment` are the autoencoder's."""


def select(arguments: argparse.Namespace, large: bool) -> Selection:
    """The experiments that `arguments` ask for; `large` says which of a preset's settings fit the
    dataset. Settings that no trial could have are found when the grid is made."""
    preset = find(arguments.preset)
    options = {name: getattr(arguments, name) for name in OPTION_OF}
    until_decided = getattr(arguments, "until_decided", False)
    if until_decided and options["encoders"]:
        reason = "must be 0 with --until-decided: an encoder of its own for each classifier"
        raise BadInput("--encoders", options["encoders"], reason)
    given = {name: value for name, value in options.items() if value is not None}
    experiments = members(arguments.name)
    target = arguments.name if arguments.name in EXPERIMENTS else experiments[0].name
    target = EXPERIMENTS[target].check_of or target
    for name, value in given.items():
        of_interest = experiments if name in SHARED else [EXPERIMENTS[target]]
        if not any(has_setting(experiment, name) for experiment in of_interest):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise BadInput(OPTION_OF[name], shown, f"{arguments.name} has no such setting")
    adjusted: dict[str, Experiment] = {}
    for experiment in experiments:
        if experiment.check_of:
            adjusted[experiment.name] = derived(experiment, adjusted[experiment.check_of])
            continue
        fixed = dict(preset.fixed.get(experiment.name, {}))
        if large:
            fixed |= preset.large.get(experiment.name, {})
        experiment = override(experiment, preset.axes.get(experiment.name, {}), fixed)
        mine = {k: v for k, v in given.items() if k in SHARED or experiment.name == target}
        lists = {k: tuple(v) for k, v in mine.items() if isinstance(v, list)}
        scalars = {k: v for k, v in mine.items() if not isinstance(v, list)}
        if until_decided:
            scalars["encoders"] = 0
        experiment = override(experiment, lists, scalars)
        recipes = preset.recipes_of(experiment)
        kept = {
            dim: {name: value for name, value in recipe.items() if name not in lists | scalars}
            for dim, recipe in recipes.items()
        }
        adjusted[experiment.name] = replace(experiment, recipes=kept)
    asked = STUDIES.get(arguments.name, (arguments.name,))
    return Selection(
        arguments.name, arguments.dataset or preset.dataset, [*adjusted.values()], asked
    )


def as_bad_input(error: ConfigError) -> BadInput:
    """A setting that is out of bounds, in the words of the command line."""
    option = OPTION_OF.get(error.field_name, error.field_name)
    return BadInput(option, error.value, f"must be {error.allowed}")
