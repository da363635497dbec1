"""Results on object storage, through `pyarrow.fs`: S3, Google Cloud Storage, Azure …

Object storage has no rename, so a finished folder is put together another way. The files of one
try go under a prefix of their own, `NAME/TRY/…`, and then one atomic PUT writes the marker, which
names the prefix. Two writers of the same folder can't mix their files; the marker says whose count.

TRY is random, and ends with a checksum of the files' names and sizes. So one listing of all
folders tells, without reading any, that each file is there with the size it was written with; and
as an object has the time of its last write, that none was written after the marker. Folders for
which that isn't so must be read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pyarrow import fs
from pyarrow.lib import ArrowException

from study.store.storage import Place, StoreError, since_youngest

T = TypeVar("T")
U = TypeVar("U")

PATIENCE = 120.0
"""Seconds for which a request is tried again: a network that is gone for half a minute costs no
cell."""
AT_ONCE = 16
"""Requests at the same time."""
SLACK = 1.0
"""Seconds by which a file may seem newer than its marker: the clocks of a storage's machines."""
TOGETHER = 10.0
"""Seconds between the last file and the marker at most, else the marker was written again."""
ABANDONED = 3600.0
"""Seconds after which files that no marker names are nobody's: no worker takes so long."""
BUCKETS = ("s3", "gcs", "abfs")
"""File systems, as pyarrow calls them, whose paths begin with a bucket."""
FINAL = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|TOKEN|NO_SUCH_BUCKET|HTTP status 30\d"
    r"|(?<![\w:.])40[013](?![\w.])"
    r"|[Pp]ermission|[Uu]nauthori[sz]ed|does not exist|[Cc]redentials"
)
"""What an error says, beside the names in it, that the next try would say again. 400 in `0b400e43`
or in a port is no HTTP status."""


@cache
def _file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """pyarrow's file system for a URI, and the path in it. Raises `StoreError`."""
    shown = uri.partition("?")[0]
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StoreError(f"{shown} can't be used ({error})") from error
    if parts.scheme == "mock":
        raise StoreError(f"{shown} would be in the memory of one process; s3://bucket/path isn't")
    if parts.password or (parts.scheme == "s3" and parts.username):
        hidden = f"{parts.scheme}://…@{parts.hostname}"
        raise StoreError(
            f"{hidden}: credentials don't belong into an address, which is printed and stored; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your storage has instead"
        )
    if parts.scheme == "gs" and "retry_limit_seconds" not in parts.query:
        uri += f"{'&' if parts.query else '?'}retry_limit_seconds=10"  # else 15 minutes
    try:
        system, path = fs.FileSystem.from_uri(uri)
        if isinstance(system, fs.S3FileSystem):
            # The options that it was given, as its pickles have them, and some that URIs lack.
            options = dict(system.__reduce__()[1][0])
            options |= {"connect_timeout": 5, "request_timeout": 10, "allow_delayed_open": True}
            once_again = fs.AwsStandardS3RetryStrategy(max_attempts=2)
            system = fs.S3FileSystem(**options, retry_strategy=once_again)
    except (OSError, ArrowException) as error:
        raise StoreError(f"{shown} can't be used ({_short(error)})") from error
    path = path.strip("/")
    if not path and system.type_name in BUCKETS:
        raise StoreError(f"{shown} names no bucket; s3://bucket/path does")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise StoreError(f"{shown}: a path with '//', '.' or '..' in it names no object")
    return system, path


def _short(error: Exception) -> str:
    """What went wrong, in one line without what only the storage's operator could use."""
    return _plain(error)[:300]


def _plain(error: Exception) -> str:
    """The same, however long it is."""
    text = " ".join(str(error).split())
    text = re.sub(r"\(Request ID: [^)]*\)", "", text)
    found = re.search(r"AWS Error (.*)", text)
    return (found[1] if found else text).strip()


def _try_of(sizes: Mapping[str, int]) -> str:
    """A new name for a try that writes files of these names and sizes."""
    return f"{uuid.uuid4().hex[:16]}-{_digest(sizes)}"


def _digest(sizes: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()[:16]


def _vouched_for(marker: fs.FileInfo, tries: Mapping[str, Mapping[str, fs.FileInfo]]) -> bool:
    """Whether a listing shows a finished folder as it was published: one try, all of its files
    with their sizes, the marker last."""
    if len(tries) != 1 or not marker.size:
        return False
    (name, files), *_ = tries.items()
    if name.rpartition("-")[2] != _digest({file: info.size for file, info in files.items()}):
        return False
    last = max(_time(info) for info in files.values())
    return last - SLACK <= _time(marker) <= last + TOGETHER


def _time(info: fs.FileInfo) -> float:
    return (info.mtime_ns or 0) / 1e9


class Objects(Place):
    """A prefix of a bucket."""

    shared = True

    def __init__(self, uri: str) -> None:
        self.address = uri
        self.system, self.path = _file_system(uri)
        self.patience = PATIENCE

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address,)

    def where(self, name: str = "") -> str:
        return f"{self.address.partition('?')[0].rstrip('/')}/{name}" if name else self.address

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _do(self, what: str, name: str, call: Callable[[], T]) -> T:
        """The result of `call`; tried again while it's the network that fails."""
        end, pause = time.monotonic() + self.patience, 0.5
        while True:
            try:
                return call()
            except FileNotFoundError:
                missing = errno.ENOENT, "No such file or directory", self.where(name)
                raise FileNotFoundError(*missing) from None
            except (OSError, ArrowException) as error:
                if self._is_final(error, name) or time.monotonic() + pause > end:
                    shown = self.where(name).partition("?")[0]
                    raise StoreError(f"{shown} can't be {what} ({_short(error)})") from error
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _is_final(self, error: Exception, name: str) -> bool:
        """Whether the next try would fail as this one did, whatever the object is called."""
        return FINAL.search(_plain(error).replace(self._at(name), "")) is not None

    @contextmanager
    def once(self) -> Iterator[None]:
        self.patience = 0.0
        try:
            yield
        finally:
            self.patience = PATIENCE

    # --- the whole ---------------------------------------------------------------------------

    def reach(self) -> None:
        with self.once():
            self._require_bucket()
            self._list("", recursive=False)

    def _require_bucket(self) -> None:
        if self.system.type_name in BUCKETS:
            bucket = self.path.partition("/")[0]
            info = self._do("read", "", lambda: self.system.get_file_info(bucket))
            if info.type == fs.FileType.NotFound:
                shown = self.address.partition("?")[0]
                raise StoreError(f"{shown}: there is no bucket {bucket}; make it first")

    def create(self, *folders: str) -> None:
        with self.once():
            self._require_bucket()
            if self.system.type_name not in BUCKETS:
                for name in folders:
                    self._do("written to", "", partial(self.system.create_dir, self._at(name)))
            probe = f".writable.{uuid.uuid4().hex}"
            self.replace(probe, b"")
            self.delete(probe)

    def trouble(self) -> str | None:
        try:
            self.create()
        except StoreError as error:
            return str(error)
        return None

    def free(self) -> None:
        return None

    # --- single files ------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        def read() -> bytes:
            with self.system.open_input_stream(self._at(name), compression=None) as file:
                return file.read()

        return self._do("read", name, read)

    def replace(self, name: str, content: bytes) -> None:
        def write() -> None:
            path = self._at(name)
            if self.system.type_name not in BUCKETS:
                self.system.create_dir(path.rpartition("/")[0])
            with self.system.open_output_stream(path, compression=None) as file:
                file.write(content)

        self._do("written", name, write)

    def delete(self, name: str) -> None:
        try:
            self._do("deleted", name, lambda: self.system.delete_file(self._at(name)))
        except FileNotFoundError:
            return

    def exists(self, name: str) -> bool:
        info = self._do("read", name, lambda: self.system.get_file_info(self._at(name)))
        return info.type == fs.FileType.File

    def names(self, folder: str) -> list[str]:
        return sorted(self._list(folder, recursive=False))

    def _list(self, folder: str, recursive: bool = True) -> dict[str, fs.FileInfo]:
        """The files in a folder, by their names in it; one request a thousand."""
        path = self._at(folder)
        selector = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        found = self._do("listed", folder, lambda: self.system.get_file_info(selector))
        return {info.path[len(path) + 1 :]: info for info in found if info.type == fs.FileType.File}

    def ages(self, folder: str) -> dict[str, float]:
        listed = self._list(folder, recursive=False)
        return since_youngest({name: _time(info) for name, info in listed.items()})

    # --- finished folders --------------------------------------------------------------------

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            yield Path(folder)

    def publish(self, staged: Path, name: str, marker: str, content: Mapping[str, Any]) -> None:
        paths = sorted(staged.iterdir())
        attempt = _try_of({path.name: path.stat().st_size for path in paths})
        list(
            self.each(
                lambda path: self.replace(f"{name}/{attempt}/{path.name}", path.read_bytes()), paths
            )
        )
        if self.exists(f"{name}/{marker}"):
            for path in paths:
                self.delete(f"{name}/{attempt}/{path.name}")
            return
        named = {"try": attempt, **content}
        self.replace(f"{name}/{marker}", json.dumps(named, indent=1).encode())

    def finished(self, folder: str, marker: str) -> dict[str, bool]:
        markers, tries = self._contents(folder, marker)
        return {name: _vouched_for(info, tries.get(name, {})) for name, info in markers.items()}

    def _contents(
        self, folder: str, marker: str
    ) -> tuple[dict[str, fs.FileInfo], dict[str, dict[str, dict[str, fs.FileInfo]]]]:
        """The markers in `folder` by their folders' names, and the files by folder, try, name."""
        markers: dict[str, fs.FileInfo] = {}
        tries: dict[str, dict[str, dict[str, fs.FileInfo]]] = defaultdict(lambda: defaultdict(dict))
        for path, info in self._list(folder).items():
            name, _, rest = path.partition("/")
            if rest == marker:
                markers[name] = info
            elif rest:
                attempt, _, file = rest.rpartition("/")
                tries[name][attempt][file] = info
        return markers, tries

    def move_away(self, name: str, to: str) -> str:
        parent, _, last = to.rpartition("/")
        taken = {path.partition("/")[0] for path in self._list(parent)}
        number = next(n for n in range(1, len(taken) + 2) if f"{last}-{n}" not in taken)
        files = self._list(name)
        for file in files:
            source, target = self._at(f"{name}/{file}"), self._at(f"{to}-{number}/{file}")
            if self.system.type_name not in BUCKETS:
                self.system.create_dir(target.rpartition("/")[0])
            self._do("moved", name, partial(self.system.copy_file, source, target))
        # The marker first, which is the one file directly in the folder: then it is finished
        # no more, whatever happens next.
        for file in sorted(files, key=lambda file: file.count("/")):
            self.delete(f"{name}/{file}")
        return self.where(f"{to}-{number}")

    def sweep(self, folder: str, marker: str, mine: Callable[[str], bool]) -> None:
        """Also the tries that no marker names. Young ones stay: a worker that was cut off may be
        about to finish one."""
        markers, tries = self._contents(folder, marker)
        times = [_time(info) for of in tries.values() for t in of.values() for info in t.values()]
        now = max([*times, *map(_time, markers.values())], default=0.0)
        for name, attempts in tries.items():
            if not mine(name) or (len(attempts) == 1 and name in markers):
                continue
            named = self._named(f"{folder}/{name}/{marker}") if name in markers else ""
            for attempt, files in attempts.items():
                old = now - max(map(_time, files.values())) > ABANDONED
                if old and named is not None and attempt != named:
                    for file in files:
                        self.delete(f"{folder}/{name}/{attempt}/{file}")

    def _named(self, marker: str) -> str | None:
        """The try that a marker names; None where that can't be known."""
        try:
            named = json.loads(self.read(marker))["try"]
        except (FileNotFoundError, ValueError, RecursionError, LookupError, TypeError):
            return None
        return named if isinstance(named, str) else None

    # --- whole folders of other programs -----------------------------------------------------

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="study-") as temporary:
            yield Path(temporary)
            paths = [path for path in sorted(Path(temporary).rglob("*")) if path.is_file()]

            def upload(path: Path) -> None:
                self.replace(f"{name}/{path.relative_to(temporary).as_posix()}", path.read_bytes())

            list(self.each(upload, paths))

    def each(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)
