"""The registry of experiments and studies; presets are in `study.presets`.

An experiment is a trainable, its grid axes, its fixed settings and the experiment it builds on.
To add one, write a package under `trainables/` (see that package's docstring), and add an entry
to `EXPERIMENTS` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import Any

from trainables.fewshot.settings import FREEZE, HEADS, PRETRAINING
from trainables.own import trainable_part


@dataclass(frozen=True)
class Experiment:
    """A trainable over a grid."""

    name: str
    """Its name on the command line and in the `experiment` column of every row."""
    trainable: str
    """Package or module, or path of a file, with `Config`, `VERSION` and `train`."""
    axes: Mapping[str, tuple[Any, ...]]
    """Hyperparameters and their values; the cells are the product."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are the same in every cell and differ from the `Config`'s defaults."""
    replicates: int = 3
    """Models per cell, unless the preset or an option sets another number."""
    recipes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Settings that replace those above, by the latent dimension of the cells."""
    needs: str | None = None
    """Name of the experiment with the parents of this one's cells. Replicate r of a cell starts
    from replicate `Config.parent_replicate(r)` of its parent."""
    parent_settings: tuple[str, ...] = ()
    """Settings that a cell shares with its parent. The parent's other axes are at their first
    value."""
    parent_choices: Mapping[str, Mapping[Any, Mapping[str, Any]]] = field(default_factory=dict)
    """Further settings of the parent, by a setting of the cell and its value."""
    builds_on_parent: Callable[[Mapping[str, Any]], bool] = lambda config: True
    """True if a cell with this configuration needs a parent."""
    single: tuple[str, ...] = ()
    """Settings that are the same in all cells; an option with several values sets the first."""
    check_of: str | None = None
    """Name of the experiment whose grid this one trains in part, under other settings: see
    `check`."""
    derive: Callable[[Experiment], Experiment] = lambda base: base
    """Turns the checked experiment, with preset and options applied, into this one."""
    on_gpu: Callable[[Mapping[str, Any]], bool] = lambda config: True
    """True if a cell with this configuration gains from a GPU. The others run on CPU cores
    meanwhile."""
    probe_settings: Mapping[str, Any] = field(default_factory=lambda: {"epochs": 1})
    """Overrides for the run that measures GPU memory: they shorten it, but need as much memory."""
    metric: str = "val_mse"
    """The column that ranks cells, on the validation split."""
    best: str = "min"
    """`min` if less of `metric` is better, `max` if more is."""

    def recipe(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The recipe for cells with the `latent_dim` of `settings`; empty if there is none."""
        return self.recipes.get(settings.get("latent_dim", 0), {})

    def settings_module(self) -> ModuleType:
        """The module with `Config` and `VERSION`."""
        return trainable_part(self.trainable, "settings")

    def setting(self, name: str, latent_dim: int = 0) -> Any:
        """The value of a setting that is not an axis, for cells of a latent dimension.

        Without the dimension, recipes are ignored.
        """
        defaults = {known.name: known.default for known in fields(self.settings_module().Config)}
        return {**defaults, **self.fixed, **self.recipe({"latent_dim": latent_dim})}[name]


@dataclass(frozen=True)
class Selection:
    """The experiments that a command asks for, and their data."""

    name: str
    """Name of the study or experiment."""
    experiments: list[Experiment]
    """Experiments with preset and options applied; those that others need come first."""
    asked: tuple[str, ...]
    """Names of experiments to compute in full; of the others, only the cells that these need."""
    left_out: tuple[str, ...] = ()
    """Names of experiments left out because they need labels and the images have none."""


AUTOENCODER = Experiment(
    name="autoencoder",
    trainable="trainables.autoencoder",
    axes={
        "latent_dim": (2, 6, 8, 10, 12, 14, 30),
        "depth": (2, 3),
        "batch_size": (32,),
    },
)

FEWSHOT = Experiment(
    name="fewshot",
    trainable="trainables.fewshot",
    axes={
        "latent_dim": (2, 6, 8, 10, 12, 14, 30),
        "depth": (3,),
        "labels": (10, 20, 40, 80, 160),
        "freeze": ("fixed", "full", "scratch", *HEADS),
        "pretraining": ("plain",),
    },
    replicates=8,
    needs="autoencoder",
    parent_settings=("latent_dim", "depth", "width", "kernel", "activation", "network", "seed"),
    parent_choices={"pretraining": PRETRAINING},
    builds_on_parent=lambda config: config["freeze"] != "scratch",
    single=("width", "network"),  # arms are paired by d, depth and batch size
    # A head on codes that are computed once is too little work for a GPU.
    on_gpu=lambda config: config["freeze"] not in ("fixed", *HEADS),
    metric="val_accuracy",
    best="max",
)

SUPERVISED = Experiment(
    name="supervised",
    trainable="trainables.supervised",
    axes={"labels": (10, 20, 40, 80, 160), "augment": (0.0, 1.0)},
    replicates=8,
    single=("width", "network"),
    metric="val_accuracy",
    best="max",
)

ROTATION = Experiment(
    name="rotation",
    trainable="trainables.rotation",
    axes={"loss": ("absolute", "wrapped", "cosine", "von_mises", "sine_cosine")},
    replicates=6,
    metric="val_error",
)

CHECKED_DIMS = (2, 14, 30)
"""The latent dimensions at which conclusions are checked under other settings."""

ONE_DIM = CHECKED_DIMS[1:2]
"""The latent dimension of checks that need only one."""


def restrict_axes(base: Experiment, **wanted: Sequence[Any]) -> Experiment:
    """Restrict some axes of a grid to the `wanted` values.

    An axis that has none of them keeps only its last value.
    """
    kept = {
        axis: tuple(v for v in base.axes[axis] if v in values) or base.axes[axis][-1:]
        for axis, values in wanted.items()
    }
    return replace(base, axes={**base.axes, **kept})


def vary(base: Experiment, **axes: tuple[Any, ...]) -> Experiment:
    """Add axes to a grid. Recipes no longer set what is on them."""
    recipes = {
        dim: {name: value for name, value in recipe.items() if name not in axes}
        for dim, recipe in base.recipes.items()
    }
    return replace(base, axes={**base.axes, **axes}, recipes=recipes)


def one_cell_per_arm(base: Experiment) -> Experiment:
    """The cells of one latent dimension and the deepest networks, at the first minibatch size,
    width and kind of network."""
    kept = {"latent_dim": ONE_DIM, "depth": (max(base.axes["depth"]),)}
    for name in ("batch_size", "width", "network"):
        if name in base.axes:
            kept[name] = base.axes[name][:1]
    return restrict_axes(base, **kept)


def trained_longer(base: Experiment) -> Experiment:
    """Four times the epochs, in recipes too, with half the replicates, but at least three (or all,
    if fewer)."""
    checked = restrict_axes(base, latent_dim=CHECKED_DIMS, batch_size=base.axes["batch_size"][:1])
    replicates = min(base.replicates, max(3, base.replicates // 2))
    fixed = {**base.fixed, "epochs": 4 * base.setting("epochs")}
    recipes = {
        dim: {k: 4 * v if k == "epochs" else v for k, v in recipe.items()}
        for dim, recipe in base.recipes.items()
    }
    return replace(checked, fixed=fixed, recipes=recipes, replicates=replicates)


def larger_batches(base: Experiment) -> Experiment:
    """Larger minibatches, trained for as many epochs, and for as many updates, as the smallest.

    They are max(2, ⌊largest / smallest⌋) times the smallest. With recipes, only one latent
    dimension is checked, because their epochs differ by latent dimension.
    """
    dims = ONE_DIM if base.recipes else CHECKED_DIMS
    checked = restrict_axes(base, latent_dim=dims, depth=(max(base.axes["depth"]),))
    dim = checked.axes["latent_dim"][0]
    of_recipe = base.recipe({"latent_dim": dim}).get("batch_size")
    sizes = (of_recipe,) if of_recipe else base.axes["batch_size"]
    factor = max(2, max(sizes) // min(sizes))
    epochs = base.setting("epochs", dim)
    return vary(checked, batch_size=(factor * min(sizes),), epochs=(epochs, factor * epochs))


def other_widths(base: Experiment) -> Experiment:
    """Half, once and twice the channels, at the same depth."""
    checked = one_cell_per_arm(base)
    width = base.setting("width", checked.axes["latent_dim"][0])
    return vary(checked, width=(max(1, width // 2), width, 2 * width))


def other_betas(base: Experiment) -> Experiment:
    """Variational autoencoders at one place, from a low to a high weight of the prior."""
    checked = one_cell_per_arm(base)
    fixed = {**checked.fixed, "objective": "variational"}
    return vary(replace(checked, fixed=fixed), beta=(0.01, 0.1, 1.0))


def fixed_against_full(base: Experiment) -> Experiment:
    """Arms `fixed` and `full` at one place, with few and many labels and half the replicates."""
    known = base.axes["labels"]
    labels = known[min(1, len(known) - 1)], known[-1]
    arms = {"freeze": ("fixed", "full"), "pretraining": ("plain",)}
    checked = restrict_axes(one_cell_per_arm(base), labels=labels, **arms)
    return replace(checked, replicates=max(2, base.replicates // 2))


def other_steps(base: Experiment) -> Experiment:
    """Half, once, twice and four times the steps."""
    checked = fixed_against_full(base)
    epochs = base.setting("epochs", checked.axes["latent_dim"][0])
    return vary(checked, epochs=(max(1, epochs // 2), epochs, 2 * epochs, 4 * epochs))


def other_rates(base: Experiment) -> Experiment:
    """A third, once and three times every learning rate."""
    return vary(fixed_against_full(base), rate_factor=(1 / 3, 1.0, 3.0))


def check(name: str, base: Experiment, derive: Callable[[Experiment], Experiment]) -> Experiment:
    """Make an experiment that trains part of another one's grid under other settings.

    Preset and options of `base` apply to the check too.
    """
    return replace(derive(base), name=name, check_of=base.name, derive=derive)


CHECKS = (
    check("longer", AUTOENCODER, trained_longer),
    check("batches", AUTOENCODER, larger_batches),
    check("widths", AUTOENCODER, other_widths),
    check("betas", AUTOENCODER, other_betas),
    check("steps", FEWSHOT, other_steps),
    check("rates", FEWSHOT, other_rates),
)
"""Experiments that check the conclusions of others."""

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e for e in (AUTOENCODER, FEWSHOT, SUPERVISED, ROTATION, *CHECKS)
}

STUDIES: dict[str, tuple[str, ...]] = {
    "assignment": ("autoencoder", "fewshot", "supervised", *(check.name for check in CHECKS)),
    "few-labels": ("fewshot", "supervised"),
}
"""Named lists of experiments. An experiment's name is a study too: it and those that it needs."""

STUDY_AXES: dict[str, Mapping[str, Mapping[str, tuple[Any, ...]]]] = {
    "few-labels": {
        "autoencoder": {"batch_size": (64,)},
        "fewshot": {
            "latent_dim": (32,),
            "freeze": FREEZE,
            "pretraining": ("plain", "augmented", "contrastive"),
        },
    },
}
"""Values that replace the registry's, by study, experiment and axis; a preset's replace these."""

STUDY_FIXED: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "few-labels": {"fewshot": {"kernel": 5, "weight_decay": 1.0}},
}
"""Values of fixed settings, by study, experiment and setting."""


@dataclass(frozen=True)
class Preset:
    """The size of a study: changes to the axes and fixed settings of the experiments."""

    description: str
    """One line for `--help`."""
    dataset: str
    """The dataset unless `--dataset` names another."""
    axes: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """Values that replace the registry's, by experiment and axis."""
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values of settings, by experiment and setting; `replicates` means models per cell."""
    large: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """As `fixed`, for datasets of at least 10,000 training images, whose epochs are long."""
    recipes: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    """Settings that replace those of the axes and `fixed`, by experiment and latent dimension."""

    def recipes_of(self, experiment: Experiment) -> dict[int, dict[str, Any]]:
        """The recipes of an experiment, by latent dimension.

        The parent's recipes are included for the settings that both must share, such as the width
        of the encoder.
        """
        recipes: dict[int, dict[str, Any]] = {}
        for dim, recipe in self.recipes.get(experiment.needs or "", {}).items():
            shared = {k: v for k, v in recipe.items() if k in experiment.parent_settings}
            recipes[dim] = shared
        for dim, recipe in self.recipes.get(experiment.name, {}).items():
            recipes[dim] = {**recipes.get(dim, {}), **recipe}
        return recipes


def members(name: str) -> list[Experiment]:
    """The experiments of a study, or a single experiment, after those that they need.

    Raises `KeyError` for a name that is neither.
    """
    ordered: list[Experiment] = []

    def add(experiment: Experiment) -> None:
        for base in (experiment.needs, experiment.check_of):
            if base:
                add(EXPERIMENTS[base])
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
