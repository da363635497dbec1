"""A cache of decoded images, by the content of their files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from trainables.data.dataset import DataError
from trainables.data.mnist import default_data_dir


def cached_images(
    paths: Sequence[Path], form: tuple[object, ...], decode: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the images (N, C, H, W) of N files in this `form`; `decode` and cache them if new.

    A cached file is read only as it is accessed. What can't be cached is decoded again the next
    time. Raises `DataError` for a file that can't be read.
    """
    name = _digest(paths, form)
    try:
        path = default_data_dir() / "decoded" / f"{name}.npy"
    except DataError:  # there is no home folder to cache them in
        return decode()
    with suppress(Exception):  # damage may raise anything; the file is then replaced
        known = np.load(path, mmap_mode="r", allow_pickle=False)
        if known.dtype == np.uint8 and known.ndim == 4 and len(known) == len(paths):
            return known
    found = decode()
    with suppress(OSError):  # a home that can't be written to
        path.parent.mkdir(parents=True, exist_ok=True)
    save(path, found)
    return found


def _digest(paths: Sequence[Path], form: tuple[object, ...]) -> str:
    """Digest of the `form` and of every byte of the files. Raises `DataError`."""
    content = hashlib.blake2b(repr(form).encode(), digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from error
    return content.hexdigest()


def save(path: Path, array: np.ndarray) -> None:
    """Write a file of NumPy's, atomically; or none, for example if the disk is full."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
