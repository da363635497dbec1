"""Short versions of blocks, to measure the memory or the time that a block needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from study.grid import Cell, has_setting
from trainables.contract import Report
from trainables.data import Dataset
from trainables.own import trainable_part


@dataclass(frozen=True)
class Probe:
    """A shortened block."""

    trainable: str
    """Importable module that computes it."""
    config: dict[str, Any]
    """All settings, with few epochs."""
    replicates: range
    """The replicates of the block."""
    parent: Probe | None
    """Its parent's probe. The parent need not exist yet: it is trained for as few epochs."""


def probe_of(cell: Cell, replicates: range) -> Probe:
    """The block with `Experiment.probe_settings`: it ends soon, and is no smaller."""
    experiment = cell.experiment
    short = {k: v for k, v in experiment.probe_settings.items() if has_setting(experiment, k)}
    parent = None
    if cell.parent:
        needed = [cell.settings.parent_replicate(replicate) for replicate in replicates]
        parent = probe_of(cell.parent, range(min(needed), max(needed) + 1))
    return Probe(experiment.trainable, {**cell.config, **short}, replicates, parent)


def train(probe: Probe, data: Dataset, parent: Any) -> dict[int, dict[str, Any]]:
    """Train a probe, and return its weights by replicate."""
    module = trainable_part(probe.trainable, "train")
    config = module.Config(**probe.config)
    outcome = module.train(config, probe.replicates, data, Report(), parent)
    return {
        replicate: {name: value[row].cpu() for name, value in outcome.weights.items()}
        for row, replicate in enumerate(probe.replicates)
    }
