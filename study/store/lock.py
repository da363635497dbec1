"""Lock that admits one driver at a time: a file lock in a folder, or a lease in a bucket.

A lease is one object, `lease.json`, that its holder rewrites every few seconds. Every write is
conditional on the content that its writer knows: if two drivers write at once, one is refused. A
lease expires if it is not renewed for `STALE` seconds by the storage's own clock. Its holder stops
relying on it earlier, `VALID` seconds after it sent the last accepted renewal. So there are never
two holders, whatever is delayed.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from study.errors import StoreError
from study.store.places import Folder, Place

RENEWAL_INTERVAL = 10.0
"""Seconds between two renewals."""
VALID = 55.0
"""Seconds a holder relies on a renewal. Less than `STALE`: storages count whole seconds."""
STALE = 60.0
"""Seconds without renewal after which a lease has expired."""
LEASE = "lease.json"
"""Name of the object in a bucket that holds the lease."""


class Hold:
    """A driver's exclusive hold on a place."""

    lost: str | None = None
    """Driver that took over, if this process lost its lease. A file lock can't be lost."""


def exclusive_lock(place: Place) -> AbstractContextManager[Hold]:
    """Be the only driver of the results in `place` for the block.

    Raises `StoreError` if the lock can't be taken, or another process has it. A driver that loses
    its lease is sent a SIGTERM.
    """
    return _locked(place.path) if isinstance(place, Folder) else _leased(place)


@contextmanager
def _locked(folder: Path) -> Iterator[Hold]:
    """Hold the operating system's lock on a results folder; it ends with the process."""
    path = folder / "run.lock"
    with ExitStack() as stack:
        try:
            file = path.open("a+", encoding="utf-8", errors="replace")
            stack.callback(_attempt, file.close)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Emptied, not deleted: another process may have it open.
            stack.callback(_attempt, file.truncate, 0)
            file.truncate(0)
            file.write(json.dumps(this_process()))
            file.flush()
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"{folder} is in use by {describe_holder(file.read())}; wait, or end it"
            ) from None
        except OSError as error:
            raise StoreError(f"{path} can't be locked ({error.strerror})") from error
        yield Hold()


def _attempt(action: Callable[..., object], *arguments: object) -> None:
    with suppress(OSError):  # of a file system that is gone
        action(*arguments)


@contextmanager
def _leased(place: Place) -> Iterator[Hold]:
    lease, released = Lease(place), threading.Event()
    lease.acquire()
    loops = (lease.keep, lease.watch)
    threads = [threading.Thread(target=loop, args=(released,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield lease
    finally:
        released.set()
        for thread in threads:
            thread.join(timeout=RENEWAL_INTERVAL)
        with place.single_attempt(), suppress(StoreError):
            lease.release()


def clock() -> float:
    """Seconds on a clock that also runs while this machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease(Hold):
    """This process's claim to `lease.json`."""

    def __init__(self, place: Any, clock: Callable[[], float] = clock) -> None:
        """`place` is a `study.store.bucket.Bucket`."""
        self.place = place
        self.clock = clock
        self._process = {**this_process(), "token": uuid.uuid4().hex}
        self._valid_until = clock()
        self._writes = 0
        self._tag: Any = None

    def is_held(self) -> bool:
        """True if this process is the only driver now."""
        return self.lost is None and self._tag is not None and self.clock() < self._valid_until

    def _write(self, tag: Any) -> bool:
        """Write the lease if it has this tag (None: if it doesn't exist); True if written."""
        sent = self.clock()
        self._writes += 1  # changes the content, and so the tag
        content = json.dumps({**self._process, "writes": self._writes}).encode()
        new = self.place.write_tagged(LEASE, content, tag)
        if new is not None:
            self._tag, self._valid_until = new, sent + VALID
        return new is not None

    def _read(self) -> tuple[bytes, Any]:
        """Content and tag of the lease; empty and None if it doesn't exist."""
        try:
            return self.place.read_tagged(LEASE)
        except FileNotFoundError:
            return b"", None

    def acquire(self) -> None:
        """Take the lease. Raises `StoreError` if another driver has it, or is just taking it."""
        if self._write(None):
            return
        holder, tag = self._read()
        if has_ended(holder) or self.place.age(LEASE) > STALE:
            if self._write(tag):
                return
            holder, _ = self._read()
        raise StoreError(
            f"{self.place.where()} is in use by {describe_holder(holder)}; wait, or end it "
            f"(a dead one's lease ends by itself within {STALE:.0f} s)"
        )

    def renew(self) -> None:
        """Write the lease again, or set `lost` if another driver has it.

        Raises `StoreError` if the storage doesn't answer.
        """
        if not self._write(self._tag) and self.lost is None:
            self.lost = describe_holder(self._read()[0])

    def keep(self, released: threading.Event) -> None:
        """Renew the lease until it is released or lost."""
        while not released.wait(RENEWAL_INTERVAL) and self.lost is None:
            with suppress(StoreError):  # out of reach; `watch` limits for how long
                self.renew()

    def watch(self, released: threading.Event) -> None:
        """Send this process a SIGTERM when the lease is lost: a background job ignores SIGINT."""
        while self.is_held():
            if released.wait(min(1.0, max(0.0, self._valid_until - self.clock()))):
                return
        self.lost = self.lost or "another driver"
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def release(self) -> None:
        """Empty the lease under its tag. A delayed deletion would remove the next driver's."""
        tag, self._tag = self._tag, None
        if tag is not None:
            self.place.write_tagged(LEASE, b"", tag)


def this_process() -> dict[str, Any]:
    """Description of this process for other drivers; `kernel` says where its `pid` is valid."""
    kernel = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        kernel = f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"pid": os.getpid(), "host": platform.node(), "kernel": kernel, "since": since}


def parse_holder(content: str | bytes) -> dict[str, Any]:
    """Process that a lock or lease names; empty for invalid content."""
    try:
        holder = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def has_ended(content: bytes) -> bool:
    """True if a lease is free: released, or held by a process of this host that has ended."""
    holder, kernel = parse_holder(content), this_process()["kernel"]
    pid = holder.get("pid") if kernel and holder.get("kernel") == kernel else None
    return not content or (isinstance(pid, int) and not Path(f"/proc/{pid}").exists())


def describe_holder(content: str | bytes) -> str:
    """`process 123 on host since …`, in one line for any content."""
    holder = parse_holder(content)
    if not {"pid", "host", "since"} <= holder.keys():
        return "another process, which has just started"  # and has not written its name yet
    text = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    return "".join(filter(str.isprintable, text))
