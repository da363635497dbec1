"""Places for results: a folder, S3 as a real server speaks it, and another file system of
pyarrow's. What holds for a cell in a folder holds on all of them."""

import hashlib
import json
import logging
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.store import Store
from study.store.cells import MARKER
from study.store.checkpoint import FileCheckpoint
from study.store.objects import Objects
from study.store.storage import Folder, StoreError, at
from trainables.contract import Outcome, Progress

CELL, OTHER, PARENT = "0123456789abcdef", "1123456789abcdef", "fedcba9876543210"
CONFIG = {"latent_dim": 3, "batch_size": 0, "replicates": 2, "seed": 0}


def outcome(error=0.25):
    return Outcome(
        rows=[{"replicate": 0, "test_mse": error}, {"replicate": 1, "test_mse": 0.5}],
        history=[{"replicate": 0, "epoch": 1, "loss": 0.5}],
        weights={"weight": torch.arange(6.0).reshape(2, 3)},
        predictions=np.arange(10, dtype=np.uint8).reshape(2, 5),
    )


@pytest.fixture(params=["folder", "s3", "arrow"])
def place(request, tmp_path):
    """An empty place of each kind; `arrow` is a folder as object storage sees it."""
    if request.param == "folder":
        return Folder(tmp_path / "results")
    if request.param == "arrow":
        return Objects(f"file://{tmp_path}/results")
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
    return at(s3.uri(bucket))


@pytest.fixture
def store(place):
    store = Store(place)
    store.create()
    return store


@pytest.fixture
def full(store):
    store.write(CELL, CONFIG, PARENT, outcome(), {"device": "abacus"})
    return store


@pytest.fixture
def on_s3(s3, bucket):
    """A store on S3 with one finished cell."""
    store = Store(s3.uri(bucket))
    store.create()
    store.write(CELL, CONFIG, PARENT, outcome(), {"device": "abacus"})
    return store


# --- names of places -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_folder_may_be_named_by_a_uri(form, tmp_path):
    place = at(form.format(tmp_path / "some results").replace(" ", "%20" if ":" in form else " "))
    assert isinstance(place, Folder)
    assert place.path == tmp_path / "some results"


def test_a_place_is_made_again_from_its_address(place):
    again = at(place.address) if not place.address.startswith("file:") else Objects(place.address)
    again.replace("note", b"same")
    assert place.read("note") == b"same"


BAD = {
    "s4://bucket/path": "s4://bucket/path can't be used (Unrecognized filesystem type",
    "s3://": "s3:// names no bucket",
    "s3:///path": "Missing bucket name",
    "s3://bucket/../path?region=x": "no object",
    "s3://bucket//path?region=x": "no object",
    "s3://bucket/a b": "syntax error",
    "s3://b[cket/x": "can't be used",
    "s3://bucket/path?foo=1": "Unexpected query parameter in S3 URI: 'foo'",
    "s3://me:secret@bucket/path": "credentials don't belong into an address",
    "gs://bucket/path?foo=1": "Unexpected query parameter",
    "file://elsewhere/path": "names no folder of this machine",
    "mock://bucket/path": "in the memory of one process",
}


@pytest.mark.parametrize("uri", BAD)
def test_a_uri_of_no_use_is_one_clear_line(uri):
    with pytest.raises(StoreError) as caught:
        at(uri)
    (line,) = str(caught.value).splitlines()
    assert BAD[uri] in line
    assert "secret" not in line


def test_the_store_and_the_grid_do_without_pyarrow_in_a_folder(run_study, tmp_path):
    without = "import sys; sys.modules |= dict.fromkeys(['pyarrow', 'study.store.objects'])"
    options = ["autoencoder", "--preset", "smoke", "--out", tmp_path]
    ran = run_study("plan", *options, first=without)
    assert ran.returncode == 0, ran.stderr


# --- single files ----------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written_and_replaced(place):
    place.create()
    for content in (b"one", b"", bytes(range(256)) * 40_000):  # 10 MB: several parts
        place.replace("some/file", content)
        assert place.read("some/file") == content
    assert place.exists("some/file")
    assert place.names("some") == ["file"]
    assert place.names("") == []
    place.delete("some/file")
    place.delete("some/file")
    assert not place.exists("some/file")
    assert place.names("some") == place.names("nowhere") == []
    with pytest.raises(FileNotFoundError) as caught:
        place.read("some/file")
    assert caught.value.strerror == "No such file or directory"


def test_a_folder_of_another_program_is_kept(place):
    place.create()
    for number in (1, 2):
        with place.folder("report") as folder:
            (folder / "figures").mkdir(exist_ok=True)
            (folder / "figures" / f"{number}.png").write_bytes(b"png")
            (folder / "index.html").write_text(str(number))
    assert place.read("report/index.html") == b"2"
    assert place.names("report/figures") == ["1.png", "2.png"]


def test_only_object_storage_is_certain_to_be_shared_and_has_no_end(place):
    place.create()
    assert place.shared == (not isinstance(place, Folder))
    assert (place.free() is None) == place.shared
    assert place.trouble() is None


# --- cells, on every kind of place -----------------------------------------------------------


def test_a_cell_is_read_as_it_was_written(full):
    again = Store(full.place)
    assert again.done() == {CELL}
    assert again.state([CELL, OTHER]).done == {CELL}
    assert again.config(CELL) == CONFIG
    assert torch.equal(again.weights(CELL)["weight"], outcome().weights["weight"])
    assert again.predictions(CELL).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert again.rows([CELL])["test_mse"].tolist() == [0.25, 0.5]
    assert again.rows([CELL])["encoder_cell"].tolist() == [PARENT] * 2
    assert again.history([CELL])["loss"].tolist() == [0.5]
    assert again.marker(CELL)["provenance"] == {"device": "abacus"}


def test_nothing_is_done_in_a_new_place(place):
    store = Store(place)
    assert store.done() == set()
    assert store.failures() == {}
    store.tidy()
    with pytest.raises(StoreError, match="holds no study"):
        store.plan()
    with pytest.raises(StoreError, match=f"cell {CELL} is not finished"):
        store.rows([CELL])


def test_of_two_writers_the_first_wins(full):
    full.write(CELL, CONFIG, PARENT, outcome(error=0.125), {"device": "slower"})
    assert full.rows([CELL])["test_mse"].tolist() == [0.25, 0.5]
    assert full.marker(CELL)["provenance"] == {"device": "abacus"}
    assert full.state([CELL]).done == {CELL}


def test_many_writers_at_once_make_one_whole_cell(store):
    ready, errors = threading.Barrier(4), []

    def write(number):
        try:
            ready.wait()
            store.write(CELL, CONFIG, None, outcome(error=number), {"writer": number})
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert store.state([CELL]).done == {CELL}
    number = store.marker(CELL)["provenance"]["writer"]
    assert store.rows([CELL])["test_mse"].tolist() == [number, 0.5]


def test_failures_are_noted_and_cleared(store):
    store.write_failure(CELL, CONFIG, "Traceback …\nDiverged: the loss\n")
    store.write_failure(OTHER, CONFIG, "out of memory")
    store.place.replace("failed/notes.json", b"{}")
    assert {name: note["reason"] for name, note in store.failures().items()} == {
        CELL: "Diverged: the loss",
        OTHER: "out of memory",
    }
    store.write(CELL, CONFIG, None, outcome(), {})
    store.place.replace(f"failed/{OTHER}.json", b"{")
    assert store.failures() == {OTHER: {"reason": "failed; why can't be read any more"}}


def files_of(store, cell=CELL):
    """By name: the place's name of each file of a cell."""
    marker = store.marker(cell)
    inside = f"cells/{cell}/{marker['try']}" if "try" in marker else f"cells/{cell}"
    return {name: f"{inside}/{name}" for name in marker["files"]}


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", MARKER])
@pytest.mark.parametrize("damage", ["truncated", "missing", "flipped"])
def test_damage_is_found_set_aside_and_written_again(name, damage, full, monkeypatch):
    file = f"cells/{CELL}/{MARKER}" if name == MARKER else files_of(full)[name]
    content = full.place.read(file)
    if damage == "missing" and name == MARKER:
        full.place.delete(file)
        assert full.state([CELL]).done == full.done() == set()
        return
    if damage == "flipped":
        if not isinstance(full.place, Folder):
            # What is written at once passes for the cell's own writer's.
            monkeypatch.setattr("study.store.objects.TOGETHER", 1.0)
            time.sleep(2.2)
        content = b"\x00" + content[1:]
    if damage == "missing":
        full.place.delete(file)
    else:
        full.place.replace(file, b"" if damage == "truncated" else content)
    (reason,) = full.damaged([CELL]).values()
    assert reason.startswith(f"damaged: {name}: ")
    assert full.state([CELL]).done == set()
    for number in (1, 2):
        assert str(full.put_aside(CELL)) == str(full.place.where(f"damaged/{CELL}-{number}"))
        assert full.done() == set()
        full.write(CELL, CONFIG, None, outcome(error=number), {})
        assert full.rows([CELL])["test_mse"].tolist() == [number, 0.5]
        assert full.state([CELL]).done == {CELL}


def test_a_file_is_verified_whenever_it_is_read(full):
    file = files_of(full)["rows.parquet"]
    content = bytearray(full.place.read(file))
    content[len(content) // 2] ^= 1
    full.place.replace(file, bytes(content))
    with pytest.raises(StoreError, match=r"rows\.parquet: damaged \(its checksum is not the"):
        full.rows([CELL])
    assert full.config(CELL) == CONFIG


@pytest.mark.parametrize("attempt", ["../0123", "/etc", "", 7, None, "0" * 16])
def test_a_marker_names_no_other_folder(attempt, full):
    name = f"cells/{CELL}/{MARKER}"
    marker = {**json.loads(full.place.read(name)), "try": attempt}
    full.place.replace(name, json.dumps(marker).encode())
    with pytest.raises(StoreError, match=r"done\.json: damaged \(not what was written\)"):
        full.rows([CELL])


def test_what_is_in_progress_is_tidied_once_it_is_done(full):
    for cell in (CELL, OTHER):
        full.place.replace(full.progress(cell), b"progress")
    full.tidy()
    assert full.place.names("progress") == [f"{OTHER}.safetensors"]


# --- S3 alone --------------------------------------------------------------------------------


@pytest.fixture
def requests(s3):
    """The requests that the server was sent, as `GET /bucket/key`."""
    seen = []

    class Note(logging.Handler):
        def emit(self, record):
            found = re.search(r'"([A-Z]+ \S+) HTTP', record.getMessage())
            seen.append(found[1] if found else record.getMessage())

    logger, note = logging.getLogger("werkzeug"), Note()
    logger.addHandler(note)
    logger.setLevel(logging.INFO)
    yield seen
    logger.removeHandler(note)
    logger.setLevel(logging.ERROR)


def test_all_cells_are_listed_in_one_request_a_thousand_objects(on_s3, s3, bucket, requests):
    cells = [f"{number:016x}" for number in range(30)]
    for cell in cells:
        for file in [*files_of(on_s3).values(), f"cells/{CELL}/{MARKER}"]:
            source = {"Bucket": bucket, "Key": f"results/{file}"}
            key = f"results/{file.replace(CELL, cell)}"
            s3.client.copy_object(Bucket=bucket, Key=key, CopySource=source)
    requests.clear()
    assert on_s3.done() == {CELL, *cells}
    assert on_s3.state(cells).done == set(cells)
    assert len(requests) == 2
    assert all(request.startswith(f"GET /{bucket}?list-type=2") for request in requests)


def test_a_try_without_a_marker_is_no_cell_and_goes_when_it_is_old(on_s3, s3, bucket, monkeypatch):
    started = f"results/cells/{OTHER}/{'0' * 16}-{'1' * 16}/rows.parquet"
    rival = f"results/cells/{CELL}/{'0' * 16}-{'1' * 16}/rows.parquet"
    for key in (started, rival, "results/cells/notes/try/file"):
        s3.put(bucket, key, b"half")
    assert on_s3.done() == {CELL}
    assert on_s3.state([CELL, OTHER]).done == {CELL}  # read whole, as it isn't as it was published
    on_s3.tidy()
    assert {started, rival} <= set(s3.keys(bucket))  # whoever writes it may be about to finish
    monkeypatch.setattr("study.store.objects.ABANDONED", -1.0)
    on_s3.tidy()
    assert not {started, rival} & set(s3.keys(bucket))
    assert "results/cells/notes/try/file" in s3.keys(bucket)
    assert on_s3.state([CELL]).done == {CELL}
    assert len(on_s3.rows([CELL])) == 2


def test_a_late_writer_leaves_nothing(on_s3, s3, bucket):
    before = sorted(s3.keys(bucket))
    on_s3.write(CELL, CONFIG, PARENT, outcome(error=0.125), {"device": "slower"})
    assert [k for k in sorted(s3.keys(bucket)) if not k.endswith("/")] == [
        key for key in before if not key.endswith("/")
    ]


def test_two_that_finish_in_the_same_moment_mix_nothing(on_s3, s3, bucket, monkeypatch):
    """The later marker counts, with its own files."""
    monkeypatch.setattr(Objects, "exists", lambda self, name: False)
    on_s3.write(CELL, CONFIG, PARENT, outcome(error=0.125), {"device": "slower"})
    assert on_s3.rows([CELL])["test_mse"].tolist() == [0.125, 0.5]
    assert on_s3.marker(CELL)["provenance"] == {"device": "slower"}
    assert on_s3.state([CELL]).done == {CELL}
    assert on_s3.config(CELL) == CONFIG


def test_a_write_that_fails_leaves_no_cell(on_s3):
    broken = Outcome(outcome().rows, weights={"weight": "not a tensor"})
    with pytest.raises(AttributeError):
        on_s3.write(OTHER, CONFIG, None, broken, {})
    assert on_s3.done() == {CELL}
    assert on_s3.place.names(f"cells/{OTHER}") == []


def test_results_that_were_fetched_into_a_folder_are_results(on_s3, s3, bucket, tmp_path):
    """By any program that copies objects."""
    for key in s3.keys(bucket):
        if not key.endswith("/"):
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(s3.get(bucket, key))
    local = Store(tmp_path / "results")
    assert local.state([CELL]).done == {CELL}
    assert local.rows([CELL]).equals(on_s3.rows([CELL]))
    next((local.cells / CELL).rglob("rows.parquet")).write_bytes(b"PAR1")
    assert local.damaged([CELL])[CELL].startswith("damaged: rows.parquet: its checksum")


def test_results_of_a_folder_may_be_copied_to_s3(s3, bucket, tmp_path):
    local = Store(tmp_path)
    local.write(CELL, CONFIG, PARENT, outcome(), {})
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.put(bucket, f"results/{path.relative_to(tmp_path)}", path.read_bytes())
    store = Store(s3.uri(bucket))
    assert store.state([CELL]).done == {CELL}
    s3.put(bucket, f"results/cells/{CELL}/rows.parquet", b"PAR1")
    assert store.damaged([CELL])[CELL].startswith("damaged: rows.parquet: its checksum")


def test_a_checkpoint_is_one_object(on_s3, s3, bucket):
    def kept(code="this"):
        return FileCheckpoint(on_s3.place, on_s3.progress(OTHER), code)

    assert kept().load() is None
    for epoch in (3, 4):
        kept().save(Progress(epoch, {"weight": torch.tensor([0.1, -0.0])}, {"rates": [1 / 3]}))
    read = kept().load()
    assert (read.epoch, read.numbers) == (4, {"rates": [1 / 3]})
    assert torch.equal(read.tensors["weight"], torch.tensor([0.1, -0.0]))
    assert kept(code="that").load() is None
    key = f"results/progress/{OTHER}.safetensors"
    assert [k for k in s3.keys(bucket) if k.startswith("results/progress/") and k[-1] != "/"] == [
        key
    ]
    s3.put(bucket, key, s3.get(bucket, key)[:-1])
    assert kept().load() is None
    kept().remove()
    kept().remove()
    assert not on_s3.place.exists(on_s3.progress(OTHER))


# --- a storage that is not there -------------------------------------------------------------


def test_a_network_that_is_gone_for_seconds_costs_nothing(on_s3, s3):
    s3.server.stop()
    back = threading.Timer(3.0, s3.server.start)
    back.start()
    try:
        started = time.monotonic()
        on_s3.write(OTHER, CONFIG, None, outcome(), {})
        assert time.monotonic() - started > 2.5
    finally:
        back.join()
    assert on_s3.state([CELL, OTHER]).done == {CELL, OTHER}


AWAY = "AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7, Could not connect"
MESSAGES = {
    f"When uploading object with key 'results/{CELL}-0d401e43' in bucket 'b-400': {AWAY}": False,
    f"When uploading object with key 'TOKEN' in bucket 'permission': {AWAY}": False,
    f"{AWAY} to server; Details: Failed to connect to 127.0.0.1:40300 after 0 ms": False,
    "google::cloud::Status(UNAVAILABLE: PerformWork() - CURL error [7]) 'permission/400'": False,
    "AWS Error UNKNOWN (HTTP status 400) during HeadBucket operation: No response body.": True,
    "AWS Error ACCESS_DENIED during PutObject operation: Access Denied": True,
    "google::cloud::Status(PERMISSION_DENIED: Permanent error, HTTP 403)": True,
    f"Azure Error: {'a long story, ' * 40} HTTP 403 Forbidden": True,
}
"""Errors as pyarrow words them, and whether they're final."""


@pytest.mark.parametrize("message", MESSAGES)
def test_what_an_object_is_called_does_not_make_an_error_final(message):
    place = Objects("file:///permission/400")
    place.path, asked = "permission", []

    def ask():
        asked.append(None)
        if len(asked) == 1:
            raise OSError(message)

    if MESSAGES[message]:
        with pytest.raises(StoreError, match="can't be read"):
            place._do("read", "400", ask)
    else:
        place._do("read", "400", ask)
        assert len(asked) == 2


def test_the_first_contact_is_made_once(s3):
    place = at("s3://bucket/path?endpoint_override=127.0.0.1:1&scheme=http")
    started = time.monotonic()
    for contact in (place.reach, place.create):
        with pytest.raises(StoreError, match=r"s3://bucket/path can't be read \(NETWORK_CONN"):
            contact()
    assert time.monotonic() - started < 10
    assert place.trouble().startswith("s3://bucket/path can't be read")


@pytest.fixture
def strict(s3):
    """The server asks for credentials that it knows, and it knows none."""
    import requests

    address = f"http://127.0.0.1:{s3.port}/moto-api/reset-auth"
    requests.post(address, data=b"0", timeout=10).raise_for_status()
    yield
    requests.post(address, data=b"Infinity", timeout=10).raise_for_status()


def test_who_may_not_is_told_at_once(on_s3, strict):
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://bucket-\d+/results can't be read"):
        on_s3.place.reach()
    with pytest.raises(StoreError, match="can't be listed"):
        on_s3.done()
    with pytest.raises(StoreError, match="can't be written"):
        on_s3.place.replace("file", b"")
    assert time.monotonic() - started < 10


# --- whatever is there -----------------------------------------------------------------------

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NAMES = st.one_of(
    st.sampled_from([CELL, OTHER, MARKER, "rows.parquet", "config.json", "notes", "0" * 16]),
    st.from_regex(r"[0-9a-f]{16}-[0-9a-f]{16}", fullmatch=True),
)
CONTENTS = st.one_of(
    st.binary(max_size=50),
    st.sampled_from([b"[" * 10_000, b"{}", b'{"try": "../x"}', b"null"]),
    st.fixed_dictionaries(
        {
            "files": st.dictionaries(NAMES, st.one_of(st.just("0" * 64), st.integers())),
            "provenance": st.just({}),
            "try": st.one_of(NAMES, st.none()),
        }
    ).map(lambda marker: json.dumps(marker).encode()),
)


@FUZZ
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), CONTENTS, max_size=6))
def test_objects_of_any_names_and_contents_are_read_or_refused(tmp_path, objects):
    folder = tmp_path / hashlib.sha256(repr(objects).encode()).hexdigest()[:16]
    store = Store(Objects(f"file://{folder}"))
    store.create()
    for name, content in objects.items():
        path = folder / "cells" / name
        if not any(Path(*path.parts[:n]).is_file() for n in range(len(path.parts))):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                path.write_bytes(content)
    done = store.done()
    state = store.state([CELL, OTHER])
    assert state.done | set(state.damaged) == done & {CELL, OTHER}
    store.tidy()
    for cell in state.done:
        with pytest.raises(StoreError):  # none of them is a table
            store.rows([cell])
