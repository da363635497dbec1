"""One driver at a time: the lock of a folder, or the lease of a place in a bucket.

A lease is one object, `lease.json`, that its holder writes again every few seconds. Every write is
conditional on the content that its writer knows, so of two that write at once one is refused. A
lease that was not renewed for `STALE` seconds by the storage's own clock is nobody's; its holder
stops counting on it before that, `VALID` seconds after it sent the last renewal that was accepted.
So there are never two holders, whatever is delayed.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import StoreError
from study.store.places import Folder, Place

RENEWAL_INTERVAL = 10.0
"""Seconds between two renewals."""
VALID = 55.0
"""Seconds for which a holder counts on a renewal. Less than `STALE`: storages count whole ones."""
STALE = 60.0
"""Seconds after which a lease that was not renewed is nobody's."""
LEASE = "lease.json"


@dataclass
class Hold:
    """The hold of the only driver on a place."""

    lost: str | None = None
    """Who has it now, where this process lost it while it was cut off. A lock can't be lost."""


def exclusive_lock(place: Place) -> AbstractContextManager[Hold]:
    """Be the only driver of the results in `place` for the block.

    Raises `StoreError` where another process is. A driver that loses its lease is sent a SIGTERM.
    """
    return _locked(place.path) if isinstance(place, Folder) else _leased(place)


@contextmanager
def _locked(folder: Path) -> Iterator[Hold]:
    """Hold the lock of a results folder: the operating system's, which ends with its process."""
    path = folder / "run.lock"
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a+", encoding="utf-8", errors="replace"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.callback(file.truncate, 0)  # not deleted: another process may have it open
            file.truncate(0)
            file.write(json.dumps(this_process()))
            file.flush()
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"{folder} is in use by {named(file.read())}; wait, or end it"
            ) from None
        except OSError as error:
            raise StoreError(f"{path} can't be locked ({error.strerror})") from error
        yield Hold()


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
        with place.once(), suppress(StoreError):
            lease.release()


def clock() -> float:
    """Seconds, those in which this machine sleeps included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease(Hold):
    """This process's claim to `lease.json`."""

    def __init__(self, place: Any, clock: Callable[[], float] = clock) -> None:
        """`place` is a `study.store.bucket.Bucket`."""
        super().__init__()
        self.place = place
        self.clock = clock
        self._process = {**this_process(), "token": uuid.uuid4().hex}
        self._valid_until = clock()
        self._writes = 0
        self._tag: Any = None

    def is_held(self) -> bool:
        """Whether this process is the only driver now."""
        return self.lost is None and self._tag is not None and self.clock() < self._valid_until

    def _write(self, tag: Any) -> bool:
        """Write the lease if it has this tag, or with None doesn't exist; whether it is ours."""
        sent = self.clock()
        self._writes += 1  # other content, and so another tag
        content = json.dumps({**self._process, "writes": self._writes}).encode()
        new = self.place.write_tagged(LEASE, content, tag)
        if new is not None:
            self._tag, self._valid_until = new, sent + VALID
        return new is not None

    def _read(self) -> tuple[bytes, Any]:
        """The lease and its tag; nothing and None where there is none."""
        try:
            return self.place.read_tagged(LEASE)
        except FileNotFoundError:
            return b"", None

    def acquire(self) -> None:
        """Raise `StoreError` where another driver has the lease, or is just taking it."""
        if self._write(None):
            return
        holder, tag = self._read()
        if has_ended(holder) or self.place.age(LEASE) > STALE:
            if self._write(tag):
                return
            holder, _ = self._read()
        raise StoreError(
            f"{self.place.where()} is in use by {named(holder)}; wait, or end it "
            f"(a dead one's lease ends by itself within {STALE:.0f} s)"
        )

    def renew(self) -> None:
        """Write it again. Raises `StoreError` where the storage doesn't answer."""
        if not self._write(self._tag) and self.lost is None:
            self.lost = named(self._read()[0])

    def keep(self, released: threading.Event) -> None:
        """Renew it until it is released or lost."""
        while not released.wait(RENEWAL_INTERVAL) and self.lost is None:
            with suppress(StoreError):  # out of reach; `watch` knows for how long that is allowed
                self.renew()

    def watch(self, released: threading.Event) -> None:
        """Send this process a SIGTERM when it is lost: a background job ignores SIGINT."""
        while self.is_held():
            if released.wait(min(1.0, max(0.0, self._valid_until - self.clock()))):
                return
        self.lost = self.lost or "another driver"
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def release(self) -> None:
        """Empty it under its tag. A deletion that is delayed would end the next driver's."""
        tag, self._tag = self._tag, None
        if tag is not None:
            self.place.write_tagged(LEASE, b"", tag)


def this_process() -> dict[str, Any]:
    """By which other drivers know this one; `kernel` says where its `pid` has a meaning."""
    kernel = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        kernel = f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"pid": os.getpid(), "host": platform.node(), "kernel": kernel, "since": since}


def parsed(content: str | bytes) -> dict[str, Any]:
    """The holder that a lock or lease names; empty for foreign content."""
    try:
        holder = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def has_ended(content: bytes) -> bool:
    """Whether a lease is nobody's: released, or of a process of this host that has ended."""
    holder, kernel = parsed(content), this_process()["kernel"]
    pid = holder.get("pid") if kernel and holder.get("kernel") == kernel else None
    return not content or (isinstance(pid, int) and not Path(f"/proc/{pid}").exists())


def named(content: str | bytes) -> str:
    """`process 123 on host since …`, in one line whatever is there."""
    holder = parsed(content)
    if not {"pid", "host", "since"} <= holder.keys():
        return "another process, which has just started"  # and has not written its name yet
    text = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    return "".join(filter(str.isprintable, text))
