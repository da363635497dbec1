"""What goes wrong while a study runs, with real processes: the table is the same in the end."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from ray.exceptions import RayActorError, RayTaskError
from rich.console import Console

import study.__main__ as command_line
from study.experiments import AUTOENCODER
from study.grid import override, plan
from study.store import Store, StoreError
from study.store.lock import alone_in

ROOT = Path(__file__).resolve().parents[3]


# --- two drivers on one results folder -------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from study.experiments import AUTOENCODER
from study.grid import override, plan
from study.store.lock import alone_in
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


# --- processes that die ----------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_killed_in_a_trial_is_replaced_and_goes_on(driver, undisturbed):
    code, said = driver.run(order="die")
    assert code == 0, said
    assert "victim: 1 cell has lost the worker; trying again" in said
    assert "Traceback" not in said
    assert driver.resumed_after() == {2: None, 3: 3}
    driver.assert_as(undisturbed)


@pytest.fixture
def tried(monkeypatch):
    """Runs one cell with a function in place of Tune that gives the error of each try; the
    value is called with that function, and returns how many tries there were."""
    from study import launch

    def run(error_of, store):
        tries = []

        def trials(name, experiment, grants, *others):
            tries.append(name)
            error = error_of(len(tries))
            return {} if error is None else {grant.cell.id: error for grant in grants}

        monkeypatch.setattr(launch, "run_trials", trials)
        (cell,) = plan([override(AUTOENCODER, dict.fromkeys(AUTOENCODER.axes, (2,)), {})], "")[0]
        on_cpu = launch.Resources(gpus_per_trial=0)
        launch.run_experiment(AUTOENCODER, [cell], None, store, on_cpu, Console(quiet=True))
        assert len(set(tries)) == len(tries)
        return len(tries)

    return run


def test_a_cell_is_tried_again_until_its_worker_lives(tried, tmp_path):
    store = Store(tmp_path)
    died = RayActorError(error_msg="The actor died unexpectedly.")
    assert tried(lambda number: died if number < 3 else None, store) == 3
    assert store.failures() == {}


def test_a_cell_that_kills_every_worker_fails_in_the_end(tried, tmp_path):
    store = Store(tmp_path)
    died = RayActorError(error_msg="The actor died unexpectedly.")
    assert tried(lambda number: died, store) == 4
    (failure,) = store.failures().values()
    assert "The actor died unexpectedly" in failure["reason"]


def test_a_cell_that_fails_by_itself_is_tried_once(tried, tmp_path):
    store = Store(tmp_path)
    error = RayTaskError("train", "ValueError: no", ValueError("no")).as_instanceof_cause()
    assert tried(lambda number: error, store) == 1
    (failure,) = store.failures().values()
    assert failure["reason"] == "ValueError: no"


@pytest.mark.ray
@pytest.mark.slow
def test_a_driver_killed_and_started_again_finishes_the_study(driver, undisturbed):
    process, worker = driver.start_and_wait()
    (finished,) = driver.store.done()
    written = (driver.store.cells / finished / "done.json").stat().st_mtime_ns
    process.kill()
    process.communicate()
    again, said = driver.run()
    assert again == 0, said
    assert "victim: 2 cells (4 replicates), 1 done, 1 missing" in said
    assert (driver.store.cells / finished / "done.json").stat().st_mtime_ns == written
    assert driver.resumed_after() == {2: None, 3: 3}
    driver.assert_as(undisturbed)
    driver.wait_for_the_death_of(worker)


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_ends_in_order_and_says_how_to_go_on(driver, undisturbed):
    process, worker = driver.start_and_wait()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        "interrupted: 1 of 2 cells are done; the same command goes on from here"
    )
    assert "Traceback" not in said
    driver.wait_for_the_death_of(worker)
    code, said = driver.run()
    assert code == 0, said
    assert driver.resumed_after() == {2: None, 3: 3}
    driver.assert_as(undisturbed)


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(driver):
    process, worker = driver.start_and_wait()
    while process.poll() is None:  # two that come as one are one
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    assert process.returncode == -signal.SIGINT  # the second's work; a shell shows it as 130
    said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    driver.wait_for_the_death_of(worker)
    assert len(driver.store.done()) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_on_object_storage_too_a_killed_driver_is_gone_on_from(
    driver_in, undisturbed, s3, bucket, tmp_path
):
    """At once, as a driver that died on the same machine holds no lease."""
    driver = driver_in(tmp_path, out=s3.uri(bucket))
    process, worker = driver.start_and_wait()
    (finished,) = driver.store.done()
    marker = driver.store.marker(finished)
    second, said = driver.run()
    assert second == 2
    assert said.startswith(f"study run: s3://{bucket}/results is in use by process {process.pid} ")
    process.kill()
    process.communicate()
    again, said = driver.run()
    assert again == 0, said
    assert "victim: 2 cells (4 replicates), 1 done, 1 missing" in said
    assert driver.store.marker(finished) == marker
    assert driver.resumed_after() == {2: None, 3: 3}
    for found, wanted in zip(driver.table(), undisturbed, strict=True):
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    driver.wait_for_the_death_of(worker)

    keys = [key for key in s3.keys(bucket) if not key.endswith("/")]
    kinds = {key.removeprefix("results/").partition("/")[0] for key in keys}
    assert kinds == {"study.json", "cells", "tune"}  # no progress, no lease, nothing half-written
    assert sum(key.endswith("/params.json") for key in keys) == 1  # of the try that ended


# --- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.ray
@pytest.mark.slow
def test_on_a_full_disk_cells_fail_with_the_reason_and_the_rest_is_whole(
    driver_in, small_disk, undisturbed
):
    driver = driver_in(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4 * 2**20 - 50_000))
    code, said = driver.run()
    assert code == 1, said
    assert "no space is left" in said or "No space left on device" in said
    assert "Traceback" not in said
    done = driver.store.done()
    assert len(done) < 2
    assert driver.store.damaged(done) == {}

    filler.unlink()
    code, said = driver.run()
    assert code == 0, said
    driver.assert_as(undisturbed)
