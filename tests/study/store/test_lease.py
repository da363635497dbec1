"""The lease: one driver of results in a bucket at a time, whatever is delayed."""

import json
import math
import os
import platform
import signal
import time
from contextlib import suppress

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError

from study.signals import interruptible
from study.store import StoreError, lock
from study.store.lock import STALE, VALID, Lease, exclusive_lock
from study.store.places import open_place

ELSEWHERE = json.dumps({"pid": 7, "host": "elsewhere", "kernel": "another 1", "since": "now"})


# --- every delay, on a fake clock ------------------------------------------------------------


class FakePlace:
    """One object of a bucket, and the time. Something happens at the n-th moment; moments lie
    before and after each request takes effect."""

    def __init__(self, at=0, happens=lambda: None):
        self.now, self.moments, self.at, self.happens = 1000.7, 0, at, happens
        self.content, self.tag, self.written = None, 0, 0.0
        self.leases = []

    def clock(self):
        return self.now

    def lease(self):
        self.leases.append(Lease(self, self.clock))
        return self.leases[-1]

    def where(self):
        return "s3://bucket/results"

    def check(self):
        held = [lease for lease in self.leases if lease.is_held()]
        assert len(held) <= 1, "two drivers at once"

    def moment(self):
        self.check()
        self.moments += 1
        if self.moments == self.at:
            self.happens()
            self.check()

    def put(self, content):
        self.content, self.written, self.tag = content, self.now, self.tag + 1
        return self.tag

    def read_tagged(self, name):
        self.moment()
        content, tag = self.content, self.tag
        self.moment()
        if content is None:
            raise FileNotFoundError(name)
        return content, tag

    def write_tagged(self, name, content, tag):
        self.moment()
        expected = None if self.content is None else self.tag
        new = self.put(content) if tag == expected else None
        self.moment()
        return new

    def age(self, name):
        """Age in whole seconds, as storages know it."""
        self.moment()
        age = math.floor(self.now) - math.floor(self.written)
        self.moment()
        return age


BEFORE = {
    "none": None,
    "of another host": ELSEWHERE.encode(),
    "released": b"",
    "of a dead process": json.dumps({**lock.this_process(), "pid": 2**30}).encode(),
}


def scenario(before, delay, moment=0):
    """A first driver claims, renews twice and releases; at one moment it is delayed while a second
    one claims."""

    def intrude():
        place.now += delay
        second = place.lease()
        with suppress(StoreError):
            second.acquire()
        place.check()
        place.now += 1.0
        if second.is_held():
            second.renew()

    place = FakePlace(moment, intrude)
    if BEFORE[before] is not None:
        place.put(BEFORE[before])
        place.now += STALE + 2 if before == "of another host" else 0
    first = place.lease()
    with suppress(StoreError):
        first.acquire()
        for _ in range(2):
            place.check()
            place.now += 10
            if not first.is_held():
                break
            first.renew()
    place.check()
    with suppress(StoreError):
        first.release()
    place.check()
    return place


@pytest.mark.parametrize("delay", [0.0, 1.0, VALID - 0.5, VALID + 0.5, STALE + 2, 10 * STALE])
@pytest.mark.parametrize("before", BEFORE)
def test_delay_at_any_moment_never_makes_two_drivers(before, delay):
    undisturbed = scenario(before, delay)
    (first,) = undisturbed.leases
    assert first.lost is None
    assert undisturbed.content == b""
    assert undisturbed.moments >= 8
    taken_over = 0
    for moment in range(1, undisturbed.moments + 1):
        place = scenario(before, delay, moment)
        _, second = place.leases
        if second.is_held():
            taken_over += 1
            # Requests of the first one leave the second one's lease as it wrote it.
            third = place.lease()
            with pytest.raises(StoreError, match=f"in use by process {os.getpid()} "):
                third.acquire()
            place.check()
    assert taken_over >= 1


def test_lease_expires_without_renewal():
    place = FakePlace()
    first = place.lease()
    first.acquire()
    place.now += VALID - 0.1
    assert first.is_held()
    place.now += 0.2
    assert not first.is_held()
    assert first.lost is None
    second = place.lease()
    with pytest.raises(StoreError, match="in use by process"):
        second.acquire()  # not before it is stale
    place.now += STALE - VALID + 1
    second.acquire()
    assert second.is_held()
    first.renew()
    assert first.lost.startswith(f"process {os.getpid()} on {platform.node()} since ")


def test_release_ends_only_its_own_lease():
    place = FakePlace()
    first, second = place.lease(), place.lease()
    first.acquire()
    place.now += STALE + 2
    second.acquire()
    theirs = place.content
    first.release()
    assert place.content == theirs
    assert second.is_held()
    second.release()
    assert place.content == b""
    assert not second.is_held()


def test_lease_never_acquired_is_not_released():
    place = FakePlace()
    place.put(ELSEWHERE.encode())
    lease = place.lease()
    with pytest.raises(StoreError, match="in use by process 7 on elsewhere since now; wait"):
        lease.acquire()
    lease.release()
    assert place.content == ELSEWHERE.encode()


def test_clock_counts_the_time_this_machine_sleeps():
    assert abs(lock.clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1


# --- a bucket --------------------------------------------------------------------------------


@pytest.fixture
def place(s3, bucket):
    return open_place(s3.uri(bucket))


HOLD = """
import sys, time
from study.signals import interruptible
from study.store import lock
from study.store.places import open_place
lock.RENEWAL_INTERVAL, lock.VALID, lock.STALE = 0.3, 1.5, 2.0
with interruptible(), lock.exclusive_lock(open_place(sys.argv[1])) as hold:
    try:
        print("held", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("lost to", hold.lost, flush=True)
"""


@pytest.fixture
def holder(place, start_holder):
    """Another process, which holds the lease; it is stale after 2 s."""
    return start_holder(HOLD, place.address)


def refusal_of(place):
    """Why another driver is refused."""
    with pytest.raises(StoreError) as caught, exclusive_lock(place):
        pytest.fail("two have the lease")
    (line,) = str(caught.value).splitlines()
    return line


def test_second_driver_is_refused_naming_the_first(place, holder):
    started = time.monotonic()
    shown = place.address.partition("?")[0]
    who = f"process {holder.pid} on {platform.node()} since 2"
    assert refusal_of(place).startswith(f"{shown} is in use by {who}")
    assert time.monotonic() - started < 5


def test_lease_ends_with_its_block(place):
    for _ in range(2):
        with exclusive_lock(place) as hold:
            assert hold.lost is None
            assert hold.is_held()
            assert json.loads(place.read("lease.json"))["pid"] == os.getpid()
        assert not hold.is_held()
        assert place.read("lease.json") == b""


def test_lease_of_a_dead_local_process_is_free_at_once(place, holder):
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with exclusive_lock(place):
        assert json.loads(place.read("lease.json"))["pid"] == os.getpid()
    assert time.monotonic() - started < 5


def test_renewed_lease_never_goes_stale(place, holder, monkeypatch):
    monkeypatch.setattr(lock, "STALE", 1.0)
    time.sleep(2.5)
    assert f"in use by process {holder.pid} " in refusal_of(place)


def test_lease_of_another_host_is_free_when_it_is_stale(place, monkeypatch):
    place.write("lease.json", ELSEWHERE.encode())
    assert "in use by process 7 on elsewhere since now; wait" in refusal_of(place)
    monkeypatch.setattr(lock, "STALE", 0.5)
    time.sleep(1.2)
    with exclusive_lock(place) as hold:
        assert hold.is_held()


@pytest.mark.parametrize("content", [b"[", b"{}", b'{"pid": "x", "kernel": ""}', b"[" * 100_000])
def test_foreign_lease_counts_until_it_is_stale(content, place):
    place.write("lease.json", content)
    assert "in use by another process" in refusal_of(place)


def test_cut_off_driver_is_interrupted_after_a_takeover(place, holder, monkeypatch):
    holder.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(lock, "STALE", 1.0)
    time.sleep(2.2)
    with exclusive_lock(place) as hold:
        ours = json.loads(place.read("lease.json"))["token"]
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout.readline().startswith("lost to ")
        assert holder.wait(timeout=20) == 0
        hold.renew()
        assert hold.lost is None
        assert json.loads(place.read("lease.json"))["token"] == ours


def test_storage_away_too_long_interrupts_the_driver(place, monkeypatch):
    def away(*arguments):
        raise StoreError("away")

    monkeypatch.setattr(lock, "RENEWAL_INTERVAL", 0.05)
    monkeypatch.setattr(lock, "VALID", 1.0)
    # `interruptible`, as in commands: otherwise a script's background ignores SIGINT.
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        interruptible(),
        exclusive_lock(place) as hold,
    ):
        started = time.monotonic()
        monkeypatch.setattr(hold, "renew", away)
        time.sleep(0.5)
        assert hold.is_held()
        assert hold.lost is None
        time.sleep(30)
    assert 0.9 < time.monotonic() - started < 5
    assert hold.lost == "another driver"


@pytest.mark.parametrize("error", [AlreadyExistsError, PreconditionError])
def test_own_write_with_a_lost_answer_is_recognised(error, place, change_obstore):
    """The storage client sends it again, and it is refused because the first one arrived."""

    def put(store, name, content, **options):
        answer = obstore.put(store, name, content, **options)
        if options:
            raise error("sent again")
        return answer

    change_obstore(put=put)
    lease, second = Lease(place), Lease(place)
    lease.acquire()
    assert lease.is_held()
    lease.renew()
    assert lease.is_held()
    assert lease.lost is None
    with pytest.raises(StoreError, match="is in use by process"):
        second.acquire()


def test_tag_has_e_tag_and_version(place, change_obstore):
    """S3 and Azure compare the e_tag, Google Cloud the version."""
    seen = []

    def put(store, name, content, mode):
        seen.append(mode)
        return {"e_tag": f"tag {len(seen)}", "version": f"version {len(seen)}"}

    change_obstore(put=put)
    lease = Lease(place)
    lease.acquire()
    lease.renew()
    assert seen == ["create", {"e_tag": "tag 1", "version": "version 1"}]


def test_one_of_many_drivers_gets_the_lease(place, run_concurrently):
    held, errors = [], []

    def drive(number):
        lease = Lease(place)
        try:
            lease.acquire()
            held.append(lease)
        except StoreError as error:
            errors.append(str(error))

    run_concurrently(4, drive)
    assert [lease.is_held() for lease in held] == [True]
    assert len(errors) == 3
    assert all("is in use by" in error for error in errors)
