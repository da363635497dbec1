"""The whole interface between `trainables` and `study`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from trainables.data import Dataset

if TYPE_CHECKING:  # so that settings can be checked, and cells counted, without torch
    import torch

Report = Callable[[Mapping[str, float]], None]
"""Called once an epoch (or once a few) with the metrics so far, averaged over replicates.

A search compares trials by the experiment's metric after a few epochs. A `train` that reports it
after every epoch does enough. One to which that is too dear has a parameter of the name
`score_after`, a sequence of epochs, and reports it after these alone.
"""

Parent: TypeAlias = "Mapping[int, Mapping[str, torch.Tensor]]"
"""By number of the parent's replicate, the weights of that one model."""


class ConfigError(ValueError):
    """A setting that no trial could run with: says which, what it was and what is allowed."""

    def __init__(self, field_name: str, value: object, allowed: str) -> None:
        super().__init__(f"{field_name} = {value!r}: {allowed}")
        self.field_name = field_name
        self.value = value
        self.allowed = allowed

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions with own arguments need it to be pickled
        return type(self), (self.field_name, self.value, self.allowed)


class Settings:
    """Base of every trainable's `Config`: a frozen dataclass with a field `seed` that checks its
    values in `__post_init__`."""

    @property
    def scored_epochs(self) -> range:
        """The epochs after which a search can compare trials, the last included: by default all
        of the setting `epochs`."""
        return range(1, getattr(self, "epochs", 1) + 1)

    def work(self, images: int) -> float:
        """Images that a replicate learns from, each as often as it is seen, of so many training
        images: what its seconds grow with. By default `epochs` passes over all of them."""
        return float(getattr(self, "epochs", 1) * images)

    def parent_replicate(self, replicate: int) -> int:
        """Number of the parent's replicate that `replicate` builds on; by default the same."""
        return replicate

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` where these settings don't fit `data`; by default all do."""


def added(default: Any) -> Any:
    """A field of a `Config` that came after cells had been computed without it.

    At its default, which is what those cells did, it is left out of a cell's id: they keep
    theirs, and nothing is computed again.
    """
    return field(default=default, metadata={"added": True})


def added_defaults(config: Any) -> dict[str, Any]:
    """The fields of a `Config` class made by `added`, and their defaults."""
    return {known.name: known.default for known in fields(config) if known.metadata.get("added")}


class Diverged(RuntimeError):
    """A replicate's loss stopped being a finite number, so its whole cell has failed.

    Dropping only that replicate would leave the survivors, whose mean is biased.
    """


def require(condition: bool, field_name: str, value: object, allowed: str) -> None:
    """Raise `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(field_name, value, allowed)


def require_finite(values: torch.Tensor, replicates: Iterable[int], what: str) -> None:
    """Raise `Diverged`, naming the `replicates`, unless all of their `values` (R,) are finite."""
    finite = values.isfinite().tolist()
    if not all(finite):
        names = ", ".join(str(r) for r, fine in zip(replicates, finite, strict=True) if not fine)
        raise Diverged(f"{what} of replicate {names} is not a finite number")


@dataclass(frozen=True)
class Progress:
    """A cell after one of its epochs: all that the remaining ones depend on."""

    epoch: int
    """The last finished one."""
    tensors: Mapping[str, torch.Tensor]
    """Of any shapes, on any device."""
    numbers: Mapping[str, Any]
    """The rest, as JSON can hold it (which keeps every bit of a float)."""


class Checkpoint(Protocol):
    """Where a cell in progress is kept, so that whoever tries it next goes on from there.

    A `train` that has a parameter of the name `checkpoint` is given one, or None; it hands it to
    `trainables.training.fit`. One without it starts anew after an interruption.
    """

    def due(self) -> bool:
        """Whether enough time has passed since the last save for another one to be worth it."""

    def save(self, progress: Progress) -> None:
        """Replace what is kept, in one step."""

    def load(self) -> Progress | None:
        """The kept progress, its tensors on the CPU; None where nothing is."""


@dataclass(frozen=True)
class Outcome:
    """A finished block, before it is written."""

    rows: list[dict[str, Any]]
    """The final metrics, one dictionary a replicate, in the order of the replicates, whose numbers
    are under `replicate`."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Metrics along the way: one dictionary a replicate and epoch."""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Parameters and buffers, stacked over replicates: (R, …) each, on any device."""
    predictions: np.ndarray | None = None
    """Predicted class of every test image, (R, N_test) uint8, or its predicted angle in degrees,
    (R, N_test) float32."""
    networks: Sequence[torch.nn.Module] = ()
    """The R trained classifiers, where they are networks. No store keeps them: a replicate is
    trained again where one is needed."""
