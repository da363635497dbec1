"""The report has its own process, whose errors arrive unchanged. The driver loads no torch, which
stays in other processes."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import count
from types import SimpleNamespace

import psutil
import pytest

from study import reporting
from study.__main__ import main
from study.console import console
from study.launch import torch_hidden
from study.run import write_report
from study.store import Store, StoreError
from tests.phrases import phrase

real_write = reporting.write


@pytest.fixture
def process():
    with reporting.ReportProcess() as made:
        yield made


def exit_abruptly(*arguments):
    os._exit(9)


def test_error_of_the_report_process_arrives_unchanged(process, tmp_path):
    with pytest.raises(StoreError, match=phrase(f"{tmp_path} holds no study")):
        reporting.write(tmp_path, {}, process)


def test_killed_process_raises_killed(process, monkeypatch, tmp_path):
    monkeypatch.setattr(reporting, "_write", exit_abruptly)
    with pytest.raises(reporting.Killed, match="has ended before it was done"):
        reporting.write(tmp_path, {}, process)


def test_command_says_how_to_retry_a_killed_report(computed_blocks, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("study.reporting.write", real_write)
    monkeypatch.setattr(reporting, "_write", exit_abruptly)
    command = ["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 1
    output = capsys.readouterr().out
    assert "failed: the process that writes the report has ended" in output
    assert f"`study report {tmp_path}` tries again" in output


@pytest.mark.parametrize("failures", [reporting.FAILURES, 0])
def test_user_is_told_if_the_page_has_failed(
    failures, computed_blocks, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(reporting, "FAILURES", failures)
    assert main(["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    told = "the page that grows while a study runs could not be written" in capsys.readouterr().out
    assert told is (failures == 0)


def test_unwritable_home_prints_nothing(process, monkeypatch, capfd):
    monkeypatch.setenv("HOME", "/proc/1")
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    process.submit(eval, "__import__('analysis.style') and 1").result()
    assert capfd.readouterr() == ("", "")


def test_bad_matplotlib_settings_do_not_end_the_report(process, monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    assert process.call("draws", eval, "__import__('analysis.style') and 1") == 1


def test_driver_loads_no_torch():
    program = (
        "import study.launch, study.search.command, study.search.trials, study.cluster.nodes\n"
        "import sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("module", "set_there"), [("analysis.results", 0), ("study.launch", 1)])
def test_reading_results_keeps_rays_settings(module, set_there):
    """A notebook may run its own Tune, with its own loggers and checkpoints."""
    program = f"import os, sys, {module}; sys.exit('TUNE_GLOBAL_CHECKPOINT_S' in os.environ)"
    env = {key: value for key, value in os.environ.items() if not key.startswith("TUNE_")}
    done = subprocess.run([sys.executable, "-c", program], env=env, check=False)
    assert done.returncode == set_there


def test_torch_is_hidden_in_the_block_alone():
    program = (
        "from study.launch import torch_hidden\n"
        "with torch_hidden():\n"
        "    try: import torch\n"
        "    except ImportError: print('hidden')\n"
        "import torch; print(torch.zeros(2).tolist())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "hidden\n[0.0, 0.0]\n"


def test_torch_already_loaded_stays():
    import torch

    with torch_hidden():
        assert sys.modules["torch"] is torch
    assert sys.modules["torch"] is torch


SLEEPER = """
import time
from study import reporting
def sleep(seconds, *others):
    with reporting.ReportProcess("fork") as executor:
        executor.submit(time.sleep, seconds).result()
"""
SLEEPING = """
from study import reporting
from study.signals import interruptible
import sleeper
reporting._write = sleeper.sleep
with interruptible(), reporting.ReportProcess() as process:
    reporting.write(100, {}, process)
"""


def report_processes(driver):
    """The processes that make the report; one that has just ended has no command line."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize(
    ("how", "group"),
    [
        (signal.SIGINT, True),
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        (signal.SIGTERM, False),
        (signal.SIGKILL, False),
    ],
)
def test_report_process_does_not_outlive_the_driver(how, group, when, tmp_path):
    """Nor does the one beside it. Neither prints anything on Ctrl-C, which a terminal sends to all
    processes."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    driver = subprocess.Popen(
        [sys.executable, "-c", SLEEPING],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    writers = []
    while len(writers) < (2 if when == "later" else 1):
        assert driver.poll() is None
        time.sleep(0.02)
        writers = report_processes(driver.pid)
    time.sleep(2 if when == "later" else 0.1)
    os.killpg(driver.pid, how) if group else driver.send_signal(how)
    _, output = driver.communicate(timeout=10)
    assert driver.returncode != 0
    if (how, when) != (signal.SIGKILL, "at once"):  # a starting one may report that input ended
        # So may the one beside it, if the writer is killed while starting it.
        begun = output.count("EOFError: Ran out of input") if when == "at once" else 0
        assert output.count("Traceback") - begun == (how != signal.SIGKILL)  # the driver's own
    _, alive = psutil.wait_procs(writers, timeout=10)
    assert alive == []


# --- the page of a running study -----------------------------------------------------------------


class HeldProcess:
    """Keeps what is submitted, for the test to finish."""

    def submit(self, *given):
        self.given, self.page = given, Future()
        return self.page


@pytest.fixture
def make_page(monkeypatch):
    """Makes a page on two cores whose updates are so many seconds apart, and its process."""

    def make(seconds):
        clock = SimpleNamespace(monotonic=count(0, seconds).__next__)
        monkeypatch.setattr(reporting, "time", clock)
        monkeypatch.setattr(reporting, "cores", lambda: 2)
        process = HeldProcess()
        return reporting.GrowingPage("results", process), process

    return make


@pytest.mark.parametrize(
    ("every", "spent", "pages"),
    [(5, 0.0, [30, 90, 150, 210]), (70, 0.0, [70, 140, 210, 280]), (5, 4.8, [30, 150, 270, 390])],
)
def test_page_interval_grows_with_its_cost(every, spent, pages, make_page):
    page, process = make_page(every)
    written = []
    while len(written) < len(pages):
        page.update("state")
        if page.pending and not page.pending.done():
            written.append(page.submitted)
            process.page.set_result((spent, 0.0))
    assert written == pages


def test_report_is_imported_before_the_first_page(make_page):
    page, process = make_page(5)
    page.update("state")
    assert process.given == (reporting._at_low_priority, import_module, "analysis.report")
    assert page.pending is None
    process.given = None
    page.update("state")
    assert process.given is None


def test_page_prepares_the_report_in_its_share_of_time(make_page):
    page, process = make_page(60)
    prepared = []
    for _ in range(5):
        page.update("state")
        prepared.append(process.given[-1])
        process.page.set_result((0.0, 15.0 if prepared[-1] else 0.0))
    # At 60 s, 30 s after the first page is due, 0 s are spent of 3; at 120, 15 of 9; at 180, of 15.
    assert prepared == [True, False, True, False, False]


def test_pages_end_after_three_failures_in_a_row(make_page):
    page, process = make_page(100)
    for error in [OSError, OSError, None, OSError, BrokenProcessPool, OSError, OSError]:
        page.update("state")
        assert not page.has_failed()
        process.page.set_exception(error()) if error else process.page.set_result((0.0, 0.0))
    assert page.has_failed()
    page.update("state")
    assert page.pending is None


def test_report_waits_for_a_page_but_not_for_long(process, monkeypatch):
    number = process.call("says its number", os.getpid)
    page = process.submit(time.sleep, 1)
    assert process.call("says its number", os.getpid) == number and page.done()

    monkeypatch.setattr(reporting, "PATIENCE", 0.1)
    page = process.submit(time.sleep, 100)
    assert process.call("says its number", os.getpid) != number
    assert isinstance(page.exception(), BrokenProcessPool)


def test_page_has_the_lowest_priority(process):
    assert process.submit(reporting._at_low_priority, os.nice, 0).result() == 19
    assert process.call("has full priority", os.nice, 0) == os.nice(0)


def test_report_process_starts_anew_if_needed(process, monkeypatch):
    with pytest.raises(reporting.Killed, match="the process that ends has ended before"):
        process.call("ends", os._exit, 9)
    number = process.call("says its number", os.getpid)
    assert process.call("says its number", os.getpid) == number
    monkeypatch.setattr(reporting, "_code_on_disk", lambda: "edited")
    assert process.call("says its number", os.getpid) != number


def test_report_process_ends_no_other(process):
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(100,))
    other.start()
    assert process.submit(abs, -1).result() == 1
    process.shutdown()
    assert multiprocessing.active_children() == [other]
    other.kill()
    other.join()
    assert process.submit(abs, -1).result() == 1  # it can be used again


def test_cells_not_computed_are_no_failures(tmp_path, monkeypatch, capsys):
    store = Store(tmp_path)
    store.create()
    store.write_failure("f" * 16, {}, "Traceback …\nDiverged: the loss")
    missing = [
        {"experiment": "autoencoder", "cell": "a" * 16, "reason": "not computed yet"},
        {"experiment": "autoencoder", "cell": "f" * 16, "reason": "Diverged: the loss"},
    ]
    monkeypatch.setattr("analysis.stamp.missing_cells", lambda *given: missing)
    plan = {"command": "study run autoencoder", "experiments": [{"cells": missing}]}
    assert write_report(store, console(), plan, {}, None) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "1 cell not computed yet, or in part; `study run autoencoder` computes them",
        f"failed: autoencoder {'f' * 16}: Diverged: the loss",
        f"the whole errors are in {tmp_path / 'failed'}",
    ]
