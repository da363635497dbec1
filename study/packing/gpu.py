"""A trial's share of a GPU: keep to it, and say what was used.

Ray counts shares and sets `CUDA_VISIBLE_DEVICES`; it limits no memory. Here that is done.
"""

from __future__ import annotations

import os

import torch

from study.packing.share import CONTEXT


def claim(share: float) -> None:
    """Before a cell on `share` of a GPU: 0 is none, 1 and more are whole ones.

    Memory that an earlier cell of the same process has left in torch's cache is given back. With
    less than a whole GPU the process is held to its share, so that what is too large fails itself
    and none of its neighbours does.
    """
    if share == 0:
        # Ray does so only where its processes were started with an environment variable for it.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not torch.cuda.is_available():
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit(share, total) / total)


def limit(share: float, total: int) -> int:
    """Bytes that the tensors of a trial with `share` of a GPU of `total` bytes may take."""
    if share >= 1:
        return total
    # Half of a share that is hardly larger than a context: it fails, but by an honest error.
    return int(max(share * total - CONTEXT, share * total / 2))


def usable() -> int | None:
    """Bytes of the GPU that no other process holds; None where torch sees no GPU."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return min(total, free + torch.cuda.memory_reserved() + CONTEXT)


def peak() -> int | None:
    """The most bytes that torch has held since `claim`; None where it sees no GPU."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
