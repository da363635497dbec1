"""Places for results: the five verbs in a folder and in a bucket, and the names of places."""

import logging
import os
import re
import threading
import time
from datetime import timedelta

import obstore
import pytest
import torch
from moto.backends import get_backend

from study.store import Block, Store, StoreError, bucket
from study.store.bucket import Bucket
from study.store.checkpoint import FileCheckpoint
from study.store.places import Folder, is_uri, open_place
from tests.names import NASTY_NAMES
from tests.phrases import phrase
from trainables.contract import Progress

CELL, OTHER = "0123456789abcdef", "1123456789abcdef"


# --- names of places -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_folder_may_be_named_by_a_uri(form, tmp_path):
    place = open_place(
        form.format(tmp_path / "some results").replace(" ", "%20" if ":" in form else " ")
    )
    assert isinstance(place, Folder)
    assert place.path == tmp_path / "some results"


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_path_and_uri_name_a_folder_of_any_name(name, tmp_path):
    path = tmp_path / name
    assert (
        open_place(path).path
        == open_place(str(path)).path
        == open_place(path.as_uri()).path
        == path
    )
    open_place(open_place(path).address).create()
    assert os.listdir(tmp_path) == [name]


def test_place_is_made_again_from_its_address(place):
    open_place(place.address).write("note", b"same")
    assert place.read("note") == b"same"


def test_place_is_shown_without_its_query():
    place = open_place("s3://bucket/path/?region=eu-west-1")
    assert (place.where(), place.where("a.json")) == ("s3://bucket/path", "s3://bucket/path/a.json")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket",
        "s3a://bucket/a/",
        "gs://bucket/path.d/..x",
        "abfs://c@acc.dfs.core.windows.net/a b",
    ],
)
def test_buckets_of_several_makers_are_places(uri, s3):
    assert is_uri(uri)
    assert isinstance(open_place(uri), Bucket)


FORM = "must be s3://bucket/path, gs://bucket/path or az://container/path, without"
CREDENTIALS = "a URI must not contain credentials, as it is printed and stored; set AWS_"
BAD = {
    "s4://bucket/path": "s4://bucket/path: must be s3://",
    "http://example.org/path": FORM,
    "memory://bucket/path": FORM,
    "s3://": FORM,
    "s3:///path": FORM,
    "s3://bucket/../path?region=x": FORM,
    "s3://bucket/a/./b": FORM,
    "s3://bucket/a/..": FORM,
    "s3://bucket//path?region=x": FORM,
    "s3://bucket/a//path": FORM,
    "s3://bucket/a#b": FORM,
    "s3://b[cket/x": FORM,
    "s3://bucket:99999/x": FORM,
    "s3://bucket/path?foo=1": "foo is not one of region, endpoint_override, scheme",
    "s3://bucket/path?scheme=ftp": "scheme=ftp is not one of",
    "gs://bucket/path?foo=1&bar=2": "bar, foo is not one of",
    "az://container/path": "can't be used (Generic MicrosoftAzure error: Account must be specified",
    "s3://me:secret@bucket/path": CREDENTIALS,
    "s3://secret@bucket/path": CREDENTIALS,
    "gs://me:secret@bucket/path": CREDENTIALS,
    "file://elsewhere/path": "is not a folder of this machine; use file:///path",
    "file://": "is not a folder of this machine",
    "file:///results?a": "file:///results?a: ? and # end a path; write %3F and %23",
    "file:///results#a": "file:///results#a: ? and # end a path",
}


@pytest.mark.parametrize("uri", BAD)
def test_useless_uri_is_one_clear_line(uri):
    with pytest.raises(StoreError) as caught:
        open_place(uri)
    (line,) = str(caught.value).splitlines()
    assert BAD[uri] in line
    assert "secret" not in line


def test_store_in_a_folder_imports_no_obstore(run_study, tmp_path):
    options = ["autoencoder", "--preset", "smoke", "--out", tmp_path]
    ran = run_study("plan", *options, without=["obstore", "study.store.bucket"])
    assert ran.returncode == 0, ran.stderr


# --- the five verbs --------------------------------------------------------------------------


def test_file_is_read_as_it_was_written_and_replaced(place):
    place.create()
    for content in (b"one", b"", bytes(range(256)) * 40_000):  # 10 MB: several parts
        assert place.write("some/file", content)
        assert place.read("some/file") == content
        assert place.list("some") == {"file": len(content)}
    assert place.list("") == {"some/file": 10_240_000}
    assert not place.write("some/file", b"later", only_if_absent=True)
    assert place.write("some/other", b"first", only_if_absent=True)
    assert place.list("some") == {"file": 10_240_000, "other": 5}
    for _ in range(2):
        place.delete("some/file")
    assert place.list("some") == {"other": 5}
    assert place.list("nowhere") == place.list("so") == {}
    with pytest.raises(FileNotFoundError) as caught:
        place.read("some/file")
    assert caught.value.strerror == "No such file or directory"


def test_list_has_the_files_below(place):
    for name in ("a/b/c.json", "a/d.json", "ab/e.json"):
        place.write(name, b"{}")
    assert place.list("a") == {"b/c.json": 2, "d.json": 2}
    assert place.list("a/b") == {"c.json": 2}


def test_one_of_many_writers_creates_a_file(place, run_concurrently):
    place.create()
    won = []

    def write(number):
        if place.write("file", f"{number}".encode(), only_if_absent=True):
            won.append(number)

    run_concurrently(6, write)
    (winner,) = won
    assert place.read("file") == f"{winner}".encode()


def test_age_is_by_the_clock_of_the_storage(place, monkeypatch):
    place.write("file", b"")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    time.sleep(1.1)
    assert 1 <= place.age("file") <= 3
    assert list(place.list("")) == ["file"]
    with pytest.raises(FileNotFoundError):
        place.age("nowhere")


def test_working_folder_is_kept_and_added_to(place):
    place.create()
    for number in (1, 2):
        with place.working_folder("report") as folder:
            (folder / "figures").mkdir(exist_ok=True)
            (folder / "figures" / f"{number} ü.png").write_bytes(b"png")
            (folder / "index.html").write_text(str(number))
    assert place.read("report/index.html") == b"2"
    assert sorted(place.list("report/figures")) == ["1 ü.png", "2 ü.png"]


def test_bucket_has_no_free_space_limit(place):
    place.create()
    assert (place.free() is None) == isinstance(place, Bucket)
    assert place.write_problem() is None
    assert place.list("") == {}


def test_parallel_map_keeps_the_order_and_raises(place):
    assert list(place.parallel_map(lambda number: number**2, range(100))) == [
        n**2 for n in range(100)
    ]
    with pytest.raises(ZeroDivisionError):
        list(place.parallel_map(lambda number: 1 // number, [1, 0]))


# --- a checkpoint ----------------------------------------------------------------------------


def test_checkpoint_is_one_file_replaced_in_one_step(place):
    def kept(key="this"):
        return FileCheckpoint(place, name, key)

    name = Store(place).progress(Block(OTHER, range(4)))
    assert name == f"progress/{OTHER}.0-3.safetensors"
    assert kept().load() is None
    tensors = {"weight": torch.tensor([0.1, -0.0]), "step": torch.tensor(3)}
    for epoch in (3, 4):
        kept().save(Progress(epoch, tensors, {"rates": [1 / 3]}))
    again = kept()
    read = again.load()
    assert (read.epoch, read.numbers, again.resumed_after) == (4, {"rates": [1 / 3]}, 4)
    for key, value in tensors.items():
        assert torch.equal(read.tensors[key], value)
    assert torch.signbit(read.tensors["weight"]).tolist() == [False, True]
    assert kept(key="that").load() is None
    assert list(place.list("progress")) == [name.partition("/")[2]]
    whole = place.read(name)
    assert whole.count(b"0.333") == 1  # a number in the header
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for changed in (whole[:-1], flipped, whole.replace(b"0.333", b"1.333"), b"", b"\x00" * 8):
        place.write(name, changed)
        assert kept().load() is None
    for _ in range(2):
        kept().remove()
    assert place.list("progress") == {}


# --- requests of a bucket --------------------------------------------------------------------


@pytest.fixture
def requests(moto_server):
    """Requests sent to the server, as `GET /bucket/key`."""
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


def test_all_blocks_are_found_by_one_listing(remote_store, bucket, write, requests):
    ids = [f"{number:016x}" for number in range(30)]
    for cell in ids:
        write(remote_store, cell=cell)
    requests.clear()
    assert remote_store.blocks() == {cell: [range(2)] for cell in ids}
    assert remote_store.verify(ids) == {}
    assert len(requests) == 2
    assert all(request.startswith(f"GET /{bucket}?") for request in requests)
    assert all("list-type=2" in request for request in requests)


def test_listing_of_more_than_a_page_is_whole(remote_store, bucket, moto_server):
    backend = get_backend("s3")["123456789012"]["aws"]  # a hundred times as fast as requests
    for number in range(2010):
        backend.put_object(bucket, f"results/blocks/{number:016x}/0-1.json", b"")
    assert len(remote_store.blocks()) == 2010


def test_suspicious_block_is_read(remote_store, bucket, s3, write, requests):
    write(remote_store)
    s3.put(bucket, f"results/blocks/{CELL}/0-1.{'0' * 16}-7.safetensors", b"rivals!")
    requests.clear()
    assert remote_store.verify([CELL]) == {}
    assert len(requests) == 3  # listing, marker, arrays
    remote_store.place.delete(f"blocks/{CELL}/0-1.{'0' * 16}-7.safetensors")
    (arrays,) = [
        name for name in remote_store.place.list("blocks") if name.endswith(".safetensors")
    ]
    remote_store.place.delete(f"blocks/{arrays}")
    s3.put(bucket, f"results/blocks/{CELL}/0-1.json.copy", b"")
    assert remote_store.verify([CELL]).keys() == {Block(CELL, range(2))}


def test_folders_made_by_a_browser_are_no_blocks(remote_store, bucket, s3, write):
    write(remote_store)
    for key in ("results/", "results/blocks/", f"results/blocks/{CELL}/", "results/failed/"):
        s3.put(bucket, key, b"")
    assert remote_store.blocks() == {CELL: [range(2)]}
    assert remote_store.failures() == remote_store.verify([CELL]) == {}
    remote_store.tidy()
    remote_store.place.reach()


# --- unreachable storage ---------------------------------------------------------------------


def test_network_outage_of_seconds_costs_nothing(remote_store, write, moto_server):
    moto_server.stop()
    back = threading.Timer(1.0, moto_server.start)
    back.start()
    try:
        started = time.monotonic()
        write(remote_store)
        assert time.monotonic() - started > 0.7
    finally:
        back.join()
    assert Store(remote_store.place).blocks() == {CELL: [range(2)]}
    assert remote_store.verify([CELL]) == {}


DEAD = "s3://bucket/path?endpoint_override=127.0.0.1:1&scheme=http"


def test_first_contact_is_made_once(s3):
    place = open_place(DEAD)
    started = time.monotonic()
    for contact in (place.reach, place.create, Store(place).create):
        with pytest.raises(StoreError, match=phrase("s3://bucket/path/blocks can't be listed (")):
            contact()
    assert place.write_problem().startswith("s3://bucket/path/blocks/.probe.")
    assert time.monotonic() - started < 5


def test_single_attempt_is_not_retried(s3, monkeypatch):
    monkeypatch.setattr(bucket, "RETRY_TIME", timedelta(seconds=1.5))
    place = open_place(DEAD)

    def seconds():
        started = time.monotonic()
        with pytest.raises(StoreError, match=phrase("path/file can't be read (")):
            place.read("file")
        return time.monotonic() - started

    with place.single_attempt():
        with place.single_attempt():
            assert seconds() < 0.5
        assert seconds() < 0.5
    assert seconds() > 1


def test_missing_bucket_is_named(s3):
    place = open_place(s3.uri("no-such-bucket"))
    for contact in (place.reach, place.create):
        with pytest.raises(StoreError) as caught:
            contact()
        assert str(caught.value) == (
            "s3://no-such-bucket/results: there is no bucket no-such-bucket; create it first"
        )


def test_bucket_that_vanishes_loses_no_block_silently(s3, remote_store, write, change_obstore):
    """A marker that could not be written is not taken for another writer's."""
    gone = open_place(s3.uri("no-such-bucket"))
    for use in (
        lambda: gone.write("file", b""),
        lambda: gone.write("file", b"", only_if_absent=True),
        lambda: gone.write_tagged("file", b"", {"e_tag": "x"}),
        lambda: gone.read("file"),
        lambda: gone.delete("file"),
        lambda: gone.list("blocks"),
        lambda: write(Store(gone)),
    ):
        with pytest.raises(StoreError, match="there is no bucket no-such-bucket; create it first"):
            use()

    def absent(*arguments, **options):
        raise FileNotFoundError("x - Server returned non-2xx status code: 404 Not Found: ")

    change_obstore(put=absent, list=absent)  # as Google Cloud and Azure answer
    for use, what in ((lambda: write(remote_store), "written"), (remote_store.blocks, "listed")):
        with pytest.raises(StoreError, match=phrase(f"can't be {what} (404 Not Found)")):
            use()


def test_replacing_a_deleted_file_writes_nothing(remote_store):
    remote_store.place.write("file", b"content")
    _, tag = remote_store.place.read_tagged("file")
    remote_store.place.delete("file")
    assert remote_store.place.write_tagged("file", b"other", tag) is None
    assert remote_store.place.list("") == {"format.json": 12}


@pytest.fixture
def server_with_auth(s3, moto_server):
    """Make the server ask for credentials that it knows; it knows none."""
    import requests

    address = f"http://127.0.0.1:{s3.port}/moto-api/reset-auth"
    requests.post(address, data=b"0", timeout=10).raise_for_status()
    yield
    requests.post(address, data=b"Infinity", timeout=10).raise_for_status()


def test_refusal_of_the_storage_is_told_at_once(remote_store, write, server_with_auth):
    started = time.monotonic()
    for use, what in (
        (remote_store.place.reach, "listed"),
        (remote_store.blocks, "listed"),
        (lambda: remote_store.place.write("file", b""), "written"),
        (lambda: remote_store.place.read("format.json"), "read"),
        (lambda: write(remote_store), "read"),
    ):
        with pytest.raises(StoreError, match=phrase(f"can't be {what} (InvalidAccessKeyId: ")):
            use()
    assert "InvalidAccessKeyId" in remote_store.place.write_problem()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("x - <Error><Code>SlowDown</Code>\n<Message>Reduce\nit.</Message>\n\nDebug source:\n…",
         "SlowDown: Reduce it."),
        ("x - Server returned non-2xx status code: 403 Forbidden: \n\nDebug source: 1",
         "403 Forbidden"),
        ("Error performing GET http://x in 1ms - HTTP error: error sending request\n\nDebug source",
         "HTTP error: error sending request"),
    ],
)  # fmt: skip
def test_error_of_the_storage_is_one_short_line(error, line):
    assert bucket.in_short(Exception(error)) == line


# --- credentials -----------------------------------------------------------------------------


@pytest.fixture
def aws_folder(s3, tmp_path, monkeypatch):
    """A home folder whose ~/.aws has credentials, and an environment without."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = anyone\naws_secret_access_key = anything\n"
    )
    (folder / "config").write_text("[default]\nregion = eu-central-1\n")
    return folder


def test_home_credentials_are_used(aws_folder, s3, monkeypatch):
    s3.client.create_bucket(Bucket="credentials-at-home")
    seen = []
    original = bucket.from_url

    def from_url(uri, **options):
        seen.append(options)
        return original(uri, **options)

    monkeypatch.setattr(bucket, "from_url", from_url)
    place = open_place(s3.uri("credentials-at-home"))
    place.create()
    place.write("file", b"content")
    assert place.read("file") == b"content"
    assert seen[0]["config"]["region"] == "eu-central-1"
    assert "credential_provider" in seen[0]


def test_environment_credentials_come_first(aws_folder, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setattr(bucket, "from_url", lambda uri, **options: seen.append(options))
    seen = []
    open_place(s3.uri("some-bucket"))
    assert "credential_provider" not in seen[0]


def test_home_credentials_without_boto3_are_refused(aws_folder, s3, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(StoreError, match=phrase("~/.aws are read by boto3, which isn't installed")):
        open_place(s3.uri("some-bucket"))


def test_region_and_endpoint_of_the_uri_are_used(s3, monkeypatch):
    seen = []
    monkeypatch.setattr(bucket, "from_url", lambda uri, **options: seen.append((uri, options)))
    open_place("s3://bucket/path?endpoint_override=host:9000&scheme=http&region=x")
    open_place("s3://bucket/path?endpoint_override=host")
    (uri, first), (_, second) = seen
    assert uri == "s3://bucket/path"
    assert first["config"] == {"endpoint": "http://host:9000", "region": "x"}
    assert first["client_options"]["allow_http"]
    assert second["config"] == {"endpoint": "https://host"}
    assert not second["client_options"]["allow_http"]


def test_upload_of_a_working_folder_fails_loudly(remote_store, change_obstore):
    def put(store, name, *arguments, **options):
        if name.endswith("index.html"):
            raise obstore.exceptions.GenericError("away")
        return obstore.put(store, name, *arguments, **options)

    change_obstore(put=put)
    with (
        pytest.raises(StoreError, match=phrase("report/index.html can't be written (away)")),
        remote_store.place.working_folder("report") as folder,
    ):
        (folder / "index.html").write_text("page")
