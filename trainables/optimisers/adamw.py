"""AdamW, of stacked parameters.

The update is PyTorch's; what is kept from one to the next is kept here. The class
`torch.optim.AdamW` under `OneCycleLR` gives the same bits, but takes a process two seconds to
start, as it imports PyTorch's compiler, and a head's step 0.19 ms where this takes 0.08.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from trainables.optimisers.schedule import Schedule, by_peak, device_of
from trainables.replicates import leaves_rest

# β₂ = 0.95: the runs are a few hundred to a few thousand steps, too few for a memory of 1,000
# steps. Test MSE at d = 14 on mnist-5k after 8 epochs of batch 32: 0.0143 against 0.0148.
BETA_1, BETA_2 = 0.9, 0.95
EPSILON = 1e-8


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) for `parameters` by name, whose gradients are in `.grad`.

    `peaks` are the largest learning rates of the one-cycle schedule, by the prefix of a parameter's
    name; a parameter takes that of the first prefix that fits. The schedule is for `steps` steps.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        peaks: Mapping[str, float],
        steps: int,
        weight_decay: float,
        warm_up: float,
    ) -> None:
        self.weight_decay = weight_decay
        self.schedule = Schedule(peaks.values(), steps, warm_up, device_of(parameters))
        self.groups = [
            _Group(peak, {name: parameters[name] for name in names})
            for peak, names in by_peak(parameters, peaks).items()
        ]

    @property
    def taken(self) -> int:
        """Steps so far."""
        return int(self.schedule.taken)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter by its gradient."""
        for group in self.groups:
            adamw(
                group.parts,
                _parts([p.grad for p in group.parameters if p.grad is not None]),
                group.parts_of_means,
                group.parts_of_squares,
                [],
                group.counts,
                fused=True,
                amsgrad=False,
                beta1=BETA_1,
                beta2=BETA_2,
                lr=self.schedule.rate(group.peak),
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
        self.schedule.taken += 1

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, besides the parameters and `taken`."""
        return {name: tensor for group in self.groups for name, tensor in group.named().items()}

    def resume(self, taken: int, tensors: Mapping[str, Tensor]) -> None:
        """Go on after so many steps, with what `tensors()` was then."""
        self.schedule.taken.fill_(taken)
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for group in self.groups:
            for count in group.counts:
                count.fill_(taken)


class _Group:
    """Parameters of one learning rate, with the running means of their gradients and of the
    squares of these, and the number of steps of each of their parts."""

    def __init__(self, peak: float, parameters: Mapping[str, Tensor]) -> None:
        self.peak = peak
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.parts = _parts(self.parameters)
        self.parts_of_means = _parts(self.means)
        self.parts_of_squares = _parts(self.squares)
        # On the device, and of this type, for a fused step.
        self.counts = [
            torch.zeros((), dtype=torch.float32, device=part.device) for part in self.parts
        ]

    def named(self) -> dict[str, Tensor]:
        kinds = {"mean": self.means, "square": self.squares}
        return {
            f"{kind} {name}": tensor
            for kind, tensors in kinds.items()
            for name, tensor in zip(self.names, tensors, strict=True)
        }


def _parts(stacked: Iterable[Tensor]) -> list[Tensor]:
    """These tensors (R, …), whole where no replicate leaves a rest, and else a replicate each, so
    that the rounding of a step doesn't depend on R."""
    parts: list[Tensor] = []
    for tensor in stacked:
        parts += tensor.detach().unbind() if leaves_rest(tensor) else [tensor]
    return parts
