"""The learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Schedule:
    """One-cycle learning rates of parameters over `steps` steps, kept on the device.

    `peaks` are the peak rates by prefix of a parameter's name; the first prefix that matches
    counts. A step reads its rate without the CPU, so that a CUDA graph can record it.
    """

    def __init__(
        self,
        peaks: Mapping[str, float],
        steps: int,
        warm_up: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.peaks = peaks
        self.steps_taken = torch.zeros((), dtype=torch.int64, device=device)
        """Steps so far."""
        # Fused AdamW on a GPU accepts only float32.
        dtype = torch.float64 if self.steps_taken.device.type == "cpu" else torch.float32
        self._rates = {
            peak: torch.tensor(
                [one_cycle(peak, step, steps, warm_up) for step in range(steps + 1)],
                dtype=dtype,
                device=device,
            )
            for peak in peaks.values()
        }

    def rate(self, peak: float) -> Tensor:
        """Learning rate (a scalar) of the next step, for this peak."""
        return self._rates[peak].take(self.steps_taken)

    def by_peak(self, names: Iterable[str]) -> dict[float, list[str]]:
        """Group parameter `names` by the peak of their learning rate."""
        groups: dict[float, list[str]] = {}
        for name in names:
            peak = next(peak for prefix, peak in self.peaks.items() if name.startswith(prefix))
            groups.setdefault(peak, []).append(name)
        return groups


def one_cycle(peak: float, step: int, steps: int, warm_up: float) -> float:
    """Learning rate at step 0 … `steps`.

    It rises from `peak` / 25 to `peak` during the share `warm_up` of the steps, then falls to
    `peak` / 250,000. Both parts follow half a cosine (Smith & Topin 2018, as in
    `torch.optim.lr_scheduler.OneCycleLR`).
    """
    first = peak / 25
    last = first / 1e4
    peak_step = warm_up * (steps + 1) - 1
    if peak_step > 0 and step <= peak_step:
        return _half_cosine(first, peak, step / peak_step)
    return _half_cosine(peak, last, (step - peak_step) / (steps - peak_step))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
