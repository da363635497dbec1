"""Commands run as processes, with the times of their output lines and their memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from benchmarks.measure import Options
from study.store import Store

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Memory:
    """Peak memory of a command's processes, in bytes, sampled every half second."""

    driver: int = 0
    """Resident set of the command itself."""
    report: int = 0
    """Resident sets of the two processes that make the report; shared pages count twice."""
    driver_and_report: int = 0
    """Resident sets of the command and these two processes at the same time."""
    worker: int = 0
    """Resident set of its largest worker, including shared pages."""
    worker_share: int = 0
    """Proportional set of its largest worker: a page shared by k processes counts 1/k."""

    def sample(self, command: psutil.Process) -> None:
        """Measure the memory now and update the peaks."""
        driver = command.memory_info().rss
        self.driver = max(self.driver, driver)
        report = 0
        for process in command.children(recursive=True):
            try:
                command_line = " ".join(process.cmdline())
                if command_line.startswith("ray::"):
                    usage = process.memory_full_info()
                    self.worker = max(self.worker, usage.rss)
                    self.worker_share = max(self.worker_share, usage.pss)
                elif "multiprocessing.spawn" in command_line:
                    report += process.memory_info().rss
            except psutil.Error:
                continue  # it has ended
        self.report = max(self.report, report)
        self.driver_and_report = max(self.driver_and_report, driver + report)


@dataclass
class FinishedCommand:
    """A command that ended, or was stopped at an awaited line."""

    seconds: float
    """Seconds from its start to its end."""
    lines: list[tuple[float, str]]
    """Seconds since its start, and text, of each line that it printed."""
    memory: Memory = field(default_factory=Memory)

    def seconds_until(self, text: str) -> float:
        """Seconds from the start to the first line with `text`. Raises `LookupError`."""
        for seconds, line in self.lines:
            if text in line:
                return seconds
        printed = "\n".join(line for _, line in self.lines)
        raise LookupError(f"the command never printed {text!r}, but:\n{printed}")


def run(*arguments: object, stop_at: str | None = None) -> FinishedCommand:
    """Run `python …` from the checkout. Raises `RuntimeError` with its last lines if it fails.

    With `stop_at`, it gets SIGTERM as soon as it prints a line with that text.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    memory = Memory()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            try:
                memory.sample(psutil.Process(process.pid))
            except psutil.Error:
                return  # it has ended

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    lines = []
    stopped = False
    assert process.stdout is not None
    for line in process.stdout:
        lines.append((time.perf_counter() - started, line.rstrip()))
        if stop_at and stop_at in line and not stopped:
            stopped = True
            process.terminate()
    code = process.wait()
    ended.set()
    watcher.join()
    if code != 0 and not stopped:
        printed = "\n".join(line for _, line in lines[-20:])
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with code {code}:\n{printed}")
    return FinishedCommand(time.perf_counter() - started, lines, memory)


@cache
def assignment(options: Options) -> tuple[FinishedCommand, Store]:
    """Run `study run assignment` into an empty folder, report included.

    All modules that need it share one run.
    """
    preset = "smoke" if options.tiny else "quick"
    options.say(f"the whole study, study run assignment --preset {preset}")
    out = options.folder / "assignment"
    return run("-m", "study", "run", "assignment", "--preset", preset, "--out", out), Store(out)


def block_seconds(store: Store, experiment: str) -> tuple[list[float], float]:
    """Seconds of each block of an experiment, and from the first start to the last end."""
    provenance = store.provenance(planned_replicates(store, experiment))
    seconds = [float(block["seconds"]) for block in provenance]
    starts = [float(block["started"]) for block in provenance]
    ends = [start + duration for start, duration in zip(starts, seconds, strict=True)]
    return seconds, max(ends) - min(starts)


def planned_replicates(store: Store, experiment: str) -> dict[str, int]:
    """Numbers of replicates in the latest plan, by id of an experiment's cells."""
    planned = next(e for e in store.plan()["experiments"] if e["name"] == experiment)
    return {cell["id"]: cell["replicates"] for cell in planned["cells"]}
