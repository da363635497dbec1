"""Rules for the settings of whatever learns from few labels."""

from __future__ import annotations

from trainables.contract import require
from trainables.data import CLASSES, Dataset


def require_labels(labels: int, batch_size: int) -> None:
    """Raise `ConfigError` unless `labels` can be class-balanced and hold a minibatch."""
    allowed = f"a multiple of {CLASSES}, the number of classes, from {CLASSES} up"
    require(labels >= CLASSES and labels % CLASSES == 0, "labels", labels, allowed)
    allowed = f"0 (all labels at once) or up to {labels}, the number of labels"
    require(0 <= batch_size <= labels, "batch_size", batch_size, allowed)


def check_labels(labels: int, data: Dataset) -> None:
    """Raise `ConfigError` where `data` has fewer labels than that, class-balanced."""
    most = data.most_labels()
    allowed = f"a multiple of {CLASSES} up to {most}, what {data.name} has class-balanced"
    require(labels <= most, "labels", labels, allowed)
