"""The registry: which experiments there are, which studies they make, and the presets.

An experiment is a trainable, its grid axes, its fixed settings and the experiment it builds on.
To add one: write a module under `trainables/` (see that package's docstring), and add an entry
to `EXPERIMENTS` here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from trainables.settings.fewshot import PRETRAINING


@dataclass(frozen=True)
class Experiment:
    """A trainable over a grid."""

    name: str
    """What the command line and the `experiment` column of every row call it."""
    trainable: str
    """Importable module with `Config`, `VERSION` and `train`."""
    axes: Mapping[str, tuple[Any, ...]]
    """Hyperparameters and their values; the cells are the product."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are the same in every cell, where they differ from the `Config`'s defaults."""
    replicates: int = 3
    """Models a cell."""
    recipes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """By latent dimension: settings that replace those above in its cells."""
    needs: str | None = None
    """The experiment that each cell builds on; replicate r starts from `Config.parent_replicate(r)`
    of that cell."""
    parent_settings: tuple[str, ...] = ()
    """Settings that a cell shares with the one it builds on; what that one has besides these is
    the first value of its axis."""
    parent_choices: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    """By a setting of a cell and its value: further settings of the one it builds on."""
    builds_on_parent: Callable[[Mapping[str, Any]], bool] = lambda config: True
    """Whether the cell of this configuration needs the other experiment at all."""
    also_sets: Mapping[str, str] = field(default_factory=dict)
    """Settings that take the value of a command-line option for another one: its `epochs` are
    the few-shot classifier's, however much of it trains."""
    on_gpu: Callable[[Mapping[str, Any]], bool] = lambda config: True
    """Whether the cell of this configuration gains from a GPU, where there are any. The others
    stay on CPU cores, beside those on the GPUs."""
    probe_settings: Mapping[str, Any] = field(default_factory=lambda: {"epochs": 1})
    """Overrides for the run that measures GPU memory: soon over, and no smaller."""
    metric: str = "val_mse"
    """The column that says how good a cell is, on the validation split."""
    best: str = "min"
    """Whether less (`min`) or more (`max`) of `metric` is better."""
    settings: str | None = None
    """Importable module with `Config` and `VERSION` that doesn't import torch, where there is one:
    plans are made from it in a fraction of the time that importing torch takes."""

    def module(self) -> ModuleType:
        """The trainable's module."""
        return importlib.import_module(self.trainable)

    def recipe(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The recipe for cells with the `latent_dim` of `settings`; empty where there is none."""
        return self.recipes.get(settings.get("latent_dim", 0), {})

    def settings_module(self) -> ModuleType:
        """The module to take `Config` and `VERSION` from."""
        return importlib.import_module(self.settings or self.trainable)


@dataclass(frozen=True)
class Selection:
    """What a command asks for."""

    name: str
    """The study or experiment."""
    dataset: str
    """The dataset's name."""
    experiments: list[Experiment]
    """With the preset and the options worked in, those that others need first."""
    asked: tuple[str, ...]
    """Names of those whose whole grid was asked for; of the others, only what these need."""


AUTOENCODER = Experiment(
    name="autoencoder",
    trainable="trainables.autoencoder",
    settings="trainables.settings.autoencoder",
    axes={
        "latent_dim": (2, 6, 8, 10, 12, 14, 30),
        "depth": (2, 3),
        "batch_size": (32, 64),
    },
)

FEWSHOT = Experiment(
    name="fewshot",
    trainable="trainables.fewshot",
    settings="trainables.settings.fewshot",
    axes={
        "latent_dim": (2, 6, 8, 10, 12, 14, 30),
        "depth": (3,),
        "labels": (20, 40, 80, 160),
        "freeze": ("fixed", "full", "scratch"),
        "pretraining": ("plain",),
    },
    replicates=6,
    needs="autoencoder",
    parent_settings=("latent_dim", "depth", "width", "kernel", "activation", "seed"),
    parent_choices={"pretraining": PRETRAINING},
    builds_on_parent=lambda config: config["freeze"] != "scratch",
    also_sets={"encoder_epochs": "epochs"},
    # A head on codes that are computed once is too little work for a GPU.
    on_gpu=lambda config: config["freeze"] != "fixed",
    probe_settings={"epochs": 1, "encoder_epochs": 1},
    metric="val_accuracy",
    best="max",
)

ROTATION = Experiment(
    name="rotation",
    trainable="trainables.rotation",
    settings="trainables.settings.rotation",
    axes={"loss": ("absolute", "wrapped", "cosine", "von_mises", "sine_cosine")},
    replicates=6,
    metric="val_error",
)

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (AUTOENCODER, FEWSHOT, ROTATION)}

STUDIES: dict[str, tuple[str, ...]] = {
    "assignment": ("autoencoder", "fewshot"),
    "few-labels": ("fewshot",),
}
"""Named lists of experiments. The name of an experiment is a study too: it, and what it needs."""

STUDY_AXES: dict[str, Mapping[str, Mapping[str, tuple[Any, ...]]]] = {
    "few-labels": {
        "autoencoder": {"batch_size": (64,)},
        "fewshot": {
            "latent_dim": (32,),
            "freeze": ("fixed", "full", "scratch", "lp-ft", "propagation"),
            "pretraining": ("plain", "augmented"),
        },
    },
}
"""By study, experiment and axis: the values that replace the registry's; a preset's come after."""

STUDY_FIXED: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "few-labels": {"fewshot": {"kernel": 5, "weight_decay": 1.0}},
}
"""By study, experiment and setting: the value."""


@dataclass(frozen=True)
class Preset:
    """How much of everything: changes to the axes and fixed settings of the experiments."""

    description: str
    """One line for `--help`."""
    dataset: str
    """The dataset unless `--dataset` names another."""
    axes: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """By experiment and axis: the values that replace the registry's."""
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By experiment and setting: the value; `replicates` is the number of models a cell."""
    large: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """As `fixed`, for datasets of 10,000 training images and more, where an epoch is long."""
    recipes: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    """By experiment and latent dimension: settings that replace those of the axes and `fixed`."""

    def recipes_of(self, experiment: Experiment) -> dict[int, dict[str, Any]]:
        """The recipes of an experiment by latent dimension. Of one that it builds on, it takes
        the settings that both must share, such as the width of the encoder."""
        recipes: dict[int, dict[str, Any]] = {}
        for dim, recipe in self.recipes.get(experiment.needs or "", {}).items():
            shared = {k: v for k, v in recipe.items() if k in experiment.parent_settings}
            recipes[dim] = shared
        for dim, recipe in self.recipes.get(experiment.name, {}).items():
            recipes[dim] = {**recipes.get(dim, {}), **recipe}
        return recipes


PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        "seconds, for tests: two latent dimensions, one epoch; the numbers mean nothing",
        dataset="mnist-5k",
        axes={
            "autoencoder": {"latent_dim": (2, 8), "depth": (2,), "batch_size": (64,)},
            "fewshot": {"latent_dim": (2, 8), "depth": (2,), "labels": (20, 40)},
        },
        fixed={
            "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
            "fewshot": {"epochs": 20, "encoder_epochs": 5, "width": 4, "replicates": 2},
            "rotation": {"epochs": 1, "width": 4, "depth": 2, "replicates": 2},
        },
    ),
    "quick": Preset(
        "the default: the whole grid in minutes on two cores",
        dataset="mnist-5k",
        fixed={
            "autoencoder": {
                # As good in 4 epochs as AdamW at 0.01 in 5 (benchmarks/README.md). On all of
                # MNIST, below, that isn't known.
                "epochs": 4,
                "optimiser": "muon",
                "learning_rate": 0.02,
                "replicates": 4,
            },
            "fewshot": {
                "epochs": 200,
                "encoder_epochs": 50,
                "replicates": 8,
                "encoders": 4,
            },
            "rotation": {"epochs": 12, "replicates": 6},
        },
        large={
            "autoencoder": {
                "epochs": 1,
                "replicates": 3,
                "optimiser": "adamw",
                "learning_rate": 0.01,
            },
            "fewshot": {"encoders": 3},
            "rotation": {"epochs": 2, "replicates": 4},
        },
    ),
    "full": Preset(
        "MNIST, more replicates and epochs: for GPUs or patience",
        dataset="mnist",
        fixed={
            "autoencoder": {"epochs": 20, "replicates": 10, "width": 32},
            "fewshot": {
                "epochs": 300,
                "encoder_epochs": 100,
                "replicates": 20,
                "encoders": 10,
                "width": 32,
            },
            "rotation": {"epochs": 20, "replicates": 10, "width": 32},
        },
    ),
}


def members(name: str) -> list[Experiment]:
    """The experiments of a study or of a single experiment, those that others need first.

    Raises `KeyError` for a name that is neither.
    """
    ordered: list[Experiment] = []

    def add(experiment: Experiment) -> None:
        if experiment.needs:
            add(EXPERIMENTS[experiment.needs])
        if experiment not in ordered:
            ordered.append(experiment)

    for member in STUDIES.get(name, (name,)):
        add(EXPERIMENTS[member])
    axes, fixed = STUDY_AXES.get(name, {}), STUDY_FIXED.get(name, {})
    return [
        replace(
            experiment,
            axes={**experiment.axes, **axes.get(experiment.name, {})},
            fixed={**experiment.fixed, **fixed.get(experiment.name, {})},
        )
        for experiment in ordered
    ]
