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
    """Return the images (N, C, H, W) uint8 of N files, from the cache or from `decode`.

    The key is a hash of the files' bytes and of `form`, the options that they are decoded with. A
    cached array is memory-mapped. If caching fails, the files are decoded again the next time.
    Raises `DataError` for a file that can't be read.
    """
    name = _digest(paths, form)
    try:
        path = default_data_dir() / "decoded" / f"{name}.npy"
    except DataError:  # there is no home folder to cache them in
        return decode()
    with suppress(Exception):  # damage may raise anything; the file is then replaced
        cached = np.load(path, mmap_mode="r", allow_pickle=False)
        if cached.dtype == np.uint8 and cached.ndim == 4 and len(cached) == len(paths):
            return cached
    images = decode()
    with suppress(OSError):  # the home folder is read-only
        path.parent.mkdir(parents=True, exist_ok=True)
    save(path, images)
    return images


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
    """Write `array` as an `.npy` file, atomically; write none if that fails (a full disk, say)."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
