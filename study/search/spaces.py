"""The search spaces of `study search`, one for each experiment.

To add a dimension, add a line: a setting of the trainable's `Config`, with the values that Optuna
may suggest. The setting's default should be one of them, as a search starts there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from trainables.fewshot.settings import HEADS, ON_ALL_IMAGES
from trainables.fewshot.settings import Config as FewShot

if TYPE_CHECKING:  # --help needs only names; importing Optuna takes long
    from optuna.distributions import BaseDistribution


Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Setting:
    """A setting that a search varies: see `Dimension`."""

    name: str
    applies: Condition = field(default=lambda settings: True, kw_only=True)
    """True if the setting has an effect on an experiment with these settings."""


@dataclass(frozen=True)
class Real(Setting):
    """A number from `low` to `high`, on a logarithmic scale unless `log` is false."""

    low: float
    high: float
    log: bool = True

    @property
    def values(self) -> tuple[float] | None:
        return (self.low,) if self.low == self.high else None

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice(Setting):
    """One of a few `values`, in no order."""

    values: tuple[Any, ...]

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def contains(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Steps(Setting):
    """An integer from `low` to `high` in steps of `step`, which divides their difference."""

    low: int
    high: int
    step: int = 1

    @property
    def values(self) -> range:
        return range(self.low, self.high + 1, self.step)

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, step=self.step)

    def contains(self, value: Any) -> bool:
        return value in self.values


Dimension: TypeAlias = Real | Choice | Steps
"""`distribution` describes the values to Optuna; `contains` tests a value; `values` are all values,
or None if there are infinitely many."""


@dataclass(frozen=True)
class Space:
    """The dimensions of an experiment's search, and defaults for the other axes of the grid."""

    dimensions: tuple[Dimension, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """A value for each axis that is not searched, unless the command line gives another."""

    def at(self, settings: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """The dimensions that apply with `settings` and have no value in `given`."""
        return tuple(d for d in self.dimensions if d.name not in given and d.applies(settings))


def arm(*names: str) -> Condition:
    """Condition that `--freeze` is one of `names`."""
    return lambda settings: settings["freeze"] in names


def sees_views(settings: Mapping[str, Any]) -> bool:
    """True if the few-shot classifier learns from augmented views."""
    return FewShot(**settings).sees_views or settings["freeze"] == "consistency"


def has_gradients(settings: Mapping[str, Any]) -> bool:
    """True if the few-shot classifier is trained by gradients, not by scikit-learn."""
    return settings["freeze"] not in HEADS


def has_head(settings: Mapping[str, Any]) -> bool:
    """True if the few-shot classifier has the MLP head."""
    return settings["freeze"] not in ("consistency", *HEADS)


ENCODER = {"latent_dim": 14, "depth": 3}
"""Defaults of both spaces on the axes of the encoder."""

SPACES: dict[str, Space] = {
    "autoencoder": Space(
        dimensions=(
            Real("learning_rate", 1e-3, 4e-2),
            Real("weight_decay", 1e-4, 1.0),
            Steps("width", 8, 32, step=8),
            Choice("kernel", (3, 5)),
            Choice("activation", ("gelu", "silu", "relu")),
            Choice("batch_size", (16, 32, 64, 128)),
            Choice("optimiser", ("adamw", "muon")),
            Real("warm_up", 0.02, 0.5, log=False),
            Real("noise", 0.0, 0.3, log=False),
            Real("augment", 0.0, 1.0, log=False),
        ),
        defaults=ENCODER,
    ),
    "fewshot": Space(
        dimensions=(
            Real("learning_rate", 1e-3, 1e-1, applies=has_gradients),
            Real("encoder_learning_rate", 1e-5, 1e-2, applies=arm("full", "scratch")),
            Real("tuning_learning_rate", 1e-5, 1e-2, applies=arm("lp-ft")),
            Real("weight_decay", 1e-4, 1.0, applies=has_gradients),
            Steps("hidden", 16, 128, step=16, applies=has_head),
            Steps("width", 8, 32, step=8, applies=arm("scratch")),
            Choice("kernel", (3, 5), applies=arm("scratch")),
            Choice("activation", ("gelu", "silu", "relu"), applies=arm("scratch")),
            Real("view_strength", 0.0, 2.0, log=False, applies=sees_views),
            Real("alpha", 0.8, 0.999, log=False, applies=arm(*ON_ALL_IMAGES)),
            Steps("neighbours", 5, 25, step=5, applies=arm(*ON_ALL_IMAGES)),
        ),
        defaults={**ENCODER, "labels": 80, "freeze": "fixed", "pretraining": "plain"},
    ),
}
"""Search space of each experiment; an experiment without one can't be searched."""
