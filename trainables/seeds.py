"""Random generators: each replicate has its own, one per purpose.

They depend on the replicate's number, not on which others are computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

PURPOSES = {"initialisation": 0, "order": 1, "head": 2, "views": 3, "angles": 4, "consistency": 5}


def seed_of(seed: int, replicate: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of one replicate, independent of all others."""
    sequence = np.random.SeedSequence([seed, replicate, PURPOSES[purpose]])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generators(
    seed: int, replicates: Iterable[int], purpose: str, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """A generator for each of `replicates`.

    CPU generators draw the same numbers on every machine. GPU generators (counter-based, Philox)
    draw on the GPU, and draw other numbers.
    """
    return [
        torch.Generator(device).manual_seed(seed_of(seed, replicate, purpose))
        for replicate in replicates
    ]


def initialise(
    build: Callable[[], Model],
    seed: int,
    replicates: Iterable[int],
    purpose: str = "initialisation",
) -> list[Model]:
    """Build a model for each of `replicates`, initialised from its own seed.

    The global random state is kept.
    """
    members = []
    for replicate in replicates:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, replicate, purpose))
            members.append(build())
    return members
