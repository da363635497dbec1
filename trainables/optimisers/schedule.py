"""The learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Schedule:
    """One-cycle learning rates, kept on the device.

    A step reads its own rate without the CPU, so that a CUDA graph can hold it.
    """

    def __init__(
        self, peaks: Iterable[float], steps: int, warm_up: float, device: torch.device
    ) -> None:
        self.steps_taken = torch.zeros((), dtype=torch.int64, device=device)
        """Steps so far."""
        # Fused AdamW on a GPU accepts only float32.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self._rates = {
            peak: torch.tensor(
                [one_cycle(peak, step, steps, warm_up) for step in range(steps + 1)],
                dtype=dtype,
                device=device,
            )
            for peak in peaks
        }

    def rate(self, peak: float) -> Tensor:
        """Learning rate (a scalar) of the next step, for this peak."""
        return self._rates[peak].take(self.steps_taken)


def one_cycle(peak: float, step: int, steps: int, warm_up: float) -> float:
    """Learning rate at step 0 … `steps`.

    For the share `warm_up` of the steps it rises from a twenty-fifth of `peak` to `peak`. Then it
    falls to a ten-thousandth of its start. Both follow half a cosine (Smith & Topin 2018, as in
    `torch.optim.lr_scheduler.OneCycleLR`).
    """
    first = peak / 25
    last = first / 1e4
    turn = warm_up * (steps + 1) - 1
    if turn > 0 and step <= turn:
        return _half_cosine(first, peak, step / turn)
    return _half_cosine(peak, last, (step - turn) / (steps - turn))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def device_of(parameters: Mapping[str, Tensor]) -> torch.device:
    """The device of all `parameters`; the CPU if there are none."""
    return next((value.device for value in parameters.values()), torch.device("cpu"))


def by_peak(names: Iterable[str], peaks: Mapping[str, float]) -> dict[float, list[str]]:
    """Group parameter `names` by the peak of their learning rate.

    A parameter has the peak of the first prefix in `peaks` that its name starts with.
    """
    groups: dict[float, list[str]] = {}
    for name in names:
        peak = next(peak for prefix, peak in peaks.items() if name.startswith(prefix))
        groups.setdefault(peak, []).append(name)
    return groups
