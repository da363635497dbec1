"""One driver at a time in a results folder, or on a place on object storage."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from study.store.storage import Folder, Place, StoreError, at

NAME = "run.lock"


@dataclass
class Hold:
    """What a driver that is alone has."""

    lost: str | None = None
    """Who has it by now, where this process lost it while it was cut off. A lock can't be."""


@contextmanager
def alone_in(where: str | Path | Place) -> Iterator[Hold]:
    """Be the only driver of the results there for the block.

    Raises `StoreError` where another process is. One that was cut off from object storage until
    another took over is sent a SIGINT, and `lost` names the other.
    """
    place = at(where)
    if isinstance(place, Folder):
        with _locked(place.path):
            yield Hold()
    else:
        from study.store.lease import hold

        with hold(place) as lease:
            yield lease


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a results folder for the block.

    The lock is the operating system's, on the open file, so it ends with its process however
    that ends: what a dead driver leaves is a file that nobody has locked. The file says whose
    the lock is, for whoever finds it taken.

    Raises `StoreError` where another process holds it, or the file system has no locks.
    """
    path = folder / NAME
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} can't be written to ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            since = time.strftime("%Y-%m-%d %H:%M:%S %z")
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}))
            file.flush()
        except BlockingIOError:
            raise StoreError(f"{folder} is in use by {_holder(file)}; wait, or end it") from None
        except OSError as error:
            raise StoreError(f"{path} can't be locked ({error.strerror})") from error
        try:
            yield
        finally:
            file.truncate(0)  # emptied, not deleted: another process may have it open already


def _holder(file: TextIO) -> str:
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process, which has just started"  # and has not written its name yet
