"""Selection of the experiments of a command: the preset changes them, then the options do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from study.errors import BadInput
from study.experiments import EXPERIMENTS, STUDIES, Experiment, Selection, check, members
from study.grid import has_setting, override
from study.presets import SUFFIX, find
from trainables.contract import ConfigError
from trainables.data import DIGITS, Dataset
from trainables.own import is_own, without_digest

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

LARGE = 10_000
"""Minimum training images of a dataset that takes a preset's `large` settings."""

NOT_SHARED = ("loss", "batch_size", "epochs", "learning_rate")
"""Settings that an option changes only in the named experiment, or in the first of a study:
`--epochs` of `assignment` sets the autoencoder's. Other options change all experiments that have
the setting."""


def given_settings(arguments: argparse.Namespace, data: Dataset | None = None) -> dict[str, Any]:
    """Settings given by options; axes are lists of values.

    `--labels-per-class` needs `data`, and is ignored without it.
    """
    options = {name: getattr(arguments, name) for name in OPTION_OF}
    if arguments.labels_per_class and data:
        options["labels"] = [number * len(data.classes) for number in arguments.labels_per_class]
    return {name: value for name, value in options.items() if value is not None}


def select(arguments: argparse.Namespace, data: Dataset | None = None) -> Selection:
    """Apply preset and options to the experiments that `arguments` name; fit them to `data`.

    Large datasets also take the preset's `large` settings. Default numbers of labels and batch
    sizes are changed to fit the data. Experiments that need labels are left out if the images have
    none.

    Raises `BadInput` for an option that no experiment has, for shared encoders with
    `--until-decided`, for options that need it, for several values of a setting in
    `Experiment.single`, or if no named experiment is left. Values out of bounds are found later, by
    `grid.lay_out`.
    """
    preset, given = find(arguments.preset), given_settings(arguments, data)
    chosen, experiments = members(arguments.name), dict[str, Experiment]()
    target = arguments.name if arguments.name in EXPERIMENTS else chosen[0].name
    target = EXPERIMENTS[target].check_of or target
    if not getattr(arguments, "until_decided", False):
        for option in ("most", "matters"):
            if value := getattr(arguments, option, None):
                raise BadInput(f"--{option}", value, "applies only with --until-decided")
    else:
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
    asked = STUDIES.get(arguments.name, (arguments.name,))
    for name, values in given.items():
        single = all(name in EXPERIMENTS[experiment].single for experiment in asked)
        if single and len(values) > 1:
            reason = f"must be one value: {arguments.name} compares its arms at one"
            raise BadInput(OPTION_OF[name], " ".join(map(str, values)), reason)
    large = data is not None and len(data.train) >= LARGE
    left_out = []
    for experiment in chosen:
        name = experiment.name
        if data and not data.classes and has_setting(experiment, "labels"):
            left_out.append(name)
            continue
        if experiment.check_of:
            experiments[name] = check(name, experiments[experiment.check_of], experiment.derive)
            continue
        fixed = {**preset.fixed.get(name, {}), **(preset.large.get(name, {}) if large else {})}
        experiment = override(experiment, preset.axes.get(name, {}), fixed)
        if data:
            # Values in a preset file, such as `study search` writes, are kept as they are.
            stated = preset.axes.get(name, {}) if arguments.preset.endswith(SUFFIX) else {}
            open_axes = {k: v for k, v in experiment.axes.items() if k not in stated}
            experiment = override(experiment, fit_axes(open_axes, data), {})
            if has_setting(experiment, "batch_size") and "batch_size" not in experiment.axes:
                size = min(experiment.setting("batch_size"), len(data.train))
                experiment = override(experiment, {}, {"batch_size": size})
        own = {k: v for k, v in given.items() if k not in NOT_SHARED or name == target}
        own |= {name: own[name][:1] for name in experiment.single if name in own}
        if own.get("network") and all(map(is_own, own["network"])):
            # Depth has no effect on a user's network: one value is enough.
            own.setdefault("depth", [max(experiment.axes.get("depth", (1,)))])
        axes = {k: tuple(v) for k, v in own.items() if isinstance(v, list)}
        scalars = {k: v for k, v in own.items() if k not in axes}
        recipes = {
            dim: {k: v for k, v in recipe.items() if k not in own}
            for dim, recipe in preset.recipes_of(experiment).items()
        }
        experiments[name] = replace(override(experiment, axes, scalars), recipes=recipes)
    if set(asked) <= set(left_out):
        reason = f"its images have no labels, which {arguments.name} needs"
        raise BadInput("--dataset", arguments.dataset or preset.dataset, reason)
    return Selection(arguments.name, list(experiments.values()), asked, tuple(left_out))


def fit_axes(axes: Mapping[str, tuple[Any, ...]], data: Dataset) -> dict[str, tuple[Any, ...]]:
    """Default values of the axes, changed to fit `data`.

    Labels: as many per class as for MNIST's ten classes, at most `data.most_labels`. Batch sizes:
    at most half of the training images, as checks double them.
    """
    found: dict[str, tuple[Any, ...]] = {}
    if "labels" in axes:
        classes, most = len(data.classes), data.most_labels
        wanted = [max(1, number // len(DIGITS)) * classes for number in axes["labels"]]
        found["labels"] = tuple(dict.fromkeys(min(number, most) for number in wanted))
    if "batch_size" in axes:
        half = max(1, len(data.train) // 2)
        found["batch_size"] = tuple(dict.fromkeys(min(size, half) for size in axes["batch_size"]))
    return found


def as_bad_input(
    error: ConfigError, arguments: argparse.Namespace, data: Dataset | None
) -> BadInput:
    """Convert the error to a `BadInput` that names the setting's option and its value."""
    option = OPTION_OF.get(error.field_name, error.field_name)
    value: Any = error.value
    allowed = error.allowed
    if option == "--labels" and arguments.labels_per_class and data and len(data.classes) > 1:
        option, value = "--labels-per-class", value // len(data.classes)
        most = data.most_labels // len(data.classes)
        allowed = f"at most {most}: the rarest class has so many training images"
    elif option == "--networks":
        value = without_digest(value)
    given = getattr(arguments, error.field_name, None)
    if isinstance(given, list) and error.value not in given and option != "--labels-per-class":
        allowed = f"{allowed}; a check makes {value} of it"
        value = " ".join(map(str, given))
    return BadInput(option, value, f"must be {allowed}")
