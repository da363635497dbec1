"""Errors that a user can fix, and exit codes (those of signals are in `study.signals`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE = 0
"""Exit code: every replicate that was asked for is there."""
FAILED = 1
"""Exit code: something failed; the rest is kept, and the report says what is missing."""
BAD_INPUT = 2
"""Exit code: something about the command has to change; nothing was started."""


class BadInput(ValueError):
    """One line on an option or argument that the user has to change."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"{option} {value}: {allowed}")
        self.arguments = option, value, allowed

    def __reduce__(self) -> tuple[type, tuple[str, object, str]]:
        return type(self), self.arguments


class NoResources(BadInput):
    """The cluster can't be reached, or has no node that can hold a trial."""


class StoreError(RuntimeError):
    """A results folder, or something in it, can't be used. The message says which and why."""


class DataMissing(StoreError):
    """The images that cells were computed from are missing, or have changed."""


def nearest_existing(path: Path) -> Path:
    """The path itself if it exists, else the nearest folder above it."""
    return next(known for known in (path, *path.absolute().parents) if known.exists())


@contextmanager
def resolving(option: str, path: Path) -> Iterator[None]:
    """Turn path-resolution errors inside the block into `BadInput`."""
    try:
        path.resolve()  # raises for a loop of links, which other calls take for a missing file
        yield
    except (OSError, RuntimeError) as error:
        raise BadInput(option, path, getattr(error, "strerror", None) or str(error)) from error
