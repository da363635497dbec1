"""Optimisers of stacked parameters (R, …), one per module, and the schedule they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from trainables.optimisers.adamw import AdamW as AdamW
from trainables.optimisers.muon import Muon as Muon
from trainables.optimisers.schedule import Schedule as Schedule


class Optimiser(Protocol):
    """An optimiser as training uses it."""

    def step(self) -> None:
        """Update every parameter from its gradient, and count the step in the schedule."""

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step changes and depends on, besides parameters and step count."""

    def resume(self, steps_taken: int) -> None:
        """Continue after `steps_taken` steps; the caller fills `tensors()` with their values."""


Make = Callable[[Mapping[str, Tensor], Schedule, float], Optimiser]
"""Makes an optimiser from parameters by name, their learning rates and the weight decay: `AdamW`,
`Muon`."""
