"""Decoded images, kept for the next time under the content of their files."""

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
    """Name of what decoding these files in this form gives: changes with any byte of theirs."""
    content = hashlib.blake2b(repr(form).encode(), digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from error
    return content.hexdigest()


def images(name: str, count: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """The `count` images (N, C, H, W) kept under this name, or else what `decode` gives.

    A kept file is read as memory is needed. What can't be kept is decoded again the next time.
    """
    try:
        path = default_data_dir() / "decoded" / f"{name}.npy"
    except DataError:  # there is no home to keep them in
        return decode()
    with suppress(Exception):  # whatever damage makes of it: then it is written anew
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
