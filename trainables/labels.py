"""Checks and costs shared by the settings of models that learn from few labels."""

from __future__ import annotations

from trainables.contract import require
from trainables.data import Dataset

STEP_COST = 30
"""Fixed cost of a training step, as a number of images that take as long (20 and 80 labels, width
16: 4 and 9 s for the same steps of two replicates on one core)."""

CODES_COST = 1 / 16
"""Cost of encoding an image with frozen weights, relative to learning from it."""


def require_labels(labels: int, batch_size: int) -> None:
    """Raise `ConfigError` unless `labels` is at least 1 and can fill a minibatch."""
    require(labels >= 1, "labels", labels, "an integer of at least 1")
    allowed = f"0 (all labels at once) or up to {labels}, the number of labels"
    require(0 <= batch_size <= labels, "batch_size", batch_size, allowed)


def check_labels(labels: int, data: Dataset) -> None:
    """Raise `ConfigError` unless `data` has this many `labels`, class-balanced."""
    classes = len(data.classes)
    require(classes > 1, "labels", labels, f"left out, as the images of {data.name} have none")
    most = data.most_labels
    allowed = f"a multiple of {classes}, the number of classes, up to {most}, what {data.name} has"
    require(labels <= most and labels % classes == 0, "labels", labels, allowed)
