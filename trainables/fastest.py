"""Choose the fastest way to compute the steps of replicates on a GPU, by measurement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.graph import capture
from trainables.replicates import LossFunction, Replicates, Strategy

MAX_LOOP = 8
"""Largest number of replicates for which `loop` is tried: it launches R times as many kernels."""

REPLAYS = 10
"""Timed steps."""

measured: dict[tuple[object, ...], Strategy] = {}
"""Fastest strategies found in this process, by network, precision, number of replicates and shapes
of a minibatch."""


def milliseconds_of(step: Callable[[], object]) -> float:
    """Milliseconds that `step` takes on the GPU as a CUDA graph, as it runs in training."""
    graph = capture(step)
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
    """Return the strategy with the shortest step on this `batch`, tensors (R, B, …).

    Measuring changes gradients, but no parameters. If no strategy can be measured, return `loop`,
    which works for every network.
    """
    key = (repr(models.members[0]), models.precision, len(models), *(part.shape for part in batch))
    if key in measured:
        return measured[key]
    original, times = models.strategy, {}
    candidates: tuple[Strategy, ...] = ("vectorised", "products", "loop")
    for strategy in candidates[: 3 if len(models) <= MAX_LOOP else 2]:
        models.strategy = strategy
        try:
            times[strategy] = milliseconds(lambda: models.backward(loss, *batch))
        except RuntimeError:  # out of memory, or a network that `vmap` or a graph can't run
            continue
    models.strategy = original
    measured[key] = min(times, key=lambda strategy: times[strategy], default="loop")
    return measured[key]
