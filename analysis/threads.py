"""Work on models in parallel threads: torch's operators release Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from trainables.limits import cores

T = TypeVar("T")
U = TypeVar("U")


def parallel_map(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`map` on all cores, one torch thread per call; results are in the order of `items`."""
    with ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
        return list(threads.map(function, items))
