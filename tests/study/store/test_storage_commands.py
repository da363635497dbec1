"""The commands on object storage, as a user types them; nothing is computed, no Ray started."""

import json
import time
from contextlib import nullcontext

import pytest

import study.__main__ as command_line
from analysis.results import load
from study import launch
from study.store import Store
from study.store.lease import Lease
from study.store.objects import Objects
from study.store.storage import StoreError

SMOKE = ["autoencoder", "--preset", "smoke", "--out"]


pytestmark = pytest.mark.usefixtures("data_at_hand")


@pytest.fixture
def no_ray(monkeypatch):
    def started(resources):
        pytest.fail("Ray was started")

    monkeypatch.setattr(launch, "cluster", started)


def test_a_study_is_planned_run_gone_on_with_and_read(s3, bucket, computed, capsys):
    out = s3.uri(bucket)
    assert command_line.main(["plan", *SMOKE, out]) == 0
    said = capsys.readouterr().out
    assert f"results in s3://{bucket}/results\n" in said
    assert "0 done, 2 missing" in said
    assert s3.keys(bucket) == []
    assert command_line.main(["run", *SMOKE, out]) == 0
    assert len(computed) == 2
    assert command_line.main(["plan", *SMOKE, out]) == 0
    assert "2 done, 0 missing" in capsys.readouterr().out
    assert set(load(out).rows["cell"]) == set(computed)
    assert load(out).missing.empty

    computed.clear()
    assert command_line.main(["run", *SMOKE, out, "--latent-dims", "2", "5"]) == 0
    assert len(computed) == 1
    assert command_line.main(["report", out]) == 0


def test_a_damaged_cell_is_found_set_aside_and_computed_again(s3, bucket, computed, capsys):
    out = s3.uri(bucket)
    assert command_line.main(["run", *SMOKE, out]) == 0
    whole, broken = computed
    (key,) = [key for key in s3.keys(bucket) if broken in key and key.endswith("rows.parquet")]
    s3.put(bucket, key, s3.get(bucket, key)[:-1])
    computed.clear()
    capsys.readouterr()

    assert command_line.main(["plan", *SMOKE, out]) == 0
    assert f"{broken} is damaged: rows.parquet: " in capsys.readouterr().out
    assert command_line.main(["report", out]) == 1
    assert f"failed: autoencoder {broken}: damaged: rows.parquet: " in capsys.readouterr().out
    assert set(load(out).rows["cell"]) == {whole}

    assert command_line.main(["run", *SMOKE, out]) == 0
    assert computed == [broken]
    said = capsys.readouterr().out
    assert f"set aside as s3://{bucket}/results/damaged/{broken}-1, it is computed again" in said
    assert Store(out).state([whole, broken]).done == {whole, broken}


def test_a_second_driver_is_refused_in_one_line_and_writes_nothing(s3, bucket, no_ray, capsys):
    holder = {"pid": 7, "host": "elsewhere", "kernel": "", "since": "now", "term": 3, "holds": True}
    s3.put(bucket, "results/lease/other.json", json.dumps(holder).encode())
    assert command_line.main(["run", *SMOKE, s3.uri(bucket)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    used = f"study run: s3://{bucket}/results is in use by process 7 on elsewhere since now; wait"
    assert line.startswith(used)
    assert [k for k in s3.keys(bucket) if not k.endswith("/")] == ["results/lease/other.json"]
    assert command_line.main(["plan", *SMOKE, s3.uri(bucket)]) == 0


def test_a_driver_that_was_replaced_ends_and_says_so(s3, bucket, computed, monkeypatch, capsys):
    def cut_off(*arguments):
        raise KeyboardInterrupt

    def lose(lease):
        start(lease)
        lease.lost = "process 7 on elsewhere"

    start = Lease.start
    monkeypatch.setattr(command_line, "run", cut_off)
    monkeypatch.setattr(Lease, "start", lose)
    assert command_line.main(["run", *SMOKE, s3.uri(bucket)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "ended: while this host was cut off, process 7 on elsewhere took over: "
        "0 of 2 cells are done; the same command goes on from here"
    )


def test_storage_that_goes_away_ends_the_study_with_the_reason(
    s3, bucket, computed, monkeypatch, capsys
):
    def gone(*arguments):
        monkeypatch.setattr(Objects, "trouble", lambda self: "s3://… can't be written (away)")
        monkeypatch.setattr(Store, "done", away)
        raise RuntimeError("what Ray Tune says of it")

    def away(store):
        raise StoreError("away")

    monkeypatch.setattr(command_line, "run", gone)
    assert command_line.main(["run", *SMOKE, s3.uri(bucket)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "failed: s3://… can't be written (away): what is done is kept; "
        "the same command goes on from here"
    )


DEAD = "endpoint_override=127.0.0.1:1&scheme=http"
REFUSED = {
    "s4://bucket/path": "Unrecognized filesystem type",
    "s3://": "names no bucket",
    "s3://bucket/path?foo=1": "Unexpected query parameter",
    "s3://me:secret@bucket/path": "credentials don't belong into an address",
    f"s3://bucket/path?{DEAD}": "s3://bucket/path can't be read (NETWORK_CONNECTION",
    f"gs://anonymous@bucket/path?{DEAD}&retry_limit_seconds=1": "can't be read",
    "file://elsewhere/path": "names no folder of this machine",
}


@pytest.mark.parametrize("command", ["plan", "run", "report"])
@pytest.mark.parametrize("uri", REFUSED)
def test_places_that_are_none_are_refused_in_one_line(uri, command, s3, no_ray, capsys):
    started = time.monotonic()
    arguments = ["report", uri] if command == "report" else [command, *SMOKE, uri]
    assert command_line.main(arguments) == 2
    assert time.monotonic() - started < 20
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"study {command}: ")
    assert REFUSED[uri] in line
    assert "secret" not in line
    assert captured.out == ""


@pytest.mark.parametrize("command", ["plan", "run", "report"])
def test_a_bucket_that_is_not_there_is_named(command, s3, no_ray, capsys):
    uri = s3.uri("no-such-bucket")
    arguments = ["report", uri] if command == "report" else [command, *SMOKE, uri]
    assert command_line.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3://no-such-bucket/results: there is no bucket no-such-bucket; make it first" in line


def test_a_place_without_a_study_says_so(s3, bucket, capsys):
    assert command_line.main(["report", s3.uri(bucket)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no study (no study.json); `study run` makes one" in line


def test_the_check_writes_to_it_and_leaves_nothing(s3, bucket, monkeypatch, capsys):
    monkeypatch.setattr("study.cluster.check.cluster", lambda resources: nullcontext())
    monkeypatch.setattr("study.cluster.check.alive", list)
    assert command_line.main(["check", "--out", s3.uri(bucket)]) == 0
    said = capsys.readouterr().out
    assert f"ok   storage    s3://{bucket}/results?" in said
    assert [key for key in s3.keys(bucket) if not key.endswith("/")] == []
    assert command_line.main(["check", "--out", s3.uri("no-such-bucket")]) == 1
    assert "BAD  storage    s3://no-such-bucket/results: there is no" in capsys.readouterr().out
