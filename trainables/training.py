"""The training loop of all replicates, which goes on from a checkpoint to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.contract import Checkpoint, Progress, require_finite
from trainables.optimisers import Optimiser, optimiser_of
from trainables.replicates import LossFunction, Replicates


class MinibatchOrder:
    """Which images each replicate sees at each step: a fresh permutation every epoch, drawn from
    the replicate's own generator. The last, incomplete minibatch of an epoch is left out, as a
    permutation puts others there the next time."""

    def __init__(self, images: int, batch_size: int, orders: Sequence[torch.Generator]) -> None:
        self.images = images
        self.batch_size = min(batch_size, images)
        self.orders = list(orders)

    @property
    def steps(self) -> int:
        """Minibatches an epoch."""
        return self.images // self.batch_size

    def epoch(self) -> Iterator[Tensor]:
        """Indices (R, B) int64, `steps` times."""
        if self.batch_size == self.images:
            # The whole set at once: its order is of no consequence, so none is drawn.
            yield torch.arange(self.images).expand(len(self.orders), -1)
            return
        shuffled = torch.stack(
            [torch.randperm(self.images, generator=order) for order in self.orders]
        )
        yield from shuffled[:, : self.steps * self.batch_size].split(self.batch_size, dim=1)


def fit(
    models: Replicates,
    loss: LossFunction,
    gather: Callable[[Tensor], tuple[Tensor, ...]],
    order: MinibatchOrder,
    epochs: int,
    learning_rates: dict[str, float],
    weight_decay: float,
    after_epoch: Callable[[int, Tensor], None],
    history: list[dict[str, Any]] | None = None,
    checkpoint: Checkpoint | None = None,
    draws: Sequence[torch.Generator] = (),
    warm_up: float = 0.1,
    muon: str | None = None,
) -> float:
    """Train all replicates with AdamW under a one-cycle schedule (Smith & Topin 2018); the
    matrices whose names start with `muon`, if it is given, with Muon.

    `gather` turns indices (R, B) into the arguments of `loss` after the model, (R, B, …) each.
    `learning_rates` are the peaks, by the prefix of a parameter's name; a parameter takes that
    of the first prefix that fits, and rises to it for the share `warm_up` of the steps.
    `after_epoch(epoch, losses)` gets the epoch's mean training losses (R,).
    Raises `Diverged` at the end of the first epoch with a loss that isn't finite.

    With a `checkpoint`, training goes on after the epoch that it holds, if any, and ends with
    the same bits on a CPU as if it had never stopped; `history` is the list that `after_epoch`
    appends to, and is kept with the rest, as is the state of `draws`, the generators that
    `gather` draws from. Returns the seconds that earlier tries took up to
    there, which the caller's clock knows nothing of.
    """
    started = time.perf_counter()
    steps = epochs * order.steps
    optimiser = optimiser_of(models.parameters, learning_rates, steps, weight_decay, warm_up, muon)
    streams = [*order.orders, *draws]
    saved = checkpoint.load() if checkpoint else None
    if saved:
        _restore(saved, models, optimiser, streams)
        if history is not None:
            history[:] = saved.numbers["history"]
    earlier = saved.numbers["seconds"] if saved else 0.0
    for epoch in range(saved.epoch + 1 if saved else 1, epochs + 1):
        total = torch.zeros(len(models), device=models.device)
        for indices in order.epoch():
            total += models.backward(loss, *gather(indices.to(models.device)))
            optimiser.step()
        losses = total / order.steps
        require_finite(losses, models.numbers, f"the training loss in epoch {epoch}")
        after_epoch(epoch, losses)
        if checkpoint and epoch < epochs and checkpoint.due():
            seconds = earlier + time.perf_counter() - started
            numbers = {"seconds": seconds, "history": list(history or [])}
            checkpoint.save(_progress(epoch, numbers, models, optimiser, streams))
    return earlier


def _progress(
    epoch: int,
    numbers: dict[str, Any],
    models: Replicates,
    optimiser: Optimiser,
    draws: Sequence[torch.Generator],
) -> Progress:
    """All that the epochs after this one depend on, and `numbers`."""
    tensors = {f"parameter {name}": value.detach() for name, value in models.parameters.items()}
    tensors |= {f"buffer {name}": value for name, value in models.buffers.items()}
    tensors |= {f"optimiser {name}": value for name, value in optimiser.tensors().items()}
    for number, generator in enumerate(draws):
        tensors[f"generator {number}"] = generator.get_state()
    return Progress(epoch, tensors, {**numbers, "step": optimiser.taken})


def _restore(
    saved: Progress,
    models: Replicates,
    optimiser: Optimiser,
    draws: Sequence[torch.Generator],
) -> None:
    """The inverse of `_progress`, on what was just built."""
    for name, parameter in models.parameters.items():
        parameter.detach().copy_(saved.tensors[f"parameter {name}"])
    for name, buffer in models.buffers.items():
        buffer.copy_(saved.tensors[f"buffer {name}"])
    for number, generator in enumerate(draws):
        generator.set_state(saved.tensors[f"generator {number}"])
    kept = {name.removeprefix("optimiser "): value for name, value in saved.tensors.items()}
    optimiser.resume(saved.numbers["step"], kept)
