"""Every system call of a write, and every request of a bucket, fails once: nothing is lost, and
the next try makes the same."""

import errno
import os
import re
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError

from study.store import Store, StoreError, cells, places
from study.store.checkpoint import FileCheckpoint
from study.store.places import Folder
from trainables.contract import Progress

CELL = "0123456789abcdef"
CALLS = ("open", "write", "fsync", "replace", "link")


class FaultyCalls:
    """System calls, of which call number `failing` fails; `names` are those made."""

    def __init__(self, failing=None, fault=None):
        self.names, self.failing, self.fault = [], failing, fault

    def functions(self):
        return {name: self.wrapped(name, getattr(os, name)) for name in CALLS}

    def wrapped(self, name, original):
        def call(*arguments, **options):
            self.names.append(name)
            if len(self.names) - 1 != self.failing:
                return original(*arguments, **options)
            if self.fault == "short" and name == "write":
                descriptor, content = arguments
                return original(descriptor, content[: len(content) // 2])
            if self.fault == "short":
                return original(*arguments, **options)
            raise OSError(self.fault, os.strerror(self.fault))

        return call


def write_two_blocks(store, write):
    write(store, 0, 1)
    write(store, 2, 3)


def assert_whole(store):
    """Assert that blocks listed as finished are whole to the last byte."""
    found = Store(store.place).blocks()
    assert Store(store.place).verify([CELL]) == {}
    for replicates in found.get(CELL, ()):
        last = replicates.stop - 1
        assert set(Store(store.place).weights(CELL, replicates)) == set(replicates)
        assert Store(store.place).predictions(CELL, [last]).tolist() == [[last, last + 1]]


def assert_done(store):
    """Assert that all blocks are written, and nothing else."""
    assert_whole(store)
    assert store.blocks() == {CELL: [range(2), range(2, 4)]}
    assert store.rows({CELL: 4})["test_mse"].tolist() == [0, 1, 2, 3]
    assert store.history({CELL: 4})["loss"].tolist() == [0, 1, 2, 3, 0, 0.5, 1, 1.5]
    assert len(store.place.list("blocks")) == 4


def system_calls(folder, write, change_os):
    """The system calls that two blocks take in a new folder."""
    store = Store(folder)
    store.create()
    calls = FaultyCalls()
    change_os(**calls.functions())
    write_two_blocks(store, write)
    change_os()
    return calls.names


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EINTR, "short"])
def test_folder_survives_a_fault_of_every_call(fault, tmp_path, write, change_os, monkeypatch):
    count = len(system_calls(tmp_path / "count", write, change_os))
    assert count == 26  # 6 a file, and 2 for the new folder
    monkeypatch.setattr(cells, "ORPHAN_SECONDS", -1.0)
    for failing in range(count):
        store = Store(tmp_path / f"{failing}")
        store.create()
        calls = FaultyCalls(failing, fault)
        change_os(**calls.functions())
        if fault == "short":
            write_two_blocks(store, write)
        else:
            with pytest.raises(OSError, match=os.strerror(fault)):
                write_two_blocks(store, write)
        change_os()
        assert len(calls.names) > failing
        assert_whole(store)
        assert [p for p in store.place.path.rglob(".*") if p.is_file()] == []
        write_two_blocks(store, write)
        store.tidy()
        assert_done(store)


def test_killed_writer_leaves_no_block_at_any_call(tmp_path, write, change_os, monkeypatch):
    """As SIGKILL does: nothing is cleaned up after the call."""
    count = len(system_calls(tmp_path / "count", write, change_os))
    monkeypatch.setattr(cells, "ORPHAN_SECONDS", -1.0)
    for failing in range(count):
        store = Store(tmp_path / f"{failing}")
        store.create()
        calls = FaultyCalls(failing, errno.EIO)
        change_os(**calls.functions())
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda *arguments, **options: None)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                write_two_blocks(store, write)
        change_os()
        assert_whole(store)
        store.tidy()
        write_two_blocks(store, write)
        assert_done(store)
        assert [p for p in store.place.path.rglob(".*") if p.is_file()] == []


def test_file_is_on_the_disk_before_it_has_its_name(tmp_path, change_os):
    """Content, then name, then the folder that has the name: in any other order a power failure
    may leave a name without content."""
    seen, opened = [], {}

    def note(name, of):
        original = getattr(os, name)

        def call(*arguments, **options):
            result = original(*arguments, **options)
            if name == "open":
                opened[result] = Path(arguments[0])
            seen.append((name, of(*arguments)))
            return result

        return call

    def opened_path(descriptor, *_):
        path = opened[descriptor]
        return "folder" if path.is_dir() else "file"

    kind = {
        "open": lambda path, *_: "folder" if Path(path).is_dir() else "file",
        "write": opened_path,
        "fsync": opened_path,
        "replace": lambda *_: "name",
        "link": lambda *_: "name",
    }
    place = Folder(tmp_path)
    change_os(**{name: note(name, kind[name]) for name in CALLS})
    for only_if_absent, step in ((False, "replace"), (True, "link")):
        seen.clear()
        assert place.write(f"{step}.json", b"content", only_if_absent)
        assert seen == [
            ("open", "file"), ("write", "file"), ("fsync", "file"), (step, "name"),
            ("open", "folder"), ("fsync", "folder"),
        ]  # fmt: skip


def test_new_folder_is_flushed_to_the_one_above(tmp_path, monkeypatch):
    flushed = []
    original = places.flush
    monkeypatch.setattr(places, "flush", lambda path: flushed.append(path) or original(path))
    Folder(tmp_path).write("a/b/c.json", b"")
    assert flushed == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_file_system_without_links_is_written_to(code, local_store, write, change_os):
    def no_links(*arguments):
        raise OSError(code, os.strerror(code))

    change_os(link=no_links)
    write_two_blocks(local_store, write)
    write(local_store, 0, 1, plus=0.5)
    assert_done(local_store)


def test_file_system_without_folder_flush_is_usable(local_store, write, change_os):
    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        os.fsync(descriptor)

    change_os(fsync=fsync)
    write_two_blocks(local_store, write)
    assert_done(local_store)


def test_link_with_a_lost_answer_counts_as_made(local_store, write, change_os):
    """NFS sends the request again, and finds the name taken by the first one."""

    def link(*arguments):
        os.link(*arguments)
        raise FileExistsError(errno.EEXIST, "File exists")

    change_os(link=link)
    write_two_blocks(local_store, write)
    assert_done(local_store)


def test_unmounted_folder_takes_no_block(local_store, write):
    """What is written below the mount point would be lost."""
    first = write(local_store)
    folder = local_store.place.path
    folder.rename(folder.with_name("unmounted"))
    checkpoint = FileCheckpoint(local_store.place, local_store.progress(first), "key")
    with pytest.raises(FileNotFoundError):
        checkpoint.save(Progress(1, {}, {}))
    with pytest.raises(StoreError, match="holds no study any more"):
        write(local_store, 2, 3)
    assert not folder.exists()
    folder.mkdir()  # where the results folder was the mount point itself
    with pytest.raises(StoreError, match="holds no study any more"):
        write(local_store, 2, 3)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_unwritable_folder_says_why(code, tmp_path, change_os):
    place = Folder(tmp_path)
    assert place.write_problem() is None

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    change_os(write=fail)
    why = f"{tmp_path} can't be written to ({os.strerror(code)})"
    if code in (errno.ENOSPC, errno.EDQUOT):
        why = f"no space is left in {tmp_path}"
    assert place.write_problem() == why
    with pytest.raises(StoreError, match=re.escape(why)):
        Store(place).create()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_unreadable_folder_is_not_an_empty_one(local_store, write, monkeypatch):
    write(local_store)
    original = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith(CELL):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        local_store.blocks()


def test_file_that_vanishes_while_listing_is_left_out(local_store, write, monkeypatch):
    write(local_store)
    original = local_store.place._files

    def files(folder):
        for name, entry in original(folder):
            if name.endswith(".safetensors"):
                Path(entry.path).unlink(missing_ok=True)
            yield name, entry

    monkeypatch.setattr(local_store.place, "_files", files)
    assert list(local_store.place.list("blocks")) == [f"{CELL}/0-1.json"]


# --- buckets ---------------------------------------------------------------------------------


class FaultyRequests:
    """obstore's `put` and `get`; request number `failing` fails, before or after it is sent."""

    def __init__(self, failing=None, late=False):
        self.count, self.failing, self.late = 0, failing, late

    def wrapped(self, original):
        def call(*arguments, **options):
            self.count += 1
            fails = self.count - 1 == self.failing
            if fails and not self.late:
                raise GenericError("the network is gone")
            answer = original(*arguments, **options)
            if fails:
                raise GenericError("the answer was lost")
            return answer

        return call

    def functions(self):
        return {"put": self.wrapped(obstore.put), "get": self.wrapped(obstore.get)}


@pytest.mark.parametrize("late", [False, True])
def test_bucket_survives_a_fault_of_every_request(
    late, remote_store, write, change_obstore, monkeypatch
):
    monkeypatch.setattr(cells, "ORPHAN_SECONDS", -1.0)
    for failing in range(6):
        place = type(remote_store.place)(
            remote_store.address.replace("/results", f"/results-{failing}")
        )
        store = Store(place)
        store.create()
        requests = FaultyRequests(failing, late)
        change_obstore(**requests.functions())
        with pytest.raises(StoreError, match="can't be "):
            write_two_blocks(store, write)
        change_obstore()
        assert requests.count == failing + 1
        assert_whole(store)
        write_two_blocks(store, write)
        store.tidy()
        assert_done(store)
    requests = FaultyRequests()
    change_obstore(**requests.functions())
    write(remote_store, 0, 1)
    write(remote_store, 2, 3)
    assert requests.count == 6


def test_request_with_a_lost_answer_counts_as_made(remote_store, write, change_obstore):
    """It is sent again, and finds the name taken by the first one."""

    def put(store, name, content, **options):
        answer = obstore.put(store, name, content, **options)
        if options.get("mode") == "create":
            raise AlreadyExistsError("again")
        return answer

    change_obstore(put=put)
    write_two_blocks(remote_store, write)
    change_obstore()
    assert_done(remote_store)
