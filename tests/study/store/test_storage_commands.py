"""The commands on object storage, as a user types them; nothing is computed, no Ray started."""

import errno
import json
import os
import signal
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

import study.__main__
import study.run
from study.grid import gaps
from study.signals import Interrupted
from study.store import Block, Store, StoreError
from study.store.bucket import Bucket
from study.store.lock import Lease, exclusive_lock
from study.store.places import Folder
from trainables.contract import Outcome

pytestmark = pytest.mark.usefixtures("cached_digits")
SMOKE = ["autoencoder", "--preset", "smoke", "--replicates", "2", "--out"]


class Session:
    """Writes the missing blocks at once, instead of computing them on Ray."""

    def __init__(self, store):
        self.store, self.written = store, []

    def compute(self, name, cells, finished):
        for cell in cells:
            for gap in gaps(cell.replicates, finished.get(cell.id, ())):
                block = Block(cell.id, gap)
                rows = [{"replicate": r, "test_mse": float(r)} for r in gap]
                self.store.write_block(block, cell.config, cell.parent_id, Outcome(rows), {})
                self.written.append(block.name)


@pytest.fixture
def computed_blocks(monkeypatch):
    """Names of the blocks that were computed."""
    written = []

    @contextmanager
    def session(study):
        opened = Session(study.store)
        yield opened
        written.extend(opened.written)

    monkeypatch.setattr(study.run.Study, "session", session)
    monkeypatch.setattr("study.reporting.write", lambda address, *others: address)
    return written


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(study.run.Study, "session", lambda study: pytest.fail("Ray was started"))


def main(*arguments):
    return study.__main__.main([str(argument) for argument in arguments])


def test_study_in_a_bucket_is_planned_run_and_reported(s3, bucket, computed_blocks, capsys):
    out = s3.uri(bucket)
    assert main("plan", *SMOKE, out) == 0
    output = capsys.readouterr().out
    assert f"results in s3://{bucket}/results\n" in output
    assert "2 cells, 0 done, 2 missing; 4 replicates, 4 missing" in output
    assert s3.keys(bucket) == []
    assert main("run", *SMOKE, out) == 0
    assert len(computed_blocks) == 2
    assert Store(out).plan()["study"] == "autoencoder"
    assert s3.get(bucket, "results/lease.json") == b""
    capsys.readouterr()
    assert main("plan", *SMOKE, out) == 0
    assert "2 done, 0 missing; 4 replicates, 0 missing" in capsys.readouterr().out

    first = {name.partition(".")[0] for name in computed_blocks}
    computed_blocks.clear()
    assert main("run", *SMOKE, out, "--replicates", "5") == 0
    assert sorted(computed_blocks) == sorted(f"{cell}.2-4" for cell in first)
    assert main("report", out) == 0


def test_damaged_block_is_set_aside_and_recomputed(s3, bucket, computed_blocks, capsys):
    out = s3.uri(bucket)
    assert main("run", *SMOKE, out) == 0
    whole, broken = computed_blocks
    key = "results/" + Block.parse(broken).marker
    s3.put(bucket, key, s3.get(bucket, key)[:-1])
    computed_blocks.clear()
    capsys.readouterr()
    why = f"{broken} is damaged: 0-1.json: its checksum is not the recorded one; "
    assert main("plan", *SMOKE, out) == 0
    assert why + "`study run` computes it again" in capsys.readouterr().out
    assert main("report", out) == 1
    cell = broken.partition(".")[0]
    assert f"failed: autoencoder {cell}: damaged: 0-1.json: " in capsys.readouterr().out
    assert main("run", *SMOKE, out) == 0
    assert computed_blocks == [broken]
    assert why + f"set aside as s3://{bucket}/results/damaged/{broken}-" in capsys.readouterr().out
    assert Store(out).verify([cell, whole.partition(".")[0]]) == {}


def test_second_driver_is_refused_and_writes_nothing(s3, bucket, no_ray, refusal):
    holder = {"pid": 7, "host": "elsewhere", "kernel": "", "since": "now"}
    s3.put(bucket, "results/lease.json", json.dumps(holder).encode())
    out = s3.uri(bucket)
    used = f"study run: s3://{bucket}/results is in use by process 7 on elsewhere since now; wait"
    assert refusal("run", *SMOKE, out).startswith(used)
    assert set(s3.keys(bucket)) == {"results/lease.json", "results/format.json"}
    assert main("plan", *SMOKE, out) == 0


def test_replaced_driver_ends_and_says_so(s3, bucket, computed_blocks, monkeypatch, capsys):
    def cut_off(session, *arguments):
        raise Interrupted(signal.SIGINT)

    def lose(lease, released):
        lease.lost = "process 7 on elsewhere"

    monkeypatch.setattr(Session, "compute", cut_off)
    monkeypatch.setattr(Lease, "keep", lose)
    monkeypatch.setattr(Lease, "watch", lose)
    assert main("run", *SMOKE, s3.uri(bucket)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "ended: while this host was cut off, process 7 on elsewhere took over: "
        "0 of 4 replicates are done; the same command goes on from here"
    )


def test_lost_storage_ends_the_study_with_the_reason(
    s3, bucket, computed_blocks, monkeypatch, capsys
):
    def away(store):
        raise StoreError("away")

    def gone(session, *arguments):
        monkeypatch.setattr(Bucket, "write_problem", lambda self: "s3://… can't be written (away)")
        monkeypatch.setattr(Store, "blocks", away)
        raise RuntimeError("what Ray Tune says of it")

    monkeypatch.setattr(Session, "compute", gone)
    assert main("run", *SMOKE, s3.uri(bucket)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "failed: s3://… can't be written (away): what is done is kept; "
        "the same command goes on from here"
    )


@pytest.mark.parametrize("recovered", [True, False])
def test_storage_error_in_a_callback_of_tune_ends_the_study_in_one_line(
    recovered, computed_blocks, monkeypatch, tmp_path, capsys
):
    def stale(store):
        raise OSError(errno.ESTALE, "Stale file handle")

    def compute(session, *arguments):
        if not recovered:
            monkeypatch.setattr(Store, "blocks", stale)
        try:
            raise StoreError("the storage did not answer")
        except StoreError as error:
            raise RuntimeError("what Ray Tune makes of it") from error

    monkeypatch.setattr(Session, "compute", compute)
    assert main("run", *SMOKE, tmp_path, "--latent-dims", 2, "--depths", 2) == 1
    kept = "0 of 2 replicates are done" if recovered else "what is done is kept"
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"failed: the storage did not answer: {kept}; the same command goes on from here"
    )


def test_lock_of_a_lost_file_system_ends_in_silence(tmp_path):
    with exclusive_lock(Folder(tmp_path)):
        (descriptor,) = [
            int(link.name)
            for link in Path("/proc/self/fd").iterdir()
            if os.path.realpath(link) == str(tmp_path / "run.lock")
        ]
        os.close(descriptor)


DEAD = "endpoint_override=127.0.0.1:1&scheme=http"
REFUSED = {
    "s4://bucket/path": "s4://bucket/path: must be s3://bucket/path",
    "s3://": "s3://: must be s3://bucket/path",
    "s3://bucket/path?foo=1": "foo is not one of region, endpoint_override, scheme",
    "s3://me:secret@bucket/path": "a URI must not contain credentials",
    f"s3://bucket/path?{DEAD}": "s3://bucket/path/blocks can't be listed (",
    "file://elsewhere/path": "is not a folder of this machine",
    "MISSING": "there is no bucket no-such-bucket; create it first",
}


@pytest.mark.parametrize("command", ["plan", "run", "report"])
@pytest.mark.parametrize("uri", REFUSED)
def test_useless_place_is_refused_in_one_line(uri, command, s3, no_ray, refusal):
    started = time.monotonic()
    place = s3.uri("no-such-bucket") if uri == "MISSING" else uri
    line = refusal(command, *([] if command == "report" else SMOKE), place)
    assert time.monotonic() - started < 20
    assert line.startswith(f"study {command}: ")
    assert REFUSED[uri] in line
    assert "secret" not in line


def test_place_without_a_study_says_so(s3, bucket, refusal):
    line = refusal("report", s3.uri(bucket))
    assert "holds no study (no study.json); `study run` makes one" in line


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_results_of_an_earlier_version_are_refused(kind, s3, bucket, no_ray, tmp_path, refusal):
    out = tmp_path if kind == "folder" else s3.uri(bucket)
    Store(out).place.write("study.json", b"{}")
    for command in (["run", *SMOKE, out], ["report", out]):
        assert refusal(*command).endswith(
            "holds results of another version of the study, which can't be used; choose another "
            "--out"
        )


def test_check_writes_to_the_bucket_and_leaves_nothing(s3, bucket, monkeypatch, capsys):
    monkeypatch.setattr("study.cluster.nodes.cluster", lambda resources: nullcontext())
    monkeypatch.setattr("study.cluster.nodes.alive_nodes", list)
    assert main("check", "--out", s3.uri(bucket)) == 0
    assert f"ok   storage    s3://{bucket}/results: writable\n" in capsys.readouterr().out
    assert s3.keys(bucket) == []
    assert main("check", "--out", s3.uri("no-such-bucket")) == 1
    assert "BAD  storage    s3://no-such-bucket/results: there is no" in capsys.readouterr().out
