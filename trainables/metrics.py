"""A cell's two tables: what its replicates had along the way, and in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from trainables.contract import Report


def record(
    history: list[dict[str, Any]],
    report: Report,
    replicates: Iterable[int],
    epoch: int,
    metrics: Mapping[str, Tensor],
    **also: float,
) -> None:
    """Append the `metrics` (R,) after an epoch to the history, a line for each of `replicates`, and
    report their means, with what is `also` to be known of the cell."""
    columns = {name: values.tolist() for name, values in metrics.items()}
    history += lines(replicates, {"epoch": epoch}, columns)
    means = {name: values.mean().item() for name, values in metrics.items()}
    report({"epoch": epoch, **means, **also})


def lines(
    replicates: Iterable[int], common: Mapping[str, Any], columns: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """A line for each of `replicates`: its number, what all have in common, and its value of each
    of the `columns` of R values."""
    rows = zip(*columns.values(), strict=True)
    return [
        {"replicate": replicate, **common, **dict(zip(columns, row, strict=True))}
        for replicate, row in zip(replicates, rows, strict=True)
    ]
