"""Which driver may run, where there are no locks."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from study.store import lease
from study.store.lock import alone_in
from study.store.storage import StoreError, at

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import sys, time
from study.store import lease
from study.faults.interrupt import interruptible
from study.store.lock import alone_in
lease.EVERY, lease.STALE = 0.3, 2.0
with interruptible(), alone_in(sys.argv[1]) as hold:  # heard, though started with SIGINT ignored
    try:
        print("held", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("lost to", hold.lost, flush=True)
"""


@pytest.fixture
def place(s3, bucket):
    return at(s3.uri(bucket))


@pytest.fixture
def holder(place):
    """Another process, which holds the lease; it is stale after 2 s."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place.address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def other(place, name="other", **content):
    """The file of a driver on another machine."""
    words = {"pid": 7, "host": "elsewhere", "kernel": "another 1", "since": "now", "term": 1}
    content = {**words, "holds": True, **content}
    place.replace(f"lease/{name}.json", json.dumps(content).encode())


def test_the_second_is_refused_with_the_name_of_the_first(place, holder):
    started = time.monotonic()
    with pytest.raises(StoreError) as caught, alone_in(place):
        pytest.fail("two have the lease")
    assert time.monotonic() - started < 5
    (line,) = str(caught.value).splitlines()
    shown = place.address.partition("?")[0]
    who = f"process {holder.pid} on {platform.node()} since 2"
    assert line.startswith(f"{shown} is in use by {who}")
    assert len(place.names("lease")) == 1


def test_it_ends_with_its_block(place):
    for _ in range(2):
        with alone_in(place) as hold:
            assert hold.lost is None
            (name,) = place.names("lease")
            assert json.loads(place.read(f"lease/{name}"))["pid"] == os.getpid()
        assert place.names("lease") == []


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(place, holder):
    holder.kill()
    holder.wait()
    with alone_in(place):
        assert len(place.names("lease")) == 1


def test_the_lease_of_another_machine_is_free_when_it_is_stale(place, monkeypatch):
    other(place)
    with pytest.raises(StoreError, match="in use by process 7 on elsewhere"), alone_in(place):
        pytest.fail("two have the lease")
    monkeypatch.setattr(lease, "STALE", 1.0)
    time.sleep(3.0)
    with alone_in(place) as hold:
        assert hold.term == 2
        assert place.names("lease") == [hold.name]


def test_it_is_renewed(place, holder):
    """Long after it would be stale it is held."""
    time.sleep(3.0)
    with pytest.raises(StoreError, match=f"in use by process {holder.pid} "), alone_in(place):
        pytest.fail("two have the lease")


def test_a_file_that_is_no_drivers_counts_until_it_is_stale(place):
    place.replace("lease/notes.json", b"[")
    with pytest.raises(StoreError, match="in use by another process"), alone_in(place):
        pytest.fail("two have the lease")


def test_who_was_cut_off_until_another_took_over_is_told(place, holder, monkeypatch):
    holder.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(lease, "STALE", 2.0)
    time.sleep(3.0)
    with alone_in(place) as hold:
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout.readline().startswith(f"lost to process {os.getpid()} on ")
        assert holder.wait(timeout=20) == 0
        hold._renew_once()
        assert hold.lost is None
        assert place.names("lease") == [hold.name]


def test_while_the_storage_is_away_it_is_held_on_to(place, monkeypatch):
    def away():
        raise StoreError("away")

    monkeypatch.setattr(lease, "EVERY", 0.05)
    with alone_in(place) as hold:
        monkeypatch.setattr(hold, "_renew_once", away)
        time.sleep(0.5)
        assert hold._renewing.is_alive()
        assert hold.lost is None


def test_of_many_that_ask_at_once_never_two_hold(place):
    ready, holding, most, errors = threading.Barrier(4), [], [], []

    def drive(number):
        ready.wait()
        mine = lease.Lease(place)
        try:
            mine.acquire()
        except StoreError as error:
            errors.append(str(error))
            return
        holding.append(number)
        most.append(len(holding))
        time.sleep(0.5)
        holding.remove(number)
        place.delete(f"lease/{mine.name}")

    drivers = [threading.Thread(target=drive, args=(number,)) for number in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert most
    assert set(most) == {1}
    assert all("is in use by" in error for error in errors)
