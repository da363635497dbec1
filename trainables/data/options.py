"""Options that select and convert images: `--image-size`, `--grey`, `--classes`, `--limit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.data.collection import require_images, require_memory
from trainables.data.dataset import DataError, Dataset, Split, stratified


@dataclass(frozen=True)
class Options:
    """Options of a dataset besides its name."""

    image_size: tuple[int, int] | None = None
    """Height and width that images are scaled to; None: as they are. For a CSV of pixels, the shape
    of its images."""
    grey: bool = False
    """Convert colours to shades of grey."""
    classes: tuple[str, ...] = ()
    """The classes to take; empty: all."""
    limit: int = 0
    """Total number of images to take, each class in proportion; 0: all."""
    group_by: str = ""
    """Column of a CSV or Parquet file; images with the same value are never in two splits."""

    def record(self) -> dict[str, Any]:
        """The options that aren't at their default, as JSON values."""
        return {k: value for k, value in vars(self).items() if value != getattr(Options, k)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Options:
        """Return the options that gave this `record`. Raises `DataError` for anything else."""
        try:
            size, classes = record.get("image_size"), record.get("classes", ())
            return cls(
                image_size=(int(size[0]), int(size[1])) if size else None,
                grey=bool(record.get("grey", False)),
                classes=tuple(map(str, classes)),
                limit=int(record.get("limit", 0)),
                group_by=str(record.get("group_by", "")),
            )
        except (TypeError, ValueError, LookupError) as error:
            raise DataError(f"the options of the data can't be read ({error})") from error

    def apply(self, data: Dataset) -> Dataset:
        """Apply these options to `data`. Raises `DataError`."""
        if self.classes:
            data = require_images(with_classes(data, self.classes))
        if self.limit and self.limit < sum(map(len, data.splits)):
            data = require_images(take_share(data, self.limit))
        if self.grey and data.image_shape[0] == 3:
            data = map_images(data, grey)
        if self.image_size and data.image_shape[1:] != self.image_size:
            size = self.image_size
            data = map_images(data, lambda images: resize(images, size))
        return data


WHOLE = Options()
"""All images as they are."""


def map_images(data: Dataset, change: Callable[[np.ndarray], np.ndarray]) -> Dataset:
    """The dataset with `change` applied to the images (N, C, H, W) of each split."""
    return with_splits(data, [Split(change(split.images), split.labels) for split in data.splits])


def with_splits(data: Dataset, splits: Sequence[Split], classes: tuple[str, ...] = ()) -> Dataset:
    """The dataset with these splits (and these classes instead of its own)."""
    train, validation, test = splits
    return Dataset(data.name, train, validation, test, classes or data.classes)


def with_classes(data: Dataset, wanted: tuple[str, ...]) -> Dataset:
    """The images of the `wanted` classes, numbered in this order. Raises `DataError`."""
    unknown = [name for name in wanted if name not in data.classes]
    if unknown or len(set(wanted)) < 2:
        known = ", ".join(data.classes) or "none: its images have no labels"
        problem = f"no class {unknown[0]!r}" if unknown else "one class only is asked for"
        raise DataError(
            f"{data.name}: {problem}; --classes takes at least two of its classes, {known}"
        )
    wanted = tuple(dict.fromkeys(wanted))
    numbers = np.full(len(data.classes), -1)
    for number, name in enumerate(wanted):
        numbers[data.classes.index(name)] = number
    splits = []
    for split in data.splits:
        labels = numbers[split.labels]
        indices = np.flatnonzero(labels >= 0)
        splits.append(Split(split.images[indices], labels[indices].astype(np.uint8)))
    return with_splits(data, splits, wanted)


def take_share(data: Dataset, limit: int) -> Dataset:
    """Take `limit` images in all, each split and class in proportion. Raises `DataError`."""
    total, splits = sum(map(len, data.splits)), []
    for split in data.splits:
        count = round(limit * len(split) / total)
        if count < max(1, len(data.classes)):
            raise DataError(
                f"{data.name}: --limit {limit} leaves {count} images of a split with "
                f"{max(1, len(data.classes))} classes; take more"
            )
        indices = np.arange(len(split))
        if count < len(split):
            indices, _ = stratified(split.labels, len(split) - count, seed=0)
        splits.append(split.part(indices))
    return with_splits(data, splits)


def grey(images: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of colour `images` (N, 3, H, W): (N, 1, H, W) uint8."""
    weights = np.array([299, 587, 114], np.uint32)[None, :, None, None]
    parts = np.array_split(images, max(1, len(images) // 1000))  # saves memory: 4 bytes per number
    luma = [((weights * part).sum(axis=1, keepdims=True) + 500) // 1000 for part in parts]
    return np.concatenate(luma).astype(np.uint8)


def resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale `images` (N, C, H, W) uint8 to `size` (height, width). Raises `DataError`."""
    from PIL import Image

    height, width = size
    require_memory("the scaled images", len(images), (images.shape[1], height, width))
    resized = np.empty((*images.shape[:2], height, width), np.uint8)
    for index in np.ndindex(*images.shape[:2]):
        channel = Image.fromarray(images[index])
        resized[index] = channel.resize((width, height), Image.Resampling.BILINEAR)
    return resized
