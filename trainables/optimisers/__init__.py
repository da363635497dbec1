"""Optimisers of stacked parameters (R, …), one per module, and the schedule they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from trainables.optimisers.adamw import AdamW as AdamW
from trainables.optimisers.muon import Muon as Muon
from trainables.optimisers.schedule import Schedule as Schedule

Optimiser = AdamW | Muon

MakeOptimiser = Callable[[Mapping[str, Tensor], Schedule, float], Optimiser]
"""(parameters by name, schedule of their rates, weight decay) -> optimiser; `AdamW` or `Muon`."""
