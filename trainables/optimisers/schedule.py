"""The learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping


def one_cycle(peak: float, step: int, steps: int, warm_up: float) -> float:
    """The learning rate of step 0 … `steps`: for the share `warm_up` of them it rises from a
    twenty-fifth of `peak`, then it falls to a ten thousandth of that, along half a cosine each
    (Smith & Topin 2018, as `torch.optim.lr_scheduler.OneCycleLR` has it)."""
    first = peak / 25
    last = first / 1e4
    turn = warm_up * (steps + 1) - 1
    if turn > 0 and step <= turn:
        return _half_cosine(first, peak, step / turn)
    return _half_cosine(peak, last, (step - turn) / (steps - turn))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def by_peak(names: Iterable[str], peaks: Mapping[str, float]) -> dict[float, list[str]]:
    """The names of parameters by the peak of their rate: a parameter has that of the first prefix
    in `peaks` that its name starts with."""
    groups: dict[float, list[str]] = {}
    for name in names:
        peak = next(peak for prefix, peak in peaks.items() if name.startswith(prefix))
        groups.setdefault(peak, []).append(name)
    return groups
