"""Faults that end a trial. What follows a fault is in `queue.Queue.retry`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from study.errors import StoreError

TRIES = 4
"""Tries of a block whose worker dies each time, for want of memory or otherwise."""

HOST_LOSSES = 3
"""Losses in a row that exclude a host."""

GPU_START = re.compile(
    r"CU\w+_STATUS_NOT_INITIALIZED|CUDA initialization|[Nn]o CUDA(-capable device| GPUs)"
    r"|CUDA driver|busy or unavailable|initialization error|ECC|GPU is lost|fallen off the bus"
)
"""Messages of CUDA, cuBLAS and cuDNN about a GPU that doesn't work."""


class Fault(Enum):
    """A kind of fault that ends a trial."""

    OWN = "its trainable raised an error"
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
        """Traceback of the block that ended the trial; empty if all blocks were tried."""
        self.node = node
        """Id of the node that the trial ran on."""
        self.own = own
        """Tracebacks of blocks whose trainable raised an error, by block name. They aren't tried
        again in this run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.fault, self.error, self.node, dict(self.own))


def fault_of(error: BaseException) -> Fault:
    """The kind of fault of an exception. Called in the worker that raised it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return Fault.GPU_MEMORY
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Fault.HOST_MEMORY  # from Python, or from torch's allocator
    if isinstance(error, RuntimeError) and GPU_START.search(str(error)):
        return Fault.LOST
    # A configuration can't make a file unreadable, but a stale handle, a folder that isn't mounted
    # or a bucket out of reach can. A damaged block is damaged on every host.
    from study.store import DamagedBlock

    if isinstance(error, OSError | StoreError | OtherCode) and not isinstance(error, DamagedBlock):
        return Fault.LOST
    return Fault.OWN


def failure_message(fault: Fault, error: str, gpus: float) -> str:
    """Error text for the store. Its last line is the reason; if memory ran out, with advice."""
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
