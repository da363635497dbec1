"""Limit a trial's GPU memory to its share, and measure what it used.

Ray counts shares and sets `CUDA_VISIBLE_DEVICES`, but limits no memory.
"""

from __future__ import annotations

import gc
import os

import torch

from study.packing.share import CONTEXT_BYTES


def claim(share: float) -> None:
    """Prepare this process for a cell on `share` of a GPU: 0 is none, 1 and more are whole ones.

    Frees what an earlier cell of the process left in torch's cache. With less than a whole GPU,
    limits the process to its share: a cell that is too large fails, and its neighbours don't.
    """
    if share == 0:
        # Ray does so only if an environment variable was set when its processes were started.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not torch.cuda.is_available():
        return
    gc.collect()  # tensors in reference cycles, of an exception's traceback for example
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit(share, total) / total)


def limit(share: float, total: int) -> int:
    """Bytes allowed for the tensors of a trial with `share` of a GPU of `total` bytes."""
    if share >= 1:
        return total
    # A share hardly larger than a context gets half: the trial fails, but with a clear error.
    return int(max(share * total - CONTEXT_BYTES, share * total / 2))


def usable() -> int | None:
    """Bytes of the GPU that no other process holds; None if torch sees no GPU."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return min(total, free + torch.cuda.memory_reserved() + CONTEXT_BYTES)


def peak() -> int | None:
    """Peak of the bytes that torch has held since `claim`; None if it sees no GPU."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
