"""Faults that end a trial, and which of them are worth another try."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Any

from study.errors import StoreError

TRIES = 4
"""Tries of a block whose worker dies each time: it may be the block that kills it."""

HOST_LOSSES = 3
"""Blocks that a host loses in a row before it gets no more."""

GPU_START = re.compile(
    r"CU\w+_STATUS_NOT_INITIALIZED|CUDA initialization|[Nn]o CUDA(-capable device| GPUs)"
    r"|CUDA driver|busy or unavailable|initialization error|ECC|GPU is lost|fallen off the bus"
)
"""Messages of CUDA, cuBLAS and cuDNN about a GPU that is out of order."""


class Fault(Enum):
    """A kind of fault that ends a trial."""

    OWN = "an error of its own"
    LOST = "its worker or host failed"
    HOST_MEMORY = "the host's memory ran out"
    GPU_MEMORY = "the GPU's memory, or its share of it, was too small"


class OtherCode(RuntimeError):
    """A worker has other sources than the driver, so its results would have wrong ids."""


class TrialFailed(RuntimeError):
    """Some blocks of a trial have no result."""

    def __init__(self, fault: Fault, error: str, node: str, own: Mapping[str, str]) -> None:
        super().__init__(f"{error or '; '.join(own.values())}")
        self.fault = fault
        """The kind of the fault."""
        self.error = error
        """The traceback of the block that ended it; empty where all of them were tried."""
        self.node = node
        """Id of the node it ran on."""
        self.own = own
        """By name: the tracebacks of blocks that failed by themselves."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.fault, self.error, self.node, dict(self.own))


def fault_of(error: BaseException) -> Fault:
    """The kind of an exception, in the worker that raised it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return Fault.GPU_MEMORY
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Fault.HOST_MEMORY  # by Python, by torch's allocator
    if isinstance(error, RuntimeError) and GPU_START.search(str(error)):
        return Fault.LOST
    # No configuration makes a file unreadable: a stale handle, a folder that is not mounted, a
    # bucket out of reach. A damaged block is the same from everywhere.
    from study.store import DamagedBlock

    if isinstance(error, OSError | StoreError | OtherCode) and not isinstance(error, DamagedBlock):
        return Fault.LOST
    return Fault.OWN


def failure_message(fault: Fault, error: str, gpus: float) -> str:
    """The error as the store keeps it: its last line is the reason, and says what to do."""
    if fault is Fault.GPU_MEMORY and gpus:
        where = "a whole GPU" if gpus == 1 else f"{gpus:g} GPUs"
        advice = f"one replicate doesn't fit {where}; smaller --batch-sizes take less"
    elif fault is Fault.HOST_MEMORY:
        advice = (
            f"the host's memory ran out in {TRIES} tries, the last one alone; "
            "fewer --replicates or smaller --batch-sizes take less"
        )
    else:
        return error
    return f"{error}\nOutOfMemoryError: {advice}"


class Hosts:
    """Which hosts have lost their latest blocks."""

    def __init__(self) -> None:
        self.excluded: dict[str, str] = {}
        """By id of the node: why it gets no more blocks."""
        self._losses: Counter[str] = Counter()

    def succeeded(self, node: str) -> None:
        """A block was computed there."""
        self._losses.pop(node, None)

    def lost(self, node: str, why: str) -> bool:
        """A block was lost there; whether it is one too many, so that the host is excluded."""
        self._losses[node] += 1
        if self._losses[node] < HOST_LOSSES or node in self.excluded:
            return False
        self.excluded[node] = why
        return True
