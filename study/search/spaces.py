"""What `study search` varies: the registry of search spaces, one an experiment.

One more line adds a dimension. A dimension is the name of a setting of the trainable's `Config`
and where its values come from; a space has the default of each inside it, since a search starts
with the recipe that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from trainables.settings.fewshot import Config as FewShot

if TYPE_CHECKING:  # the command line's help needs names alone
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Real:
    """A number between two bounds, on a logarithmic scale unless `log` is false."""

    name: str
    """The setting."""
    low: float
    """Its least value."""
    high: float
    """Its largest value."""
    log: bool = True
    """Whether a factor matters, as of a learning rate, or a difference."""
    applies: Callable[[Mapping[str, Any]], bool] = lambda settings: True
    """Whether the dimension means anything, given all settings as a search starts with them."""

    def distribution(self) -> BaseDistribution:
        """The same to Optuna."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a search could find this value."""
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice:
    """One of a few values, in no order."""

    name: str
    """The setting."""
    values: tuple[Any, ...]
    """What there is to choose from."""
    applies: Callable[[Mapping[str, Any]], bool] = lambda settings: True
    """As `Real.applies`."""

    def distribution(self) -> BaseDistribution:
        """The same to Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def holds(self, value: Any) -> bool:
        """Whether a search could find this value."""
        return value in self.values


@dataclass(frozen=True)
class Steps:
    """A whole number between two bounds, in steps."""

    name: str
    """The setting."""
    low: int
    """Its least value."""
    high: int
    """Its largest value, a whole number of steps above."""
    step: int = 1
    """From one value to the next."""
    applies: Callable[[Mapping[str, Any]], bool] = lambda settings: True
    """As `Real.applies`."""

    def distribution(self) -> BaseDistribution:
        """The same to Optuna."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, step=self.step)

    def holds(self, value: Any) -> bool:
        """Whether a search could find this value."""
        return self.low <= value <= self.high and (value - self.low) % self.step == 0


Dimension: TypeAlias = Real | Choice | Steps


@dataclass(frozen=True)
class Space:
    """What is searched of an experiment, and where on its grid."""

    dimensions: tuple[Dimension, ...]
    """What varies, unless the command line gives it a value."""
    place: Mapping[str, Any] = field(default_factory=dict)
    """The values of the grid's other axes, unless the command line gives others: a search is for
    one point of them."""

    def at(self, settings: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Dimension, ...]:
        """The dimensions that are left once those of `given` have values, and that mean anything
        with `settings`, which are all that the experiment has."""
        return tuple(d for d in self.dimensions if d.name not in given and d.applies(settings))


def arm(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """What tells of settings whether a few-shot classifier is made in one of these ways."""
    return lambda settings: settings["freeze"] in names


def sees_views(settings: Mapping[str, Any]) -> bool:
    """Whether a few-shot classifier of these settings learns from augmented views."""
    return FewShot(**settings).sees_views


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
        place={"latent_dim": 14, "depth": 3},
    ),
    "fewshot": Space(
        dimensions=(
            Real("learning_rate", 1e-3, 1e-1),
            Real("encoder_learning_rate", 1e-5, 1e-2, applies=arm("full", "scratch")),
            Real("tuning_learning_rate", 1e-5, 1e-2, applies=arm("lp-ft")),
            Real("weight_decay", 1e-4, 1.0),
            Steps("hidden", 16, 128, step=16),
            Steps("width", 8, 32, step=8, applies=arm("scratch")),
            Choice("kernel", (3, 5), applies=arm("scratch")),
            Choice("activation", ("gelu", "silu", "relu"), applies=arm("scratch")),
            Real("view_strength", 0.0, 2.0, log=False, applies=sees_views),
            Real("alpha", 0.8, 0.999, log=False, applies=arm("propagation")),
            Steps("neighbours", 5, 25, step=5, applies=arm("propagation")),
        ),
        place={
            "latent_dim": 14,
            "depth": 3,
            "labels": 80,
            "freeze": "fixed",
            "pretraining": "plain",
        },
    ),
}
"""By experiment. Those that aren't here can't be searched."""
