"""The interface between `trainables` and `study`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from trainables.data import Dataset

if TYPE_CHECKING:  # settings are checked and cells counted without torch
    import torch

Parent: TypeAlias = "Mapping[int, Mapping[str, torch.Tensor]]"
"""Weights of each of the parent's models, by replicate number."""


@dataclass(frozen=True)
class Report:
    """Called once an epoch (or once every few) with the metrics so far, averaged over replicates.

    A search compares trials by the experiment's metric after a few epochs. Reporting this metric
    after every epoch is enough; if that is too expensive, after the epochs in `score_after`.
    """

    send: Callable[[Mapping[str, float]], object] = lambda metrics: None
    """Takes the metrics; by default nobody does."""
    score_after: Collection[int] = ()
    """Epochs after which a search compares trials; empty without a search."""

    def __call__(self, metrics: Mapping[str, float]) -> None:
        """Report these metrics."""
        self.send(metrics)


class ConfigError(ValueError):
    """A setting that no trial can run with. The message names it, its value and what is allowed."""

    def __init__(self, field_name: str, value: object, allowed: str) -> None:
        super().__init__(f"{field_name} = {value!r}: {allowed}")
        self.field_name = field_name
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[Any, ...]:  # needed to pickle an exception with own arguments
        return type(self), (self.field_name, self.value, self.allowed)


class Settings:
    """Base class of every trainable's `Config`, a frozen dataclass with a field `seed`.

    A `Config` checks its values in `__post_init__`, by `require` and the methods `require_…`, which
    raise `ConfigError`. These methods build the message only on failure, because a plan makes
    100,000 settings.
    """

    def require_at_least(self, least: int, *names: str) -> None:
        """Require that the settings with these `names` are at least `least`."""
        for name in names:
            if not getattr(self, name) >= least:
                raise ConfigError(name, getattr(self, name), f"an integer of at least {least}")

    def require_above_0(self, *names: str) -> None:
        """Require that the settings with these `names` are above 0."""
        for name in names:
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "a number above 0")

    def require_between(self, low: int, high: int, *names: str) -> None:
        """Require that the settings with these `names` are from `low` to `high`."""
        for name in names:
            if not low <= getattr(self, name) <= high:
                raise ConfigError(name, getattr(self, name), f"a number from {low} to {high}")

    def require_one_of(self, choices: Collection[str], name: str) -> None:
        """Require that the setting with this `name` is one of the `choices`."""
        if getattr(self, name) not in choices:
            raise ConfigError(name, getattr(self, name), " or ".join(choices))

    @property
    def scored_epochs(self) -> range:
        """Epochs after which a search can compare trials, including the last.

        By default, every epoch up to the setting `epochs`.
        """
        return range(1, getattr(self, "epochs", 1) + 1)

    def work(self, images: int) -> float:
        """Number of images a replicate learns from, each counted as often as it is seen.

        Training time grows with it. By default: `epochs` passes over the `images` training images.
        """
        return float(getattr(self, "epochs", 1) * images)

    def parent_replicate(self, replicate: int) -> int:
        """Number of the parent's replicate that `replicate` builds on; by default the same."""
        return replicate

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` if these settings don't fit `data`; by default they always fit."""


def added_field(default: Any) -> Any:
    """Return a `Config` field that was added after cells had been computed without it.

    The default reproduces those cells. A field at its default is left out of a cell's id, so those
    cells keep their ids and aren't computed again.
    """
    return field(default=default, metadata={"added": True})


def added_defaults(config: Any) -> dict[str, Any]:
    """Defaults by name of the fields that a `Config` class made with `added_field`."""
    return {entry.name: entry.default for entry in fields(config) if entry.metadata.get("added")}


def require(condition: bool, field_name: str, value: object, allowed: str) -> None:
    """Raise `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(field_name, value, allowed)


PRECISIONS = ("float32", "tf32", "bfloat16")
"""Precisions of matrix products and convolutions in training: see `NetworkSettings.precision`."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Settings of every experiment that trains networks; it also has `epochs`, `learning_rate`."""

    weight_decay: float = 1e-2
    """The optimiser's decoupled weight decay."""
    precision: str = added_field("float32")
    """Precision of matrix products and convolutions in training: `float32`; or `tf32` or
    `bfloat16`, which the tensor cores of a GPU compute faster. Errors and accuracies are computed
    in float32."""
    seed: int = 0
    """Replicate r's generators are seeded from this and r."""

    def __post_init__(self) -> None:
        self.require_at_least(1, "epochs")
        self.require_above_0("learning_rate")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or a number above")
        self.require_one_of(PRECISIONS, "precision")
        self.require_at_least(0, "seed")


class Diverged(RuntimeError):
    """A replicate's loss, error or weights are no longer finite, so its whole cell fails.

    Dropping only that replicate would bias the mean of the others.
    """


def require_finite(values: torch.Tensor, replicates: Iterable[int], name: str) -> None:
    """Raise `Diverged` unless all `values` (R,) are finite.

    `name` says what the values are; the message also names the replicates that are not finite.
    """
    finite = values.isfinite().tolist()
    if not all(finite):
        numbers = ", ".join(str(r) for r, ok in zip(replicates, finite, strict=True) if not ok)
        raise Diverged(f"{name} of replicate {numbers} is not a finite number")


@dataclass(frozen=True)
class Progress:
    """The state of a block after an epoch: all that the remaining epochs depend on."""

    epoch: int
    """The last finished epoch."""
    tensors: Mapping[str, torch.Tensor]
    """Tensors of any shape, on any device."""
    numbers: Mapping[str, Any]
    """All other state, as JSON values; JSON keeps every bit of a float."""


class Checkpoint(Protocol):
    """Storage for a block in progress, so that the next try continues from there.

    If `train` has a parameter `checkpoint`, it gets a `Checkpoint` or None, and passes it to
    `trainables.training.fit`. Without that parameter, it starts again after an interruption.
    """

    def due(self) -> bool:
        """Return whether enough time has passed since the last save to save again."""

    def save(self, progress: Progress) -> None:
        """Replace the saved progress, atomically."""

    def load(self) -> Progress | None:
        """Return the saved progress, with its tensors on the CPU, or None."""


@dataclass(frozen=True)
class Outcome:
    """A finished block, before it is written."""

    rows: list[dict[str, Any]]
    """Final metrics: one dictionary per replicate, in their order, with its number under
    `replicate`."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics during training: one dictionary per replicate and epoch."""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Parameters and buffers, stacked over replicates: (R, …) each, on any device."""
    predictions: np.ndarray | None = None
    """Predicted class of every test image, (R, N_test) uint8, or its predicted angle in degrees,
    (R, N_test) float32."""
    networks: Sequence[torch.nn.Module] = ()
    """The R trained classifiers, if they are networks. They aren't stored: to get a network, train
    its replicate again."""


def record(
    history: list[dict[str, Any]],
    report: Report,
    replicates: Iterable[int],
    epoch: int,
    metrics: Mapping[str, torch.Tensor],
    **cell_values: float,
) -> None:
    """Add the `metrics` (R,) of an epoch to the history, and report their means.

    The history gets one line per replicate; the report also gets `cell_values`.
    """
    columns = {name: values.tolist() for name, values in metrics.items()}
    history += lines(replicates, {"epoch": epoch}, columns)
    means = {name: values.mean().item() for name, values in metrics.items()}
    report({"epoch": epoch, **means, **cell_values})


def lines(
    replicates: Iterable[int], common: Mapping[str, Any], columns: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """One line per replicate: its number, the `common` values, and its value of each column.

    Each of the `columns` holds R values.
    """
    rows = zip(*columns.values(), strict=True)
    return [
        {"replicate": replicate, **common, **dict(zip(columns, row, strict=True))}
        for replicate, row in zip(replicates, rows, strict=True)
    ]
