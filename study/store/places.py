"""Where results are: a folder here, or a bucket (`study.store.bucket`). Five verbs, and what is
built on them.

    place = at("results")                    # or "file:///shared/results"
    place = at("s3://bucket/path")           # or gs://, az://
    place.write("note.json", b"{}")
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from study.errors import StoreError

T = TypeVar("T")
U = TypeVar("U")

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written."""

system = SimpleNamespace(
    open=os.open, write=os.write, fsync=os.fsync, replace=os.replace, link=os.link
)
"""The system calls of a write, in one place so that tests can make each of them fail."""


class Place(ABC):
    """Files by name. A name is relative, its parts joined by `/`; whoever makes one out of what
    comes from outside checks that first.

    A missing file is a `FileNotFoundError`. Other errors are `OSError` in a folder, and
    `StoreError` in a bucket.
    """

    address: str
    """What `at` makes this place of, on any node."""
    shared: bool
    """Whether every node is certain to see the same. A folder may be shared; nobody knows."""

    # --- the five verbs ----------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def write(self, name: str, content: bytes, only_if_absent: bool = False) -> bool:
        """Write a file in one step, durably: a reader sees all of it or nothing.

        False, and nothing is written, where it is to be absent and isn't.
        """

    @abstractmethod
    def list(self, folder: str) -> dict[str, int]:
        """Names and sizes in bytes of the files directly in a folder; none where it is absent."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def age(self, name: str) -> float:
        """Seconds since a file was written, by the clock of the storage."""

    # --- what differs besides ----------------------------------------------------------------

    @abstractmethod
    def where(self, name: str = "") -> Path | str:
        """A file or folder as the user would name it: a path, or a URI."""

    @abstractmethod
    def reach(self) -> None:
        """Raise `StoreError` if results can never be read from here; an empty place is fine."""

    def once(self) -> AbstractContextManager[None]:
        """Don't retry requests that fail inside the block."""
        return nullcontext()

    def free(self) -> int | None:
        """Bytes that can still be written; None where that has no bound."""
        return None

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """`map`, with as many calls at once as are worth it for reading from here."""
        return map(function, items)

    # --- what is built on them ---------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        folder, _, last = name.rpartition("/")
        return last in self.list(folder)

    def create(self) -> None:
        """Make the place ready to be written to. Raises `StoreError` where that is impossible."""
        self.reach()
        try:
            self._probe(b"")
        except OSError as error:
            raise StoreError(f"{self.where()} can't be written to ({error.strerror})") from error

    def trouble(self) -> str | None:
        """Why nothing more can be written, in a line; None where a mebibyte can."""
        try:
            with self.once():
                self._probe(bytes(2**20))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return f"no space is left in {self.where()}"
            return f"{self.where()} can't be written to ({error.strerror})"
        except StoreError as error:
            return str(error)
        return None

    def _probe(self, content: bytes) -> None:
        probe = f".probe.{uuid.uuid4().hex}"
        try:
            self.write(probe, content)
        finally:
            self.delete(probe)


class Folder(Place):
    """A folder of this machine, or of a file system that is mounted here."""

    shared = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.address = str(self.path)

    def where(self, name: str = "") -> Path:
        return self.path / name if name else self.path

    def reach(self) -> None:
        existing = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not existing.is_dir():
            raise StoreError(f"{existing} is a file, not a folder")

    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes, only_if_absent: bool = False) -> bool:
        path = self.path / name
        if only_if_absent and path.exists():
            return False
        make_folders(path.parent)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            write_file(temporary, content)
            if only_if_absent:
                return publish(temporary, path)
            system.replace(temporary, path)
            flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def list(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self.path / folder) as entries:
                found = ((entry.name, entry) for entry in entries if entry.is_file())
                return {
                    name: entry.stat().st_size
                    for name, entry in found
                    if not TEMPORARY.fullmatch(name)
                }
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def age(self, name: str) -> float:
        path = self.path / name
        probe = path.with_name(f".clock.{uuid.uuid4().hex}")
        try:
            probe.touch()
            return probe.stat().st_mtime - path.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """Remove the temporary files that killed processes have left in a folder."""
        for path in (self.path / folder).glob(".*"):
            if TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, and wait until it is on the disk."""
    descriptor = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[system.write(descriptor, rest) :]
        system.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, path: Path) -> bool:
    """Give a file its name, unless another has it; whether it was given."""
    try:
        system.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        system.replace(temporary, path)  # a file system without hard links
    flush_folder(path.parent)
    return True


def make_folders(path: Path) -> None:
    """Make a folder and those above it, each known to the one above when the power fails."""
    if not path.is_dir():
        make_folders(path.parent)
        path.mkdir(exist_ok=True)
        flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = system.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        system.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that can't
            raise
    finally:
        os.close(descriptor)


def is_uri(text: str | Path) -> bool:
    """Whether this names a place by a URI, such as `s3://bucket/path`."""
    return isinstance(text, str) and SCHEME.match(text) is not None


def at(place: str | Path | Place) -> Place:
    """The place of this name: a path, or a URI. Raises `StoreError` for a URI of no use."""
    if isinstance(place, Place):
        return place
    if not is_uri(place):
        return Folder(place)
    if str(place).startswith("file:"):
        parts = urlsplit(str(place))
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StoreError(f"{place} names no folder of this machine; file:///path does")
        return Folder(unquote(parts.path))
    from study.store.bucket import Bucket

    return Bucket(str(place))


@contextmanager
def working_folder(place: Place, name: str) -> Iterator[Path]:
    """A folder of this machine to write into for the block.

    Its files are those of the place's folder `name` afterwards. What is there already stays, if it
    is not overwritten.
    """
    if isinstance(place, Folder):
        path = place.path / name
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="study-") as temporary:
        yield Path(temporary)
        paths = [path for path in sorted(Path(temporary).rglob("*")) if path.is_file()]

        def upload(path: Path) -> None:
            place.write(f"{name}/{path.relative_to(temporary).as_posix()}", path.read_bytes())

        for _ in place.each(upload, paths):
            pass
