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


def key(paths: Sequence[Path], *form: object) -> str:
    """Name for the images decoded from these files in this form. Raises `DataError`.

    It changes with any byte of the files.
    """
    content = hashlib.blake2b(repr(form).encode(), digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from error
    return content.hexdigest()


def images(name: str, count: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the `count` images (N, C, H, W) cached under this name, else `decode` and cache them.

    A cached file is read only as it is accessed. What can't be cached is decoded again the next
    time.
    """
    try:
        path = default_data_dir() / "decoded" / f"{name}.npy"
    except DataError:  # there is no home folder to cache them in
        return decode()
    with suppress(Exception):  # damage may raise anything; the file is then replaced
        known = np.load(path, mmap_mode="r", allow_pickle=False)
        if known.dtype == np.uint8 and known.ndim == 4 and len(known) == count:
            return known
    found = decode()
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, found)
        part.replace(path)
    except OSError:  # a full disk, or a home that can't be written to
        with suppress(OSError):
            part.unlink()
    return found
