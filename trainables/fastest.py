"""Choose the fastest way to compute the steps of replicates on a GPU, by measurement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.graph import captured
from trainables.replicates import LossFunction, Replicates, Strategy

FEW = 8
"""Largest number of replicates for which `loop` is tried: it launches R times as many kernels."""

REPLAYS = 10
"""Timed steps."""

known: dict[tuple[object, ...], Strategy] = {}
"""Strategies measured in this process, by network, precision, number of replicates and
shapes of a minibatch."""


def milliseconds_of(step: Callable[[], object]) -> float:
    """Milliseconds that `step` takes on the GPU as a CUDA graph, as it runs in training."""
    graph = captured(step)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    begin.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / REPLAYS


def fastest(
    models: Replicates,
    loss: LossFunction,
    batch: tuple[Tensor, ...],
    milliseconds: Callable[[Callable[[], object]], float] = milliseconds_of,
) -> Strategy:
    """Return the strategy with the shortest step on this `batch`, (R, B, …) each.

    Measuring changes gradients, but no parameters. Returns `loop`, which any network can, if none
    can be measured.
    """
    key = (repr(models.members[0]), models.precision, len(models), *(part.shape for part in batch))
    if key in known:
        return known[key]
    asked, taken = models.strategy, {}
    candidates: tuple[Strategy, ...] = ("vectorised", "products", "loop")
    for strategy in candidates[: 3 if len(models) <= FEW else 2]:
        models.strategy = strategy
        try:
            taken[strategy] = milliseconds(lambda: models.backward(loss, *batch))
        except RuntimeError:  # out of memory, or a network that `vmap` or a graph can't run
            continue
    models.strategy = asked
    known[key] = min(taken, key=lambda strategy: taken[strategy], default="loop")
    return known[key]
