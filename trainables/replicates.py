"""R models of one architecture, trained as one.

Each parameter is one tensor with a leading replicate dimension. One optimiser step updates all
replicates, and one batched matrix product serves them all. Losses are *summed* over replicates. No
term of one replicate's loss depends on another's parameters, so every replicate's gradient is the
one it would have alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from trainables.precision import computing_in
from trainables.products import ConvolutionsAsProducts

Strategy = Literal["batched", "vectorised", "products", "loop", "fastest"]
"""How to compute all replicates:

- `batched`: by the network's own method `batched(parameters, inputs)`, for stacked parameters
- `vectorised`: by `torch.vmap`
- `products`: by `torch.vmap`, with convolutions as matrix products
- `loop`: one replicate after another
- `fastest`: `vectorised` until training begins, then the one of `vectorised`, `products` and
  `loop` that is measured to be fastest (`trainables.fastest`)
"""

LossFunction = Callable[..., Tensor]
"""(model, *batch of its replicate) -> a scalar loss. For `batched`: (model of all replicates,
*batches (R, B, …)) -> losses (R,)."""

VECTOR_MULTIPLE = 64
"""A multiple of the number of elements that one vector instruction of a CPU computes."""


def has_remainder(stacked: Tensor) -> bool:
    """True on a CPU if a replicate's size in `stacked` (R, …) is no multiple of `VECTOR_MULTIPLE`.

    PyTorch computes the remaining elements one by one, which rounds some operations differently: 1
    mean square in 4 in fused AdamW, 1 number in 30,000 in the gradient of GELU (float32, AVX-512).
    The caller must then apply these operations to one replicate after another.
    """
    return stacked.device.type == "cpu" and math.prod(stacked.shape[1:]) % VECTOR_MULTIPLE != 0


@contextmanager
def steady_products(matrices: int, device: torch.device) -> Iterator[None]:
    """Make the last bits of batched products inside the block independent of the batch's size.

    `matrices` is that size. On a CPU, MKL computes each of several matrices on one thread. It would
    split a single one among all threads, which rounds differently; the block gives it one thread.
    """
    threads = torch.get_num_threads()
    alone = matrices == 1 and device.type == "cpu"
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(threads)


def pick_device() -> torch.device:
    """Return the GPU that this process was given, or else the CPU.

    Also set a GPU to deterministic algorithms, and to float32 as on a CPU, instead of TF32, the
    default of its convolutions. `trainables.precision` lowers the precision in training on request.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


def fastest_strategy(model: nn.Module, device: torch.device) -> Strategy:
    """Return the strategy for `model` on `device`.

    `batched` if the network has that method; `loop` with batch norm, or on a CPU; else `fastest`.

    On a CPU, `torch.vmap` costs a small network more than its arithmetic does. Vectorised
    convolutions become grouped ones, which are slower at every batch size that the study uses
    (figures: docs/benchmarks.md).
    """
    if hasattr(model, "batched"):
        return "batched"
    if any(name for name, _ in model.named_buffers() if "running" in name):
        return "loop"  # batch norm's statistics are each model's own
    return "loop" if device.type == "cpu" else "fastest"


class Replicates:
    """R models of one architecture with stacked parameters.

    `parameters[name]` is (R, …), for the optimiser. `members[r]` is an ordinary module whose
    parameters and gradients are views of slice r: training one trains the other. `numbers` are the
    replicates' numbers in their cell, by default from 0. `precision` is that of matrix products and
    convolutions in training (see `trainables.precision`).
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        device: torch.device | str = "cpu",
        strategy: Strategy = "vectorised",
        numbers: Sequence[int] | None = None,
        precision: str = "float32",
    ) -> None:
        self.precision = precision
        self.numbers = range(len(members)) if numbers is None else numbers
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
            for name, buffer in member.named_buffers():  # batch norm changes them in training
                buffer.data = self.buffers[name][replicate]

    def __len__(self) -> int:
        return len(self.members)

    def _as_one(self, function: LossFunction, batches: tuple[Tensor, ...]) -> Tensor:
        """Return the values (R, …) of `function` for every replicate and its slice of `batches`."""
        template: Any = self.members[0]
        if self.strategy == "batched":
            return function(partial(template.batched, self.parameters), *batches)

        def of_one(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], *batch: Tensor
        ) -> Tensor:
            def model(*arguments: Tensor) -> Tensor:
                return functional_call(template, (parameters, buffers), arguments)

            return function(model, *batch)

        with ConvolutionsAsProducts() if self.strategy == "products" else nullcontext():
            return torch.vmap(of_one)(self.parameters, self.buffers, *batches)

    def backward(self, loss: LossFunction, *batches: Tensor) -> Tensor:
        """Compute every replicate's gradient into `.grad`; return the losses (R,), detached.

        `batches` are (R, B, …) each; replicate r sees slice r.
        """
        for parameter in self.parameters.values():
            assert parameter.grad is not None
            parameter.grad.zero_()
        with computing_in(self.precision):
            if self.strategy != "loop":
                with steady_products(len(self), self.device):
                    losses = self._as_one(loss, batches)
                    losses.sum().backward()
                return losses.detach()
            each = []
            for member, *batch in zip(self.members, *batches, strict=True):
                # One backward per member frees its activations before the next one's are made.
                own = loss(member, *batch)
                own.backward()
                each.append(own.detach())
            return torch.stack(each)

    @torch.no_grad()
    def evaluate(
        self, function: LossFunction, *data: Tensor, batch_size: int | None = None
    ) -> Tensor:
        """Apply `function(model, *batch)` for every replicate to the same data, in batches.

        Returns (R, N, …) if `function` returns (B, …). Batch norm uses its running statistics.
        """
        if batch_size is None:
            # On a CPU, as many as its cache holds: batches of 250 take 0.7 of the time of 1,000. On
            # a GPU, a few GiB of activations.
            most = max(1, 64_000 // len(self))
            batch_size = 250 if self.device.type == "cpu" else min(2000, most)
        for member in self.members:
            member.eval()
        results = []
        for parts in zip(*(part.split(batch_size) for part in data), strict=True):
            if self.strategy != "loop":
                shared = tuple(part.expand(len(self), *part.shape) for part in parts)
                with steady_products(len(self), self.device):
                    results.append(self._as_one(function, shared))
            else:
                results.append(torch.stack([function(member, *parts) for member in self.members]))
        for member in self.members:
            member.train()
        return torch.cat(results, dim=1)
