"""Number of trials that share a GPU, limited by its memory, its cores and the blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.words import counted

if TYPE_CHECKING:
    from study.queue import Task

RESERVED_FRACTION = 0.1
"""Fraction of a GPU's memory that no trial gets. Blocks aren't measured to the end, and torch's
allocator leaves gaps."""

CONTEXT_BYTES = 2**30
"""Maximum bytes of a GPU that a process takes besides its tensors: the CUDA context, the kernels
and the libraries' workspaces. torch's allocator doesn't count them."""

RAY_UNITS = 10_000
"""Units of a resource: Ray counts in ten-thousandths."""

MAX_TRIALS = 99
"""Maximum trials on a GPU. For each k up to this, k shares of ⌊10,000 / k⌋ ten-thousandths fit, and
k + 1 don't."""


@dataclass(frozen=True)
class Hardware:
    """The GPUs that trials share."""

    gpus: int
    """Number of GPUs."""
    cores: float
    """CPU cores for each GPU, on the node that has the fewest."""
    usable: int | None
    """Bytes that no other process holds on the fullest GPU seen; None if torch sees none."""


def trials_per_gpu(
    need: int | None, hardware: Hardware, blocks: int, cpus_per_trial: float = 1
) -> int:
    """Number of trials of `need` bytes each to put on a GPU, at least 1.

    It is limited by memory, by CPU cores, and by `blocks`, so that every GPU is busy. It is 1 if
    the need is unknown, or larger than the GPU: then the trial fails with its own error.
    """
    if need is None or hardware.usable is None:
        return 1
    by_memory = int(hardware.usable * (1 - RESERVED_FRACTION)) // need
    by_blocks = math.ceil(blocks / hardware.gpus)
    by_cores = int(hardware.cores / cpus_per_trial)
    return max(1, min(by_memory, by_blocks, by_cores, MAX_TRIALS))


def share_of(trials: int) -> float:
    """Fraction of a GPU that each of `trials` gets: 1/k, rounded down to Ray's resolution."""
    return RAY_UNITS // trials / RAY_UNITS


def trials_of(share: float) -> int:
    """Number of trials of this `share` that a GPU holds: the inverse of `share_of`."""
    return RAY_UNITS // max(1, round(share * RAY_UNITS)) if share < 1 else 1


def size(task: Task) -> int:
    """Proxy for a task's memory, to compare tasks of one experiment.

    It is the product of the integer settings on the axes and the number of replicates.
    """
    values = [task.cell.config.get(axis) for axis in task.cell.experiment.axes]
    counts = [value for value in values if type(value) is int]  # not bool
    return math.prod(max(1, count) for count in counts) * len(task.replicates)


def group_by_kind(tasks: Iterable[Task]) -> list[list[Task]]:
    """Tasks grouped by kind."""
    groups: dict[tuple[object, ...], list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.kind, []).append(task)
    return list(groups.values())


def largest(tasks: Sequence[Task]) -> list[Task]:
    """The largest task of each kind, to be measured."""
    return [max(group, key=size) for group in group_by_kind(tasks)]


def describe(trials: int, need: int | None, hardware: Hardware, blocks: int, why: str) -> str:
    """`4 trials per GPU (1.8 GiB each of 79.2 GiB, 28 blocks, 2 GPUs)`, then `why`, if any."""
    details = f"{counted(blocks, 'block')}, {counted(hardware.gpus, 'GPU')}"
    if need is not None and hardware.usable is not None:
        details = f"{need / 2**30:.1f} GiB each of {hardware.usable / 2**30:.1f} GiB, {details}"
    return f"{counted(trials, 'trial')} per GPU ({details})" + (f": {why}" if why else "")
