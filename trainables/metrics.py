"""A cell's two tables: its replicates' metrics during training, and at the end."""

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
    **cell_values: float,
) -> None:
    """Add the `metrics` (R,) of an epoch to the history, and report their means.

    The history gets one line per replicate; the report also gets `cell_values`.
    """
    columns = {name: values.tolist() for name, values in metrics.items()}
    history += lines(replicates, {"epoch": epoch}, columns)
    means = {name: values.mean().item() for name, values in metrics.items()}
    report({"epoch": epoch, **means, **cell_values})


def lines(
    replicates: Iterable[int], common: Mapping[str, Any], columns: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """One line per replicate: its number, the `common` values, and its value of each column.

    Each of the `columns` holds R values.
    """
    rows = zip(*columns.values(), strict=True)
    return [
        {"replicate": replicate, **common, **dict(zip(columns, row, strict=True))}
        for replicate, row in zip(replicates, rows, strict=True)
    ]
