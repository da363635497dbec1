"""The fastest way to compute the steps of replicates on a GPU, by measurement."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.graph import EAGER_STEPS, CudaGraph
from trainables.replicates import LossFunction, Replicates, Strategy

FEW = 8
"""Replicates up to which `loop` is a candidate: it launches R times as many kernels."""

REPLAYS = 10
"""Steps that are timed."""

known: dict[tuple[object, ...], Strategy] = {}
"""What this process has measured, by network, number of replicates and shapes of a minibatch."""


def milliseconds_of(step: Callable[[], object]) -> float:
    """Milliseconds of `step` on the GPU as a graph, which is how it will run."""
    graph = CudaGraph(())
    for _ in range(EAGER_STEPS):
        graph.aside(step)
    graph.capture(step)
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
    """The strategy with the shortest step on this `batch`, (R, B, …) each: gradients change, and
    parameters don't. `vectorised` where none can be measured."""
    key = (repr(models.members[0]), len(models), *(part.shape for part in batch))
    if key in known:
        return known[key]
    asked, taken = models.strategy, {}
    candidates: tuple[Strategy, ...] = ("vectorised", "products", "loop")
    for strategy in candidates[: 3 if len(models) <= FEW else 2]:
        models.strategy = strategy
        try:
            taken[strategy] = milliseconds(lambda: models.backward(loss, *batch))
        except RuntimeError:  # too little memory for this one, or a network that no graph can hold
            continue
    models.strategy = asked
    known[key] = min(taken, key=lambda strategy: taken[strategy], default="vectorised")
    return known[key]
