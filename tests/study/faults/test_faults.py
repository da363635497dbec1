"""Faults while a study runs, with real processes: the same table in the end, or a way to go on."""

import os
import platform
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._common.utils import get_default_ray_temp_dir

import study.run
from study import reporting
from study.__main__ import main
from study.console import console
from study.store import Store, StoreError
from tests.computing import assert_same_tables

# --- two drivers on one results folder -------------------------------------------------------


def test_second_driver_is_refused_and_writes_nothing(cached_digits, holder, tmp_path, refusal):
    line = refusal("run", "autoencoder", "--preset", "smoke", "--out", tmp_path)
    who = f"{tmp_path} is in use by process {holder.pid} on {platform.node()} since 2"
    assert line.startswith(f"study run: {who}")
    assert not (tmp_path / "study.json").exists()


def test_plan_works_while_a_driver_runs(cached_digits, holder, tmp_path):
    command = ["plan", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 0


# --- a damaged block -------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "corrupted"])
def test_damaged_block_is_set_aside_and_computed_again(damage, computed_blocks, tmp_path, capsys):
    places = ["--preset", "smoke", "--out", str(tmp_path)]
    assert main(["run", "autoencoder", *places]) == 0
    whole, broken = computed_blocks
    path = tmp_path / broken.marker
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
    path.write_bytes(content[:middle] if damage == "truncated" else flipped)
    capsys.readouterr()
    computed_blocks.clear()

    assert main(["plan", "autoencoder", *places]) == 0
    output = capsys.readouterr().out
    assert f"{broken.name} is damaged: 0-1.json: its checksum is not the recorded one" in output
    assert "2 cells, 1 done, 1 missing; 4 replicates, 2 missing; 1 cell damaged" in output
    assert main(["report", str(tmp_path)]) == 1
    assert f"failed: autoencoder {broken.cell}: damaged: 0-1.json: " in capsys.readouterr().out
    assert path.exists()  # only `run` changes anything

    assert main(["run", "autoencoder", *places]) == 0
    assert computed_blocks == [broken]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "set aside" in x]
    assert line.startswith(f"{broken.name} is damaged: 0-1.json: ")
    (kept,) = (tmp_path / "damaged").iterdir()
    assert f"set aside as {kept}," in line
    assert (kept / "0-1.json").read_bytes() != content
    assert Store(tmp_path).blocks() == {block.cell: [range(2)] for block in (whole, broken)}
    assert Store(tmp_path).verify([whole.cell, broken.cell]) == {}


def test_tables_leave_a_damaged_block_out_and_say_so(computed_blocks, tmp_path):
    from analysis.results import load

    assert main(["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    whole, broken = computed_blocks
    (tmp_path / broken.marker).write_bytes(b"{}")
    results = load(tmp_path)
    assert set(results.rows["cell"]) == {whole.cell}
    (missing,) = results.missing.to_dict("records")
    assert missing["cell"] == broken.cell
    assert missing["reason"] == "damaged: 0-1.json: its checksum is not the recorded one"


def test_storage_error_midway_is_a_failure(tmp_path, capsys):
    def work(hold):
        raise StoreError("s3://bucket/results can't be written (503 Slow Down)")

    process = reporting.ReportProcess()
    made = SimpleNamespace(store=Store(tmp_path), console=console(), process=process)
    assert study.run.run_exclusively(made, work, lambda: "3 of 4 are done") == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "failed: s3://bucket/results can't be written (503 Slow Down): 3 of 4 are done; "
        "the same command goes on from here"
    )


# --- processes that die ----------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_trial_resumes(driver, undisturbed):
    code, output = driver.run(order="die")
    assert code == 0, output
    assert "1 block of victim tried again (try 2 of 4): its worker or host failed" in output
    assert "Traceback" not in output
    assert driver.resumed_after() == {2: None, 3: 3}
    driver.assert_as(undisturbed)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "number", "ending"),
    [
        (os.killpg, signal.SIGINT, "interrupted"),  # as a terminal does
        (os.kill, signal.SIGTERM, "ended by SIGTERM"),  # as `docker stop` does
    ],
)
def test_signal_ends_in_order_and_says_how_to_go_on(send, number, ending, driver):
    process, worker = driver.start_and_wait()
    send(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert output.splitlines()[-1] == (
        f"{ending}: 2 of 4 replicates are done; the same command goes on from here"
    )
    assert "Traceback" not in output
    assert "***" not in output  # how Ray's core begins a dump of its stack
    assert not list(Path(get_default_ray_temp_dir()).glob(f"session_*_{process.pid}"))
    driver.wait_for_the_death_of(worker)
    driver.assert_resumable()


@pytest.mark.ray
@pytest.mark.slow
def test_closed_output_ends_the_study_in_order(driver):
    """As in `study run … | head -5`."""
    process = driver.start(order="wait", first="import sys; sys.stderr = open('stderr', 'w')")
    pid = driver.orders / "pid"
    driver.wait_for(lambda: pid.exists() and pid.read_text() and len(driver.done()) == 1)
    worker = int(pid.read_text())
    process.stdout.close()
    os.kill(worker, signal.SIGKILL)  # the driver prints a line about it
    assert process.wait(timeout=60) == 141
    last = (driver.packages / "stderr").read_text().splitlines()[-1]
    assert last.startswith("ended, as nobody reads the output: 2 of 4 replicates are done; ")
    driver.assert_resumable()


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(driver):
    process, worker = driver.start_and_wait()
    while process.poll() is None:  # two at once count as one
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    assert process.returncode in (-signal.SIGINT, 130)  # by the second; the same to a shell
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output
    driver.wait_for_the_death_of(worker)
    assert len(driver.done()) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_killed_driver_is_resumed_on_object_storage(make_driver, undisturbed, s3, bucket, tmp_path):
    """At once, because a driver that died on the same machine holds no lease."""
    driver = make_driver(tmp_path, out=s3.uri(bucket))
    process, worker = driver.start_and_wait()
    (finished,) = driver.done()
    made = driver.store.provenance([finished])
    second, output = driver.run()
    assert second == 2
    assert output.startswith(
        f"study run: s3://{bucket}/results is in use by process {process.pid} "
    )
    process.kill()
    process.communicate()
    again, output = driver.run()
    assert again == 0, output
    assert "victim: 2 cells, 1 done, 1 missing; 4 replicates, 2 missing" in output
    assert driver.store.provenance([finished]) == made
    assert driver.resumed_after() == {2: None, 3: 3}
    assert_same_tables(driver.tables(), undisturbed)
    driver.wait_for_the_death_of(worker)

    keys = [key for key in s3.keys(bucket) if not key.endswith("/")]
    kinds = {key.removeprefix("results/").partition("/")[0] for key in keys}
    assert kinds == {"format.json", "study.json", "blocks", "tune", "lease.json"}  # no progress
    assert s3.get(bucket, "results/lease.json") == b""  # nobody's
    assert sum("/blocks/" in key for key in keys) == 4


# --- a full disk -----------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
def test_full_disk_fails_cells_and_keeps_the_rest_whole(make_driver, mount_tmpfs, undisturbed):
    disk = mount_tmpfs("size=4m")
    driver = make_driver(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(4 * 2**20 - 50_000))
    code, output = driver.run()
    assert code == 1, output
    assert "no space is left" in output or "No space left on device" in output
    assert "Traceback" not in output
    assert len(driver.done()) < 2
    assert driver.store.verify(driver.done()) == {}

    filler.unlink()
    code, output = driver.run()
    assert code == 0, output
    driver.assert_as(undisturbed)
