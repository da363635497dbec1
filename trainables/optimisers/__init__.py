"""Optimisers of stacked parameters (R, …), one per module, and the schedule they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from trainables.optimisers.adamw import AdamW as AdamW
from trainables.optimisers.muon import Muon as Muon


class Optimiser(Protocol):
    """An optimiser as training uses it."""

    @property
    def steps_taken(self) -> int:
        """Steps so far."""

    def step(self) -> None:
        """Update every parameter from its gradient."""

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, besides the parameters and `steps_taken`."""

    def resume(self, steps_taken: int, tensors: Mapping[str, Tensor]) -> None:
        """Continue after `steps_taken` steps, with what `tensors()` returned then."""


Make = Callable[[Mapping[str, Tensor], Mapping[str, float], int, float, float], Optimiser]
"""Makes an optimiser from parameters by name, peak learning rates by prefix, the number of steps,
the weight decay, and the share of the steps during which the rates rise: `AdamW`, `Muon`."""
