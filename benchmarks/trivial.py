"""A trainable that computes nothing: what is left is the study's own cost."""

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
    """Of everything random, which is nothing."""


def train(
    config: Config, replicates: range, data: Dataset, report: Report, parent: Parent | None = None
) -> Outcome:
    """A row a replicate."""
    return Outcome(rows=[{"replicate": r, "val_mse": config.number + r} for r in replicates])
