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
    together: int = 0
    """Resident sets of the command and these two processes at the same time."""
    worker: int = 0
    """Resident set of its largest worker, including shared pages."""
    worker_share: int = 0
    """Proportional set of its largest worker: a page shared by k processes counts 1/k."""

    def look(self, command: psutil.Process) -> None:
        """Sample the memory now and update the peaks."""
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
        self.together = max(self.together, driver + report)


@dataclass
class Finished:
    """A command that has ended, or was stopped at an awaited line."""

    seconds: float
    """From its start to its end."""
    lines: list[tuple[float, str]]
    """Seconds since its start and text of each line that it printed."""
    memory: Memory = field(default_factory=Memory)

    def when(self, text: str) -> float:
        """Seconds from the start to the first line with `text`. Raises `LookupError`."""
        for seconds, line in self.lines:
            if text in line:
                return seconds
        printed = "\n".join(line for _, line in self.lines)
        raise LookupError(f"the command never printed {text!r}, but:\n{printed}")


def run(*arguments: object, stop_at: str | None = None) -> Finished:
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
                memory.look(psutil.Process(process.pid))
            except psutil.Error:
                return  # it has ended

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
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
    watching.join()
    if code != 0 and not stopped:
        printed = "\n".join(line for _, line in lines[-20:])
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with code {code}:\n{printed}")
    return Finished(time.perf_counter() - started, lines, memory)


@cache
def assignment(options: Options) -> tuple[Finished, Store]:
    """Run `study run assignment` into an empty folder, from the command to the report.

    All modules that need it share one run.
    """
    preset = "smoke" if options.tiny else "quick"
    options.say(f"the whole study, study run assignment --preset {preset}")
    out = options.folder / "assignment"
    return run("-m", "study", "run", "assignment", "--preset", preset, "--out", out), Store(out)


def computed(store: Store, experiment: str) -> tuple[list[float], float]:
    """Seconds of each of an experiment's blocks, and from the first one's start to the last one's
    end."""
    provenance = store.provenance(cells_of(store, experiment))
    seconds = [float(p["seconds"]) for p in provenance]
    starts = [float(p["started"]) for p in provenance]
    ends = [start + taken for start, taken in zip(starts, seconds, strict=True)]
    return seconds, max(ends) - min(starts)


def cells_of(store: Store, experiment: str) -> dict[str, int]:
    """Number of replicates that the latest command asked for, by id of an experiment's cells."""
    planned = next(e for e in store.plan()["experiments"] if e["name"] == experiment)
    return {cell["id"]: cell["replicates"] for cell in planned["cells"]}
