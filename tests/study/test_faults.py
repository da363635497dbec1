"""What goes wrong while a study runs, with real processes: the table is the same in the end."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import study.__main__ as command_line
from study.lock import alone_in
from study.store import Store, StoreError
from trainables.contract import Outcome

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data_at_hand(monkeypatch, digits):
    """`mnist-5k` read from disk only once."""
    monkeypatch.setattr(command_line, "load", lambda name, folder: digits)


# --- two drivers on one results folder -------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from study.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process, which holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_driver_is_refused_in_one_line_and_writes_nothing(
    data_at_hand, holder, tmp_path, capsys
):
    command = ["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(command) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    who = f"{tmp_path} is in use by process {holder.pid} on {platform.node()} since 2"
    assert line.startswith(f"study run: {who}")
    assert captured.out == ""
    assert not (tmp_path / "study.json").exists()


def test_others_may_look_while_a_driver_runs(data_at_hand, holder, tmp_path, capsys):
    command = ["plan", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(command) == 0


def test_the_lock_of_a_dead_driver_is_nobodys(holder, tmp_path):
    with pytest.raises(StoreError, match="is in use by"), alone_in(tmp_path):
        pytest.fail("two have the lock")
    holder.kill()
    holder.wait()
    with alone_in(tmp_path):
        assert f'"pid": {os.getpid()},' in (tmp_path / "run.lock").read_text()
    assert (tmp_path / "run.lock").read_text() == ""


def test_a_lock_that_nobody_has_signed_yet_is_held_all_the_same(holder, tmp_path):
    (tmp_path / "run.lock").write_text("")
    with pytest.raises(StoreError, match="another process, which has just"), alone_in(tmp_path):
        pytest.fail("two have the lock")


# --- a damaged cell --------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch, data_at_hand):
    """Ids of the cells that were launched; they are written, and nothing is computed."""
    from contextlib import nullcontext

    from study import launch

    asked = []

    def pretend(experiment, cells, data, store, resources, console):
        for cell in cells:
            asked.append(cell.id)
            store.write(cell.id, cell.config, cell.parent, Outcome([{"replicate": 0}]), {})

    monkeypatch.setattr(launch, "cluster", lambda resources: nullcontext())
    monkeypatch.setattr(launch, "share", lambda data: data)
    monkeypatch.setattr(launch, "run_experiment", pretend)
    monkeypatch.setattr("analysis.report.write", lambda folder: folder)
    return asked


@pytest.mark.parametrize("file", ["rows.parquet", "config.json", "done.json"])
@pytest.mark.parametrize("damage", ["truncated", "corrupted"])
def test_a_damaged_cell_is_found_set_aside_and_computed_again(
    file, damage, computed, tmp_path, capsys
):
    places = ["--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(["run", "autoencoder", *places]) == 0
    whole, broken = computed
    path = tmp_path / "cells" / broken / file
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
    path.write_bytes(content[:middle] if damage == "truncated" else flipped)
    capsys.readouterr()
    computed.clear()

    assert command_line.main(["plan", "autoencoder", *places]) == 0
    said = capsys.readouterr().out
    assert f"{broken} is damaged: {file}: " in said
    assert "1 done, 1 missing, 1 of them damaged" in said
    assert command_line.main(["report", str(tmp_path)]) == 1
    assert f"failed: autoencoder {broken}: damaged: {file}: " in capsys.readouterr().out
    assert path.exists()  # only `run` changes anything

    assert command_line.main(["run", "autoencoder", *places]) == 0
    assert computed == [broken]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "set aside" in x]
    assert line.startswith(f"{broken} is damaged: {file}: ")
    assert str(tmp_path / "damaged" / f"{broken}-1") in line
    assert (tmp_path / "damaged" / f"{broken}-1" / file).read_bytes() != content
    assert Store(tmp_path).done() == {whole, broken}
    assert Store(tmp_path).damaged([whole, broken]) == {}


def test_the_tables_leave_a_damaged_cell_out_and_say_so(computed, tmp_path):
    from analysis.results import load

    assert command_line.main(
        ["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]
    ) == 0  # fmt: skip
    whole, broken = computed
    (tmp_path / "cells" / broken / "rows.parquet").write_bytes(b"PAR1")
    results = load(tmp_path)
    assert set(results.rows["cell"]) == {whole}
    (missing,) = results.missing.to_dict("records")
    assert missing["cell"] == broken
    assert missing["reason"] == "damaged: rows.parquet: its checksum is not the recorded one"
