"""One driver at a time where there are no locks: a lease, which its holder renews.

    RESULTS/lease/TOKEN.json    who asks or holds, one file a driver

Object storage can't take a lock, nor create an object only if there is none. So a driver first
writes down that it asks, then looks who else does: of two that ask at once at least one sees the
other, and steps back. A file that is not written again for `STALE` seconds is a dead driver's. Ages
are differences of times of the storage's own clock, so the drivers' clocks may be wrong.

A driver that was cut off for longer finds, when it is back, that another has a later term than its
own, and ends. Until it notices, both run: a cell is then computed twice, and nothing is corrupted,
as `study.store.objects` says.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from study.store.lock import Hold
from study.store.storage import Place, StoreError

EVERY = 10.0
"""Seconds between two renewals."""
STALE = 60.0
"""Seconds after which one that was not renewed is nobody's."""
TRIES = 6
"""How often a driver asks where others ask at the same moment."""


def _kernel() -> str:
    """Names the processes among which a process id has one meaning; empty where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


class Lease(Hold):
    """This process's file among those of all drivers."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.name = f"{uuid.uuid4().hex}.json"
        self.since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        self.term = 0
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def _write(self, holds: bool) -> None:
        content = {
            "pid": os.getpid(),
            "host": platform.node(),
            "kernel": _kernel(),
            "since": self.since,
            "term": self.term,
            "holds": holds,
        }
        self.place.replace(f"lease/{self.name}", json.dumps(content).encode())

    def _others(self) -> dict[str, dict[str, Any]]:
        """What the files of other drivers say, by name, with their `age` in seconds."""
        others = {}
        for name, age in self.place.ages("lease").items():
            if name == self.name:
                continue
            try:
                content = json.loads(self.place.read(f"lease/{name}"))
                others[name] = {**content, "age": age, "term": int(content["term"])}
            except FileNotFoundError:
                continue  # it has ended in between
            except (ValueError, LookupError, TypeError, RecursionError):
                # Not what a driver writes. It counts as one until it is stale.
                others[name] = {"age": age, "term": 0, "holds": True}
        return others

    def acquire(self) -> None:
        """Raise `StoreError` where another driver has the lease."""
        for _ in range(TRIES):
            self._write(holds=False)
            others = self._others()
            alive = {name: other for name, other in others.items() if not _dead(other)}
            if not alive:
                self.term = 1 + max((other["term"] for other in others.values()), default=0)
                self._write(holds=True)
                for name in others:
                    self.place.delete(f"lease/{name}")
                return
            self.place.delete(f"lease/{self.name}")
            holder = next((other for other in alive.values() if other.get("holds")), None)
            if holder:
                raise StoreError(
                    f"{_shown(self.place)} is in use by {_named(holder)}; wait, or end it "
                    f"(a dead one's lease ends by itself within {STALE:.0f} s)"
                )
            time.sleep(random.uniform(0.2, 2.0))
        raise StoreError(f"{_shown(self.place)} is in use by others, which have just started; wait")

    def start(self) -> None:
        """Renew it from now on, in a thread."""
        self._renewing.start()

    def _renew(self) -> None:
        while not self._ended.wait(EVERY):
            try:
                self._renew_once()
            except StoreError:
                continue  # the storage is away; what is due then is found out when it is back
            if self.lost:
                # As Ctrl-C does, which the main thread knows how to end upon.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    def _renew_once(self) -> None:
        later = [other for other in self._others().values() if other["term"] > self.term]
        if later:
            self.lost = _named(later[0])
        else:
            self._write(holds=True)

    def release(self) -> None:
        """End it; where the storage is away it ends by itself."""
        self._ended.set()
        self._renewing.join(timeout=EVERY)
        with self.place.once(), suppress(StoreError):
            self.place.delete(f"lease/{self.name}")


def _dead(other: dict[str, Any]) -> bool:
    """Whether a driver is certain not to run any more, or to have been cut off for too long."""
    if other["age"] > STALE:
        return True
    if not _kernel() or other.get("kernel") != _kernel() or not isinstance(other.get("pid"), int):
        return False
    return not Path(f"/proc/{other['pid']}").exists()


def _shown(place: Place) -> str:
    return place.address.partition("?")[0]


def _named(holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        return "another process"
    return f"process {holder['pid']} on {holder.get('host')} since {holder.get('since')}"


@contextmanager
def hold(place: Place) -> Iterator[Lease]:
    """Hold the lease of `place` for the block. Raises `StoreError` where another driver does."""
    lease = Lease(place)
    lease.acquire()
    lease.start()
    try:
        yield lease
    finally:
        lease.release()
