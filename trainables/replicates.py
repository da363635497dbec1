"""R models of one architecture, trained as one.

The parameters of all replicates live in one tensor each, with a leading replicate dimension, so
that one optimiser step moves them all, and one batched matrix product serves them all. Losses
are *summed* over replicates: no term of one replicate's loss depends on another's parameters, so
every replicate's gradient is the one it would have alone.

Each replicate draws from generators of its own. Adding replicates changes none of the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from trainables.contract import Checkpoint, Progress, require_finite
from trainables.optimiser import AdamW

Model = TypeVar("Model", bound=nn.Module)
Strategy = Literal["batched", "vectorised", "loop"]
"""`batched`: by the network's own `batched(parameters, inputs)`, written for stacked parameters;
`vectorised`: by `torch.vmap` of the network, which any has; `loop`: one replicate after another."""

LossFunction = Callable[..., Tensor]
"""(model, *its replicate's batch) -> a scalar loss; for `batched`, the model of all replicates and
their batches (R, B, …) -> losses (R,)."""

PURPOSES = {"initialisation": 0, "order": 1, "head": 2, "views": 3, "angles": 4}


def seed_of(seed: int, replicate: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of one replicate, independent of every other one's."""
    sequence = np.random.SeedSequence([seed, replicate, PURPOSES[purpose]])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generators(seed: int, replicates: int, purpose: str) -> list[torch.Generator]:
    """One generator a replicate. On the CPU, whose draws are the same on every machine."""
    return [
        torch.Generator().manual_seed(seed_of(seed, replicate, purpose))
        for replicate in range(replicates)
    ]


def initialise(
    build: Callable[[], Model], seed: int, replicates: int, purpose: str = "initialisation"
) -> list[Model]:
    """R models from `build`, each initialised from its own seed; the global state is kept."""
    members = []
    for replicate in range(replicates):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, replicate, purpose))
            members.append(build())
    return members


def pick_device() -> torch.device:
    """The GPU that the process was given, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fastest_strategy(model: nn.Module, device: torch.device, batch_size: int) -> Strategy:
    """`batched` where the network can, `loop` for convolutions on a CPU, `vectorised` for all else.

    `torch.vmap` costs a small network more than its arithmetic does. Vectorised convolutions
    become grouped ones, which lose on CPUs at every batch size that the study uses
    (benchmarks/README.md has the figures).
    """
    if hasattr(model, "batched"):
        return "batched"
    convolutional = any(isinstance(part, nn.Conv2d) for part in model.modules())
    return "loop" if device.type == "cpu" and convolutional else "vectorised"


class Replicates:
    """R models of one architecture with stacked parameters.

    `parameters[name]` is (R, …) and is what an optimiser takes. `members[r]` is an ordinary
    module whose parameters *are* the slices r of them, gradients included: whatever trains the
    one trains the other.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        device: torch.device | str = "cpu",
        strategy: Strategy = "vectorised",
    ) -> None:
        self.device = torch.device(device)
        self.strategy = strategy
        self.members = [member.to(self.device) for member in members]
        stacked, self.buffers = stack_module_state(list(self.members))
        self.parameters: dict[str, Tensor] = {}
        for name, value in stacked.items():
            parameter = value.detach().requires_grad_()
            parameter.grad = torch.zeros_like(parameter)
            self.parameters[name] = parameter
        for replicate, member in enumerate(self.members):
            for name, own in member.named_parameters():
                shared = self.parameters[name]
                assert shared.grad is not None
                own.data = shared.detach()[replicate]
                own.grad = shared.grad[replicate]

    def __len__(self) -> int:
        return len(self.members)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers, (R, …) each."""
        values = {name: value.detach() for name, value in self.parameters.items()}
        return {**values, **self.buffers}

    def _as_one(self, function: LossFunction, batches: tuple[Tensor, ...]) -> Tensor:
        """What `function` makes of every replicate and its slice of `batches`: (R, …)."""
        template: Any = self.members[0]
        if self.strategy == "batched":
            return function(partial(template.batched, self.parameters), *batches)

        def of_one(parameters: dict, buffers: dict, *batch: Tensor) -> Tensor:
            def model(*arguments: Tensor) -> Tensor:
                return functional_call(template, (parameters, buffers), arguments)

            return function(model, *batch)

        return torch.vmap(of_one)(self.parameters, self.buffers, *batches)

    def backward(self, loss: LossFunction, *batches: Tensor) -> Tensor:
        """Leave every replicate's gradient in `.grad` and return the losses (R,), detached.

        `batches` are (R, B, …) each: slice r is what replicate r sees.
        """
        for parameter in self.parameters.values():
            assert parameter.grad is not None
            parameter.grad.zero_()
        if self.strategy != "loop":
            losses = self._as_one(loss, batches)
            losses.sum().backward()
            return losses.detach()
        each = []
        for member, *batch in zip(self.members, *batches, strict=True):
            # One backward a member, so that its activations are gone before the next one's.
            own = loss(member, *batch)
            own.backward()
            each.append(own.detach())
        return torch.stack(each)

    @torch.no_grad()
    def evaluate(
        self, function: LossFunction, *data: Tensor, batch_size: int | None = None
    ) -> Tensor:
        """`function(model, *batch)` of every replicate on the same data, concatenated over
        batches: (R, N, …) if it returns (B, …)."""
        if batch_size is None:
            # What a CPU's cache holds: batches of 250 take 0.7 of the time of 1,000.
            batch_size = 250 if self.device.type == "cpu" else 2000
        results = []
        for parts in zip(*(part.split(batch_size) for part in data), strict=True):
            if self.strategy != "loop":
                shared = tuple(part.expand(len(self), *part.shape) for part in parts)
                results.append(self._as_one(function, shared))
            else:
                results.append(torch.stack([function(member, *parts) for member in self.members]))
        return torch.cat(results, dim=1)


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
) -> float:
    """Train all replicates with AdamW under a one-cycle schedule (Smith & Topin 2018).

    `gather` turns indices (R, B) into the arguments of `loss` after the model, (R, B, …) each.
    `learning_rates` are the peaks, by the prefix of a parameter's name; a parameter takes that
    of the first prefix that fits, and rises to it for the share `warm_up` of the steps.
    `after_epoch(epoch, losses)` gets the epoch's mean training
    losses (R,). Raises `Diverged` at the end of the first epoch with a loss that isn't finite.

    With a `checkpoint`, training goes on after the epoch that it holds, if any, and ends with
    the same bits on a CPU as if it had never stopped; `history` is the list that `after_epoch`
    appends to, and is kept with the rest, as is the state of `draws`, the generators that
    `gather` draws from. Returns the seconds that earlier tries took up to
    there, which the caller's clock knows nothing of.
    """
    started = time.perf_counter()
    optimiser = AdamW(
        models.parameters, learning_rates, epochs * order.steps, weight_decay, warm_up
    )
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
        require_finite(losses, f"the training loss in epoch {epoch}")
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
    optimiser: AdamW,
    draws: Sequence[torch.Generator],
) -> Progress:
    """All that the epochs after this one depend on, and `numbers`."""
    tensors = {f"parameter {name}": value.detach() for name, value in models.parameters.items()}
    tensors |= {f"optimiser {name}": value for name, value in optimiser.tensors().items()}
    for number, generator in enumerate(draws):
        tensors[f"generator {number}"] = generator.get_state()
    return Progress(epoch, tensors, {**numbers, "step": optimiser.taken})


def _restore(
    saved: Progress,
    models: Replicates,
    optimiser: AdamW,
    draws: Sequence[torch.Generator],
) -> None:
    """The inverse of `_progress`, on what was just built."""
    for name, parameter in models.parameters.items():
        parameter.detach().copy_(saved.tensors[f"parameter {name}"])
    for number, generator in enumerate(draws):
        generator.set_state(saved.tensors[f"generator {number}"])
    kept = {name.removeprefix("optimiser "): value for name, value in saved.tensors.items()}
    optimiser.resume(saved.numbers["step"], kept)
