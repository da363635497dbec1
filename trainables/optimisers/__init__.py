"""Optimisers of stacked parameters (R, …): a module each, and the schedule that all follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from trainables.optimisers.adamw import AdamW
from trainables.optimisers.muon import Muon


class Optimiser(Protocol):
    """An optimiser as training uses it."""

    @property
    def taken(self) -> int:
        """Steps so far."""

    def step(self) -> None:
        """Move every parameter by its gradient."""

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, besides the parameters and `taken`."""

    def resume(self, taken: int, tensors: Mapping[str, Tensor]) -> None:
        """Go on after so many steps, with what `tensors()` was then."""


def optimiser_of(
    parameters: Mapping[str, Tensor],
    peaks: Mapping[str, float],
    steps: int,
    weight_decay: float,
    warm_up: float,
    muon: str | None = None,
) -> Optimiser:
    """AdamW, or Muon for the matrices whose names start with `muon` and AdamW for the rest."""
    if muon is None:
        return AdamW(parameters, peaks, steps, weight_decay, warm_up)
    return Muon(parameters, peaks, steps, weight_decay, warm_up, muon)
