"""Datasets: three splits of images and labels, and class-balanced subsets of labels."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

DIGITS = tuple("0123456789")
"""Names of MNIST's classes."""

MOST_CLASSES = 256
"""Largest number of classes: labels and predictions are bytes."""


class DataError(ValueError):
    """A dataset is missing, damaged or unusable; the message says why, and what to do."""


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    images: np.ndarray
    """(N, C, H, W) uint8, 0 … 255, with one channel (grey) or three (colour). Grey images may be
    given as (N, H, W)."""
    labels: np.ndarray
    """(N,) uint8, numbers of classes; all 0 if images have no labels."""

    def __post_init__(self) -> None:
        if self.images.ndim == 3:
            object.__setattr__(self, "images", self.images[:, np.newaxis])

    def __len__(self) -> int:
        return len(self.labels)

    def on(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, C, H, W) uint8 and labels (N,) int64 as tensors on `device`.

        Their strides are those of a new tensor. An array's own strides depend on how it was made,
        and change when it is sent to another process. PyTorch chooses a convolution algorithm by
        the strides, and the algorithm determines the last bits of results.
        """
        import torch

        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            images = torch.from_numpy(self.images.reshape(-1)).view(self.images.shape).to(device)
            labels = torch.from_numpy(self.labels).to(device, torch.int64)
        return images, labels

    def part(self, indices: np.ndarray) -> Split:
        """The images of these `indices`."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits: `train` to learn from, `validation` to choose models, `test` to judge
    them once."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = DIGITS
    """Names of the classes, by number; empty if the images have no labels."""

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Training, validation and test images."""
        return self.train, self.validation, self.test

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def is_dark(self) -> bool:
        """True if images are light on black, like MNIST's; figures show them black on white."""
        return self.image_shape[0] == 1 and bool(self.train.images[:1000].mean() < 0.3 * 255)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 over every image and label in order.

        Other data, or another division into splits, have another fingerprint.
        """
        digest = hashlib.sha256()
        for split in self.splits:
            digest.update(np.int64(len(split)).tobytes())
            digest.update(np.ascontiguousarray(split.images))
            digest.update(np.ascontiguousarray(split.labels))
        if self.image_shape != (1, 28, 28) or len(self.classes) != len(DIGITS):
            # The same bytes are other images in another shape; a class may have no image.
            digest.update(repr((self.image_shape, len(self.classes))).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def most_labels(self) -> int:
        """Size of the largest class-balanced label subset of the training split."""
        # Cached, as every few-shot cell of a plan is checked against it.
        classes = len(self.classes)
        return int(np.bincount(self.train.labels, minlength=classes).min()) * classes


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert bytes 0 … 255 of any shape to floating-point pixels in [0, 1], and keep those."""
    if images.is_floating_point():
        return images
    import torch

    return images.to(torch.get_default_dtype()).div_(255)


def label_subset(
    labels: np.ndarray, size: int, seed: int, subset: int, classes: int = len(DIGITS)
) -> np.ndarray:
    """Indices (size,) of a class-balanced subset of `labels` (N,). Raises `DataError` if none fits.

    Subsets with the same `seed` and `subset` are nested: the first 20 indices of the subset of 160
    are the subset of 20.
    """
    per_class, rest = divmod(size, classes)
    counts = np.bincount(labels, minlength=classes)
    fewest = int(counts.min())
    if rest or not 1 <= per_class <= fewest:
        raise DataError(
            f"{size} labels can't be class-balanced; give a multiple of {classes} "
            f"from {classes} to {fewest * classes}"
        )
    draw = np.random.default_rng([seed, subset])
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    ranked = [draw.permutation(indices) for indices in by_class]
    return np.stack([indices[:per_class] for indices in ranked], axis=1).reshape(-1)


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Divide `split` into (kept, `count` held out), stratified; the same in every run."""
    kept, held = stratified(split.labels, count, seed=0)
    return split.part(kept), split.part(held)


def stratified(labels: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the indices of `labels` (N,) into (kept, held out), each class in proportion.

    The result is that of scikit-learn's `train_test_split(…, stratify=labels, random_state=seed)`,
    because the ids of stored results depend on its splits. Importing scikit-learn would take longer
    than planning 100,000 cells.
    """
    draw = np.random.RandomState(seed)
    _, class_of_image, counts = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(class_of_image, kind="stable"), np.cumsum(counts)[:-1])
    kept_counts = _shares(counts, len(labels) - held_out, draw)
    held_counts = _shares(counts - kept_counts, held_out, draw)
    kept: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for indices, keep, hold in zip(members, kept_counts, held_counts, strict=True):
        order = indices[draw.permutation(len(indices))]
        kept.append(order[:keep])
        held.append(order[keep : keep + hold])
    return draw.permutation(np.concatenate(kept)), draw.permutation(np.concatenate(held))


def _shares(counts: np.ndarray, total: int, draw: np.random.RandomState) -> np.ndarray:
    """Divide `total` into whole numbers in proportion to `counts` (C,).

    The largest remainders are rounded up first, ties at random.
    """
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    missing = int(total - shares.sum())
    for remainder in np.unique(exact - shares)[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(exact - np.floor(exact) == remainder)
        chosen = draw.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return shares.astype(int)
