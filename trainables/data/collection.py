"""A user's images before they are divided into splits."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.dataset import MOST_CLASSES, DataError, Dataset, Split, stratified
from trainables.limits import memory

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The split that each name in files and folders means."""

FEWEST = 3
"""Fewest images of a class: one for each split."""

TEST, VALIDATION = 0.2, 0.1
"""Shares held out for missing splits: `test` from the images in no other split, then `validation`
from the rest."""


@dataclass(frozen=True)
class Collection:
    """Images of one source."""

    images: np.ndarray
    """(N, C, H, W) uint8."""
    labels: Sequence[str] | None = None
    """Class name of each image; None if images have no labels."""
    splits: Sequence[str] | None = None
    """`train`, `validation` or `test` for each image; None if unknown."""
    groups: Sequence[str] | None = None
    """Group of each image, such as a person; no group may be in two splits. None: no groups."""

    def to_dataset(self, name: str) -> Dataset:
        """Divide the images into three splits, those of the files if given. Raises `DataError`.

        Missing splits are held out, stratified or in whole groups.
        """
        classes, labels = number_classes(name, self.labels, len(self.images))
        groups = None if self.groups is None else np.asarray(self.groups)
        splits = np.asarray(self.splits or ["train"] * len(labels))
        indices = {
            split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")
        }
        rest = indices.pop("train")
        if not len(rest):
            raise DataError(f"{name}: no image is in the split `train`")
        for split, share in (("test", TEST), ("validation", VALIDATION)):
            if not len(indices[split]):
                leave = 2 if split == "test" and not len(indices["validation"]) else 1
                rest, indices[split] = hold_out_share(name, labels, groups, rest, share, leave)
        parts = rest, indices["validation"], indices["test"]
        if groups is not None:
            for first, second in itertools.combinations((set(groups[part]) for part in parts), 2):
                if common := first & second:  # possible in a user's files
                    group = str(min(common))
                    raise DataError(f"{name}: the group {group!r} is in two of its splits")
        train, validation, test = (Split(self.images[part], labels[part]) for part in parts)
        return require_images(Dataset(name, train, validation, test, classes))

    def select_classes(self, wanted: Sequence[str]) -> Collection:
        """The images of the `wanted` classes; all images unless `can_be_selected`."""
        if not can_be_selected(wanted, self.labels or ()):
            return self
        indices = [n for n, label in enumerate(self.labels or ()) if label in wanted]
        columns = [
            None if values is None else [values[n] for n in indices]
            for values in (self.labels, self.splits, self.groups)
        ]
        return Collection(self.images[indices], *columns)


def can_be_selected(wanted: Sequence[str], labels: Iterable[str | None]) -> bool:
    """True if `wanted` are at least two classes among `labels`. Others, if there are any, are
    refused later, by `options.with_classes`."""
    return len(set(wanted)) > 1 and set(wanted) <= set(labels)


def require_images(data: Dataset) -> Dataset:
    """Return `data`. Raises `DataError` if a split has no images, or a class no training image."""
    for name, split in zip(("training", "validation", "test"), data.splits, strict=True):
        if not len(split):
            raise DataError(f"{data.name}: there is no {name} image; more images are needed")
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    for name, count in zip(data.classes, counts, strict=False):
        if not count:
            raise DataError(f"{data.name}: no training image is of the class {name!r}")
    return data


def number_classes(
    name: str, labels: Sequence[str] | None, images: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names in natural order, and the class number of each image. Raises `DataError`."""
    if not images:
        raise DataError(f"{name}: there is no image in it")
    if labels is None:
        return (), np.zeros(images, np.uint8)
    counts = Counter(labels)
    classes = tuple(sorted(counts, key=natural))
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{name}: {len(classes)} classes; at most {MOST_CLASSES} are possible")
    if len(classes) < 2:
        raise DataError(
            f"{name}: one class only ({classes[0]}); give two or more, or images without labels: "
            "a folder of images alone. If that is the folder of all classes, give its path"
        )
    smallest = min(classes, key=lambda label: counts[label])
    if counts[smallest] < FEWEST:
        raise DataError(
            f"{name}: the class {smallest!r} has {counts[smallest]} image"
            f"{'s' if counts[smallest] > 1 else ''}; at least {FEWEST} are needed, one for each "
            "split"
        )
    by_name = {label: number for number, label in enumerate(classes)}
    return classes, np.array([by_name[label] for label in labels], np.uint8)


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key that puts 10 after 9, and words after numbers."""
    parts = re.split(r"([0-9]+)", text)
    return [
        (0, f"{len(part.lstrip('0')):04}{part.lstrip('0')}") if part.isdecimal() else (1, part)
        for part in parts
        if part
    ]


def hold_out_share(
    name: str,
    labels: np.ndarray,
    groups: np.ndarray | None,
    rest: np.ndarray,
    share: float,
    leave: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the indices `rest` into (kept, held out), the same on every machine and in every run.

    Without `groups`, each class is divided by `share`. With `groups`, whole groups are held out, up
    to `share` of the images; at least `leave` groups are kept. Raises `DataError`.
    """
    count = max(round(share * len(rest)), len(np.unique(labels[rest])), 1)
    if count >= len(rest):
        raise DataError(
            f"{name}: {len(rest)} images are too few for a training and a held-out part"
        )
    if groups is None:
        kept, held = stratified(labels[rest], count, seed=0)
        return rest[kept], rest[held]
    names, group_of_image, sizes = np.unique(groups[rest], return_inverse=True, return_counts=True)
    if len(names) <= leave:
        raise DataError(f"{name}: its groups are too few for three splits")
    held_groups: list[int] = []
    held_images = 0
    order = np.random.RandomState(0).permutation(len(names))
    for group in order:  # a group larger than the share stays in training
        fits = held_images + sizes[group] <= share * len(rest)
        if fits and len(held_groups) < len(names) - leave:
            held_groups.append(group)
            held_images += sizes[group]
    is_held = np.isin(group_of_image, held_groups or [int(sizes.argmin())])
    return rest[~is_held], rest[is_held]


def require_memory(name: str, count: int, shape: tuple[int, ...]) -> None:
    """Raise `DataError` if `count` images of this shape don't fit into half of the memory."""
    needed = count * int(np.prod(shape))
    usable = memory()
    if needed > usable / 2:
        raise DataError(
            f"{name}: {count:,} images of {' × '.join(map(str, shape))} take {needed / 2**30:.1f} "
            f"GiB of {usable / 2**30:.1f} GiB of memory; take a smaller --image-size, or --grey"
        )


ROUNDING = 1e-3
"""How far fractions may lie outside 0 … 1."""

DARKEST = 32
"""Smallest allowed value of the brightest pixel in images of 0 … 255."""


def as_bytes(name: str, images: np.ndarray) -> np.ndarray:
    """Convert numbers from 0 to 255, or fractions from 0 to 1, to uint8. Raises `DataError`."""
    if images.dtype == np.uint8 and images.max(initial=0) > 1:
        return images
    if images.dtype == bool:
        return images.astype(np.uint8) * 255
    if images.dtype.kind not in "iuf":
        raise DataError(f"{name}: pixels of type {images.dtype}; numbers are needed")
    if not images.size:
        raise DataError(f"{name}: there is no image in it")
    low, high = float(images.min()), float(images.max())
    allowed = "they must be 0 … 255, or 0 … 1"
    # Rounding leaves fractions a little outside.
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    if not (np.isfinite([low, high]).all() and low >= 0 and high <= 255):
        raise DataError(f"{name}: pixels from {low:g} to {high:g}; {allowed}")
    if high < DARKEST:
        raise DataError(f"{name}: the brightest pixel is {high:g}; {allowed}: scale them")
    return np.rint(images).astype(np.uint8)


def channels_first(name: str, images: np.ndarray) -> np.ndarray:
    """Convert images (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3, to (N, C, H, W).

    Raises `DataError` for other shapes.
    """
    if 0 in images.shape[1:]:
        raise DataError(f"{name}: images of shape {images.shape} have no pixel")
    if images.ndim == 3:
        return images[:, np.newaxis]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise DataError(
        f"{name}: images of shape {images.shape}; it must be (N, H, W), (N, H, W, C) or "
        "(N, C, H, W) with 1 or 3 channels"
    )
