"""NumPy files: `.npz` with `images`, and optionally `labels` and `split`; `.npy` with images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.collection import SPLITS, Collection, as_bytes, channels_first, require_memory
from trainables.data.dataset import DataError
from trainables.data.options import Options


def read(path: Path, options: Options) -> Collection:
    """Read the images of a file. Raises `DataError`."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Collection(to_images(path, loaded))
        with loaded:
            if "images" not in loaded.files:
                existing = ", ".join(loaded.files) or "nothing"
                raise DataError(f"{path}: has no array `images`; there is {existing}")
            images = to_images(path, loaded["images"])
            labels, splits = (
                loaded[name] if name in loaded.files else None for name in ("labels", "split")
            )
    except DataError:
        raise
    # A damaged header can raise anything, even errors of zlib and of the tokenizer.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: can't be read as NumPy's ({reason})") from error
    return Collection(
        images,
        None if labels is None else label_names(path, labels, len(images)),
        None if splits is None else splits_of(path, label_names(path, splits, len(images))),
    )


def to_images(path: Path, images: np.ndarray) -> np.ndarray:
    """Convert an array from a file to images (N, C, H, W) uint8. Raises `DataError`."""
    require_memory(str(path), len(images) if images.ndim else 0, images.shape[1:])
    return as_bytes(str(path), channels_first(str(path), images))


def label_names(path: Path, labels: np.ndarray, images: int) -> list[str]:
    """Names of classes, from words or whole numbers of at least 0. Raises `DataError`."""
    if labels.shape != (images,):
        raise DataError(f"{path}: {images} images, but labels of shape {labels.shape}")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.rint(labels)).any():
            row = int(np.flatnonzero(~np.isfinite(labels) | (labels != np.rint(labels)))[0])
            raise DataError(
                f"{path}: label {row} is {labels[row]}; labels are words or whole numbers"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "iu" and labels.min(initial=0) < 0:
        row = int(np.flatnonzero(labels < 0)[0])
        raise DataError(f"{path}: label {row} is {labels[row]}; labels are words or at least 0")
    names = [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
        for label in labels.tolist()
    ]
    if "" in names:
        raise DataError(f"{path}: label {names.index('')} is missing")
    return names


def splits_of(path: Path, names: list[str]) -> list[str]:
    """`train`, `validation` or `test` for each name of a split. Raises `DataError` for others."""
    unknown = next((name for name in names if name.lower() not in SPLITS), None)
    if unknown is not None:
        raise DataError(f"{path}: split {unknown!r} is none of {', '.join(SPLITS)}")
    return [SPLITS[name.lower()] for name in names]
