"""Content that may be anything by now: decoded, or refused with the name of its file."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from study.store.formats import IDENTITY
from study.store.storage import StoreError


class DamagedCell(StoreError):
    """A finished cell with a file that is no longer what was written."""

    def __init__(self, path: Path | str, what: str) -> None:
        super().__init__(f"{path}: damaged ({what}); `study run` recomputes the cell")
        self.reason = f"damaged: {str(path).rpartition('/')[2]}: {what}"
        """Which file and what, without the path: the same wherever the results are moved."""
        self.arguments = path, what

    def __reduce__(self) -> tuple[Any, ...]:  # it goes from the report's process to the driver's
        return type(self), self.arguments


def decoded(content: bytes, path: Path | str) -> Any:
    """What a JSON file holds."""
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: can't be read ({error})") from error


def sha256(content: bytes) -> str:
    """By which a file is known to be what was written: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def checked_identity(identity: str) -> str:
    """`identity`, if it is one, and so may be a part of a name."""
    if not IDENTITY.fullmatch(identity):
        raise StoreError(f"{identity!r} is not the id of a cell")
    return identity


@contextmanager
def decoding(path: Path | str) -> Iterator[None]:
    """Whatever a decoder makes of foreign content, as one kind of error that names the file."""
    from pyarrow.lib import ArrowException
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError, ValueError, TypeError, LookupError, EOFError, NotImplementedError,
        ArrowException, BadZipFile, SafetensorError, zlib.error,
    ) as error:  # fmt: skip
        raise StoreError(f"{path}: can't be read ({error})") from error
