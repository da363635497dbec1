"""Where results are: a folder, or object storage. Nothing but this module and
`study.store.objects` knows which.

A place holds files by name, such as `study.json` or `failed/0123456789abcdef.json`, and replaces
each in one step. It also holds *finished folders*: files that are written together, once, with a
marker that is there last of all, so that half of one does not exist.

    place = at("results")                    # or "file:///shared/results"
    place = at("s3://bucket/path")           # or gs://, or whatever else pyarrow.fs knows
    place.replace("note.json", b"{}")

pyarrow is imported for a URI only: a local folder does without it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")
U = TypeVar("U")

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class StoreError(RuntimeError):
    """A results folder, or a cell in it, that can't be used: says which and why."""


class Place(ABC):
    """Files by name. A name is relative, its parts joined by `/`; whoever makes one out of what
    comes from outside checks that first.

    A file that is not there is a `FileNotFoundError`. Other errors are those of the system in a
    folder (`OSError`), and `StoreError` on object storage.
    """

    address: str
    """What `at` makes this place of, on any node."""
    shared: bool
    """Whether every node is certain to see the same. A folder may be shared; nobody knows."""

    @abstractmethod
    def where(self, name: str = "") -> Path | str:
        """A file or folder as the user would name it: a path, or a URI."""

    # --- the whole ---------------------------------------------------------------------------

    @abstractmethod
    def reach(self) -> None:
        """Raise `StoreError` where results can't be read from here, and never could; that there
        are none yet is no error."""

    @abstractmethod
    def create(self, *folders: str) -> None:
        """Make the place ready for files in `folders`. Raises `StoreError` where it can't be
        written to."""

    @abstractmethod
    def trouble(self) -> str | None:
        """Why nothing more can be written, in a line; None where a mebibyte can."""

    @abstractmethod
    def once(self) -> AbstractContextManager[None]:
        """For the block, a request that fails is not tried again."""

    @abstractmethod
    def free(self) -> int | None:
        """Bytes that can still be written; None where that has no bound."""

    # --- single files ------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def replace(self, name: str, content: bytes) -> None:
        """Write a file, in one step: a reader sees all of the old content or all of the new."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in a folder; none where it is not there."""

    @abstractmethod
    def ages(self, folder: str) -> dict[str, float]:
        """Seconds since each file directly in a folder was written, by name, counted from the
        youngest of them: differences of one clock, that of the storage."""

    # --- finished folders --------------------------------------------------------------------

    @abstractmethod
    def staging(self, name: str) -> AbstractContextManager[Path]:
        """A new folder of this machine for the files of the finished folder `name`, for the
        block; what is not published by then is gone."""

    @abstractmethod
    def publish(self, staged: Path, name: str, marker: str, content: Mapping[str, Any]) -> None:
        """Make the files in `staged` the finished folder `name`, whose file `marker` holds
        `content`. Where another process was faster, its folder stays."""

    @abstractmethod
    def finished(self, folder: str, marker: str) -> dict[str, bool]:
        """The finished folders in `folder`, by name, and of each whether it is certain without
        reading them that its files are those that were published."""

    @abstractmethod
    def move_away(self, name: str, to: str) -> Path | str:
        """Move a folder to `to`-1, or the first number that is not taken; return where it is."""

    @abstractmethod
    def sweep(self, folder: str, marker: str, mine: Callable[[str], bool]) -> None:
        """Remove what killed processes have left unfinished in `folder`, of names that are
        `mine`. Only for who is alone in this place."""

    # --- whole folders of other programs -----------------------------------------------------

    @abstractmethod
    def folder(self, name: str) -> AbstractContextManager[Path]:
        """A folder of this machine to write into for the block, whose files are those of the
        folder `name` afterwards. What is there already stays, if it is not overwritten."""

    @abstractmethod
    def each(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """`map`, with as many calls at once as are worth it for reading from here."""


class Folder(Place):
    """A folder of this machine, or of a file system that is mounted here."""

    shared = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.address = str(self.path)

    def where(self, name: str = "") -> Path:
        return self.path / name if name else self.path

    def reach(self) -> None:
        there = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not there.is_dir():
            raise StoreError(f"{there} is a file, not a folder")

    def create(self, *folders: str) -> None:
        self.reach()
        try:
            for name in ("", *folders):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable.{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(f"{self.path} can't be written to ({error.strerror})") from error

    def trouble(self) -> str | None:
        probe = self.path / f".space.{uuid.uuid4().hex}"
        try:
            probe.write_bytes(bytes(2**20))
        except OSError:
            return f"no space is left in {self.path}"
        finally:
            probe.unlink(missing_ok=True)
        return None

    def once(self) -> AbstractContextManager[None]:
        return nullcontext()

    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def replace(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return os.path.exists(f"{self.address}/{name}")

    def names(self, folder: str) -> list[str]:
        try:
            with os.scandir(self.path / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_file())
        except FileNotFoundError:
            return []

    def ages(self, folder: str) -> dict[str, float]:
        paths = [self.path / folder / name for name in self.names(folder)]
        return since_youngest({path.name: path.stat().st_mtime for path in paths})

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        final = self.path / name
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        temporary.mkdir(parents=True)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def publish(self, staged: Path, name: str, marker: str, content: Mapping[str, Any]) -> None:
        final = self.path / name
        (staged / marker).write_text(json.dumps(content, indent=1), encoding="utf-8")
        if not (final / marker).exists():
            # A folder without a marker is what a copy or a deletion left half done.
            shutil.rmtree(final, ignore_errors=True)
        try:
            staged.rename(final)
        except OSError:
            if not (final / marker).exists():
                raise

    def finished(self, folder: str, marker: str) -> dict[str, bool]:
        try:
            with os.scandir(self.path / folder) as entries:
                # Nothing is known of the files: whoever likes may have written to them.
                return {e.name: False for e in entries if os.path.exists(f"{e.path}/{marker}")}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def move_away(self, name: str, to: str) -> Path:
        number = 1
        (self.path / to).parent.mkdir(exist_ok=True)
        while (place := self.path / f"{to}-{number}").exists():
            number += 1
        (self.path / name).rename(place)
        return place

    def sweep(self, folder: str, marker: str, mine: Callable[[str], bool]) -> None:
        for left in (self.path / folder).glob(".*.*"):
            if not mine(left.name[1:]):
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        yield path

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        return map(function, items)


def since_youngest(times: Mapping[str, float]) -> dict[str, float]:
    """Seconds from each of `times` to the last of them."""
    last = max(times.values(), default=0.0)
    return {name: last - written for name, written in times.items()}


def is_uri(text: str | Path) -> bool:
    """Whether this names a place by a URI, such as `s3://bucket/path`."""
    return isinstance(text, str) and SCHEME.match(text) is not None


def at(place: str | Path | Place) -> Place:
    """The place of this name: a path, or any URI that `pyarrow.fs.FileSystem.from_uri` knows.

    Raises `StoreError` where it is a URI of no use.
    """
    if isinstance(place, Place):
        return place
    if not is_uri(place):
        return Folder(place)
    if str(place).startswith("file:"):
        parts = urlsplit(str(place))
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StoreError(f"{place} names no folder of this machine; file:///path does")
        return Folder(unquote(parts.path))
    from study.store.objects import Objects

    return Objects(str(place))
