"""The lock: one driver of a results folder at a time."""

import json
import os
import platform
import threading

import pytest

from study.store import StoreError
from study.store.lock import exclusive_lock
from study.store.places import Folder
from tests.phrases import phrase


def test_second_driver_is_refused_naming_the_first(holder, tmp_path):
    with pytest.raises(StoreError) as caught, exclusive_lock(Folder(tmp_path)):
        pytest.fail("two have the lock")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(
        f"{tmp_path} is in use by process {holder.pid} on {platform.node()} since 2"
    )
    assert line.endswith("; wait, or end it")
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_lock_of_a_dead_driver_is_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    with exclusive_lock(Folder(tmp_path)) as hold:
        assert hold.lost is None
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "run.lock").read_text() == ""


def test_lock_is_released_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), exclusive_lock(Folder(tmp_path)):
            raise KeyboardInterrupt


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "[" * 100_000, "\x00"])
def test_lock_without_a_signature_is_held_too(content, holder, tmp_path):
    (tmp_path / "run.lock").write_text(content)
    with (
        pytest.raises(StoreError, match="in use by another process, which has just started"),
        exclusive_lock(Folder(tmp_path)),
    ):
        pytest.fail("two have the lock")


def test_foreign_holder_is_named_in_one_line(holder, tmp_path):
    signed = {"pid": 7, "host": "a\nb\x1b[31m", "since": "now\r\n"}
    (tmp_path / "run.lock").write_text(json.dumps(signed))
    with pytest.raises(StoreError) as caught, exclusive_lock(Folder(tmp_path)):
        pytest.fail("two have the lock")
    assert str(caught.value).isprintable()


def test_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(StoreError, match=phrase("run.lock can't be locked (No such file")),
        exclusive_lock(Folder(tmp_path / "nowhere")),
    ):
        pytest.fail("there is no lock")


def test_one_of_many_drivers_gets_the_lock(tmp_path, run_concurrently):
    held, refused = [], []

    def drive(number):
        try:
            with exclusive_lock(Folder(tmp_path)):
                held.append(None)
                ended.wait(timeout=30)
        except StoreError as error:
            refused.append(str(error))
            if len(refused) == 4:
                ended.set()

    ended = threading.Event()
    run_concurrently(5, drive)
    assert (len(held), len(refused)) == (1, 4)
