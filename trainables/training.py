"""The training loop of all replicates, which resumes from a checkpoint to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.contract import Checkpoint, Progress, require_finite
from trainables.fastest import fastest
from trainables.graph import as_graph
from trainables.optimisers import AdamW, MakeOptimiser, Optimiser, Schedule
from trainables.replicates import LossFunction, Replicates

Gather = Callable[[Tensor], tuple[Tensor, ...]]


class Minibatches:
    """The images that each replicate sees at each step.

    Every epoch is a new permutation from the replicate's own generator. The last, incomplete
    minibatch of an epoch is left out.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        orders: Sequence[torch.Generator],
        gather: Gather,
        draws: Sequence[torch.Generator] = (),
    ) -> None:
        """`gather` maps indices (R, B) to the loss's arguments after the model, (R, B, …) each.

        `draws` are the generators that it draws from.
        """
        self.images = images
        self.batch_size = min(batch_size, images)
        self.orders = list(orders)
        self.gather = gather
        self.draws = draws

    @property
    def steps(self) -> int:
        """Minibatches per epoch."""
        return self.images // self.batch_size

    def epoch(self, device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """Yield `steps` tensors of indices (R, B) int64 on `device`, all moved there at once."""
        if self.batch_size == self.images:
            # One minibatch holds the whole set: its order doesn't matter, so none is drawn.
            yield torch.arange(self.images, device=device).expand(len(self.orders), -1)
            return
        shuffled = torch.stack(
            [torch.randperm(self.images, generator=order) for order in self.orders]
        ).to(device)
        yield from shuffled[:, : self.steps * self.batch_size].split(self.batch_size, dim=1)

    def example(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return a minibatch to measure with; the generators keep their states."""
        states = [generator.get_state() for generator in self.draws]
        first = torch.arange(self.batch_size, device=device)
        batch = self.gather(first.expand(len(self.orders), -1))
        for generator, state in zip(self.draws, states, strict=True):
            generator.set_state(state)
        return batch


@dataclass(frozen=True)
class Recipe:
    """How models learn: an optimiser under a one-cycle schedule (Smith & Topin 2018)."""

    epochs: int
    """Passes over the images."""
    learning_rates: Mapping[str, float]
    """Peak rates by prefix of a parameter's name; the first prefix that matches counts."""
    weight_decay: float
    warm_up: float = 0.1
    """Share of the steps during which the rates rise."""
    optimiser: MakeOptimiser = AdamW
    """The class of the optimiser, or a function that makes it."""


@dataclass(frozen=True)
class Resumable:
    """State of a training besides models and optimiser, from which it can resume."""

    checkpoint: Checkpoint | None
    """Where progress is saved; None: nowhere."""
    history: list[dict[str, Any]]
    """The list that `after_epoch` appends to."""


def fit(
    models: Replicates,
    loss: LossFunction,
    minibatches: Minibatches,
    recipe: Recipe,
    after_epoch: Callable[[int, Tensor], None],
    resumable: Resumable | None = None,
) -> float:
    """Train all replicates. `after_epoch(epoch, losses)` gets the mean training losses (R,).

    With a checkpoint, training continues after the saved epoch, if any. On a CPU, it then ends with
    the same bits as without the interruption. Returns the seconds that earlier attempts took up to
    the saved epoch, which the caller's clock doesn't include.

    On a GPU a step becomes a CUDA graph: `loss` and `gather` must compute the same operations at
    every step, whatever the values.

    Raises `Diverged` at the end of the first epoch with a loss that isn't finite.
    """
    started = time.perf_counter()
    steps = recipe.epochs * minibatches.steps
    schedule = Schedule(recipe.learning_rates, steps, recipe.warm_up, models.device)
    optimiser = recipe.optimiser(models.parameters, schedule, recipe.weight_decay)
    kept = resumable or Resumable(None, [])
    streams = [*minibatches.orders, *minibatches.draws]
    saved = kept.checkpoint.load() if kept.checkpoint else None
    if saved:
        for name, value in _tensors(models, optimiser).items():
            value.copy_(saved.tensors[name])
        for number, generator in enumerate(streams):
            generator.set_state(saved.tensors[f"generator {number}"])
        optimiser.resume(saved.numbers["step"])
        kept.history[:] = saved.numbers["history"]
    earlier = saved.numbers["seconds"] if saved else 0.0
    if models.strategy == "fastest":
        # Measured once, so that a resumed training gets the same bits.
        models.strategy = (
            saved.numbers["strategy"]
            if saved
            else fastest(models, loss, minibatches.example(models.device))
        )
    total = torch.zeros(len(models), device=models.device)

    def step(indices: Tensor) -> None:
        total.add_(models.backward(loss, *minibatches.gather(indices)))
        optimiser.step()

    take_step = as_graph(step, models.device, minibatches.draws)
    for epoch in range(saved.epoch + 1 if saved else 1, recipe.epochs + 1):
        total.zero_()
        for indices in minibatches.epoch(models.device):
            take_step(indices)
        losses = total / minibatches.steps
        require_finite(losses, models.numbers, f"the training loss in epoch {epoch}")
        after_epoch(epoch, losses)
        if kept.checkpoint and epoch < recipe.epochs and kept.checkpoint.due():
            seconds = earlier + time.perf_counter() - started
            numbers = {
                "seconds": seconds,
                "history": list(kept.history),
                "strategy": models.strategy,
                "step": int(schedule.steps_taken),
            }
            tensors = _tensors(models, optimiser)
            tensors |= {f"generator {n}": draw.get_state() for n, draw in enumerate(streams)}
            kept.checkpoint.save(Progress(epoch, tensors, numbers))
    return earlier


def _tensors(models: Replicates, optimiser: Optimiser) -> dict[str, Tensor]:
    """The tensors of a training that a checkpoint saves, not copied, by their names in it."""
    groups = {
        "parameter": {name: value.detach() for name, value in models.parameters.items()},
        "buffer": models.buffers,
        "optimiser": optimiser.tensors(),
    }
    return {
        f"{kind} {name}": value
        for kind, tensors in groups.items()
        for name, value in tensors.items()
    }
