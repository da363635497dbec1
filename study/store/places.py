"""Places that hold results: a folder, or a bucket (`study.store.bucket`).

Each implements five operations on files; the rest is built on them.

    place = open_place("results")                    # or "file:///shared/results"
    place = open_place("s3://bucket/path")           # or gs://, az://
    place.write("note.json", b"{}")
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from study.errors import StoreError, nearest_existing

T = TypeVar("T")
U = TypeVar("U")

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")
"""Pattern for the names of files that are being written."""
UNSUPPORTED = (errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems without hard links, or that can't flush folders."""


class Place(ABC):
    """Files by name. A name is relative, with its parts joined by `/`.

    Callers must check a name that contains outside input.

        read            the content of a file
        write           a file in one step, durably; False if it must be absent and isn't
        list            sizes in bytes of all files below a folder, by their names relative to it
        delete          a file, if it exists
        modified_time   when a file was written, in seconds by the clock of the storage

        where           a file or folder as the user would name it: a path, or a URI
        reach           raises `StoreError` if nothing can be read from here; empty is fine
        working_folder  a local folder for the block; its files end up in the place's folder `name`

    A missing file is a `FileNotFoundError`. Other errors are `OSError` in a folder, and
    `StoreError` in a bucket.
    """

    address: str
    """Text from which `open_place` makes this place, on any node."""

    @abstractmethod
    def read(self, name: str) -> bytes: ...
    @abstractmethod
    def write(self, name: str, content: bytes, only_if_absent: bool = False) -> bool: ...
    @abstractmethod
    def list(self, folder: str) -> dict[str, int]: ...
    @abstractmethod
    def delete(self, name: str) -> None: ...
    @abstractmethod
    def modified_time(self, name: str) -> float: ...
    @abstractmethod
    def where(self, name: str = "") -> Path | str: ...
    @abstractmethod
    def reach(self) -> None: ...
    @abstractmethod
    def working_folder(self, name: str) -> AbstractContextManager[Path]: ...

    def single_attempt(self) -> AbstractContextManager[None]:
        """Don't retry requests that fail inside the block."""
        return nullcontext()

    def free(self) -> int | None:
        """Bytes that can still be written; None if there is no limit."""
        return None

    def parallel_map(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Like `map`, with concurrent calls if these are faster."""
        return map(function, items)

    @contextmanager
    def temporary_file(self, prefix: str, content: bytes = b"") -> Iterator[str]:
        """A file in the place for the block; yields its new name, which starts with `prefix`."""
        name = prefix + uuid.uuid4().hex
        try:
            self.write(name, content)
        except BaseException:
            # The file may exist, although the answer was lost. Don't wait for the storage again.
            with suppress(Exception), self.single_attempt():
                self.delete(name)
            raise
        try:
            yield name
        finally:
            self.delete(name)

    def age(self, name: str) -> float:
        """Seconds since a file was written, by the clock of the storage."""
        with self.temporary_file(".clock.") as probe:
            return self.modified_time(probe) - self.modified_time(name)

    def create(self) -> None:
        """Prepare the place for writing. Raises `StoreError` if that is impossible."""
        self.reach()
        if problem := self.write_problem(1):
            raise StoreError(problem)

    def write_problem(self, size: int = 2**20) -> str | None:
        """Why `size` bytes can't be written, in one line; None if they can."""
        try:
            with self.single_attempt(), self.temporary_file("blocks/.probe.", bytes(size)):
                pass  # most files are written to this folder
        except StoreError as error:
            return str(error)
        except OSError as error:
            return self.write_error_text(error)
        return None

    def write_error_text(self, error: OSError) -> str:
        """Why the place can't be written to, in one line."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no space is left in {self.where()}"
        return f"{self.where()} can't be written to ({error.strerror})"


class Folder(Place):
    """A folder on this machine, or on a file system that is mounted here."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.address = str(self.path)

    def where(self, name: str = "") -> Path:
        return self.path / name

    def create(self) -> None:
        self.reach()
        try:
            make_folders(self.path)
        except OSError as error:
            raise StoreError(self.write_error_text(error)) from error
        super().create()

    def reach(self) -> None:
        existing = nearest_existing(self.path)
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
        if not self.path.is_dir():  # unmounted: a new folder would be on this host
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.address)
        make_folders(path.parent)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with flushed(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            if only_if_absent and not link(temporary, path):
                return False
            if not only_if_absent:
                os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def list(self, folder: str) -> dict[str, int]:
        found = {}
        for name, entry in self._files(folder):
            if not TEMPORARY.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # removed meanwhile
                    found[name] = entry.stat().st_size
        return found

    def _files(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """All files below a folder, with their names relative to it."""
        top, folders = os.path.join(self.address, folder), [""]
        while folders:
            inside = folders.pop()
            with suppress(FileNotFoundError, NotADirectoryError):
                for entry in os.scandir(os.path.join(top, inside)):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{inside}{entry.name}/")
                    else:
                        yield inside + entry.name, entry

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def modified_time(self, name: str) -> float:
        return (self.path / name).stat().st_mtime

    @contextmanager
    def working_folder(self, name: str) -> Iterator[Path]:
        make_folders(self.path / name)
        yield self.path / name

    def sweep(self) -> None:
        """Remove the temporary files that killed processes left behind."""
        for _, entry in self._files(""):
            if TEMPORARY.fullmatch(entry.name):
                Path(entry.path).unlink(missing_ok=True)


@contextmanager
def flushed(path: Path, flags: int) -> Iterator[int]:
    """Open a file or folder for the block, and flush it to disk at the end."""
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(temporary: Path, path: Path) -> bool:
    """Give a file the name `path` unless it exists; return whether it was given."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS repeats a request whose answer was lost, and then finds its own link.
        return os.path.samefile(temporary, path)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.replace(temporary, path)
    return True


def make_folders(path: Path) -> None:
    """Make a folder and its parents, so that each survives a power failure."""
    if not path.is_dir():
        make_folders(path.parent)
        path.mkdir(exist_ok=True)
        flush(path.parent)


def flush(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    try:
        with flushed(folder, os.O_RDONLY | os.O_DIRECTORY):
            pass
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def is_uri(text: str | Path) -> bool:
    """True if this is a URI, such as `s3://bucket/path`."""
    return isinstance(text, str) and SCHEME.match(text) is not None


def open_place(place: str | Path | Place) -> Place:
    """Place at a path or URI. Raises `StoreError` for a URI that can't be used."""
    if isinstance(place, Place):
        return place
    if not is_uri(place):
        return Folder(place)
    if str(place).startswith("file:"):
        parts = urlsplit(str(place))
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise StoreError(f"{place} is not a folder of this machine; use file:///path")
        if parts.query or parts.fragment:
            raise StoreError(f"{place}: ? and # end a path; write %3F and %23")
        return Folder(unquote(parts.path))
    from study.store.bucket import Bucket

    return Bucket(str(place))
