"""AdamW for stacked parameters.

PyTorch's function computes the update; the state is kept here. The class `torch.optim.AdamW` with
`OneCycleLR` gives the same bits, but it imports PyTorch's compiler, which takes two seconds at the
start of a process, and a head's step takes 0.19 ms instead of 0.08.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from trainables.optimisers.schedule import Schedule
from trainables.replicates import has_remainder

# β₂ = 0.95, not 0.999: runs of a few hundred to a few thousand steps are too short for an average
# over 1,000 steps. Test MSE at d = 14 on mnist-5k after 8 epochs of batch 32: 0.0143, not 0.0148.
BETA_1, BETA_2 = 0.9, 0.95
EPSILON = 1e-8


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) for `parameters` by name, whose gradients are in `.grad`."""

    def __init__(
        self, parameters: Mapping[str, Tensor], schedule: Schedule, weight_decay: float
    ) -> None:
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.state = {
            f"{kind} {name}": torch.zeros_like(parameter)
            for kind in ("mean", "square")
            for name, parameter in parameters.items()
        }
        """Running means of gradients and squared gradients."""
        self.groups = [
            _Group(peak, names, parameters, self.state)
            for peak, names in schedule.by_peak(parameters).items()
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient."""
        for group in self.groups:
            adamw(
                group.parts,
                _parts([p.grad for p in group.parameters if p.grad is not None]),
                group.means,
                group.squares,
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
        self.schedule.steps_taken += 1

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state, besides the number of steps."""
        return self.state

    def resume(self, steps_taken: int) -> None:
        """Continue after `steps_taken` steps; the caller fills `tensors()` with their values."""
        self.schedule.steps_taken.fill_(steps_taken)
        for group in self.groups:
            for count in group.counts:
                count.fill_(steps_taken)


class _Group:
    """Parameters with one learning rate, divided with their state into `_parts`.

    Each part has its own step counter.
    """

    def __init__(
        self,
        peak: float,
        names: Sequence[str],
        parameters: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
    ) -> None:
        self.peak = peak
        self.parameters = [parameters[name] for name in names]
        self.parts = _parts(self.parameters)
        self.means = _parts(state[f"mean {name}"] for name in names)
        self.squares = _parts(state[f"square {name}"] for name in names)
        # The fused step needs the counters on the device and in float32.
        self.counts = [
            torch.zeros((), dtype=torch.float32, device=part.device) for part in self.parts
        ]


def _parts(stacked: Iterable[Tensor]) -> list[Tensor]:
    """Split tensors (R, …) so that the rounding of a step doesn't depend on R.

    A tensor that `has_remainder` is split into replicates; others stay whole.
    """
    parts: list[Tensor] = []
    for tensor in stacked:
        parts += tensor.detach().unbind() if has_remainder(tensor) else [tensor]
    return parts
