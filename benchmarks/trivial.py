"""A trainable that computes nothing, so that only the study's own cost is left."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.contract import Outcome, Parent, Report, Settings
from trainables.data import Dataset

VERSION = 1


@dataclass(frozen=True)
class Config(Settings):
    """Settings of a cell."""

    number: int = 0
    """The axis of the grid."""
    seed: int = 0
    """Unused: nothing is random."""


def train(
    config: Config, replicates: range, data: Dataset, report: Report, parent: Parent | None = None
) -> Outcome:
    """Return one row per replicate."""
    return Outcome(rows=[{"replicate": r, "val_mse": config.number + r} for r in replicates])
