"""Every command, ended by a signal at seeded moments: a documented exit code, nothing left running.

    python -m tests.endings --times 30 --seed 0        (make endings)

Each command runs once undisturbed, which says how long it takes. Then it is started again and
again, and sent SIGINT or SIGTERM at a random moment: itself alone, or with all processes of its
group, as a terminal and SLURM do. Commands that compute go on in the same results folder until
they are done, and must then have the undisturbed rows to the last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

from study.store import Store
from tests.computing import tables

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--preset", "smoke", "--dataset", "digits", "--log", "none")
COMMANDS = {
    "run": ("run", "fewshot", *SMALL, "--out", "{out}"),
    "search": ("search", "autoencoder", *SMALL, "--trials", "6", "--fresh", "2", "--out", "{out}"),
    "report": ("report", "{out}"),
    "plan": ("plan", "assignment", *SMALL, "--out", "{out}"),
    "check": ("check", "--dataset", "digits", "--out", "{out}"),
    "export": ("export", "{out}", "--best", "{new}"),
    "compare": ("compare", "{out}", "{out}", "--out", "{new}"),
}
"""By name: the command; `{out}` is the results folder, `{new}` a folder that is not there yet."""
COMPUTING = ("run", "search")
START = 0.1
"""Seconds until Python itself has started, which no program can make interruptible."""
PATIENCE = 20.0
"""Seconds that an ending may take."""


class Command:
    """A command of the study as a process, known by a mark in the environment of its children."""

    def __init__(self, name: str, out: Path) -> None:
        self.mark = secrets.token_hex(8)
        arguments = [part.format(out=out, new=out / self.mark) for part in COMMANDS[name]]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "STUDY_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def end(self, after: float, number: signal.Signals, group: bool) -> None:
        """Send a signal after so many seconds, unless the process has ended by then."""
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            (os.killpg if group else os.kill)(self.process.pid, number)

    def outcome(self) -> tuple[int, str]:
        """Exit code and output; -9 if it had to be killed."""
        try:
            output, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            output, _ = self.process.communicate()
        return self.process.returncode, output

    def left(self) -> list[str]:
        """Command lines of the processes that are still there some seconds later."""
        for _ in range(20):
            found = []
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("STUDY_MARK") == self.mark:
                        found.append(" ".join(process.cmdline())[:100])
            if not found:
                break
            time.sleep(0.5)
        return found


def end_repeatedly(name: str, folder: Path, times: int, rng: random.Random) -> int:
    """End a command so many times; the number of wrong endings."""
    calm = folder / f"{name}-calm"
    if name not in COMPUTING:
        shutil.copytree(folder / "run-calm", calm)
    before = time.monotonic()
    command = Command(name, calm)
    output, _ = command.process.communicate()
    seconds = time.monotonic() - before
    if command.process.returncode != 0:
        print(f"{name}: undisturbed it ends with {command.process.returncode}\n{output}")
        return 1
    codes: Counter[int] = Counter()
    wrong, out = 0, folder / f"{name}-1"
    for number in range(times):
        if name not in COMPUTING:
            out = calm
        after = rng.uniform(START, seconds)
        what, group = rng.choice([signal.SIGINT, signal.SIGTERM]), rng.random() < 0.5
        command = Command(name, out)
        command.end(after, what, group)
        code, output = command.outcome()
        left = command.left()
        codes[code] += 1
        expected = 130 if what is signal.SIGINT else 143
        if code not in (0, expected, -what) or left or "Traceback" in output or "***" in output:
            wrong += 1
            which = "group" if group else "process"
            print(f"{name}: {what.name} to the {which} after {after:.2f} s: {code}, left {left}")
            print(output, flush=True)
        if name in COMPUTING and code == 0:
            wrong += not has_same_rows(name, out, calm)
            out = folder / f"{name}-{number + 2}"
    for _ in range(3):
        if name in COMPUTING and Command(name, out).process.wait() == 0:
            wrong += not has_same_rows(name, out, calm)
            break
    print(f"{name}: {times} times within {seconds:.1f} s: {dict(codes)}, {wrong} wrong", flush=True)
    return wrong


def has_same_rows(name: str, out: Path, calm: Path) -> bool:
    """True if a results folder has the undisturbed rows. A search's trials depend on the order in
    which others end: those that both have are compared."""
    found, wanted = tables(Store(out)), tables(Store(calm))
    for one, other in zip(found, wanted, strict=True):
        if name == "search":
            both = set(one["cell"]) & set(other["cell"])
            one, other = (t[t["cell"].isin(both)].reset_index(drop=True) for t in (one, other))
        try:
            pd.testing.assert_frame_equal(one, other, check_exact=True, check_like=True)
        except AssertionError as error:
            print(f"{name}: {error}")
            return False
    return not Store(out).verify(Store(out).blocks())


def main() -> int:
    """End every command, and say how that went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background
    folder = Path(tempfile.mkdtemp(prefix="study-endings-"))
    print(f"seed {options.seed}, results in {folder}", flush=True)
    if "run" not in options.commands:  # the others read its results
        Command("run", folder / "run-calm").process.wait()
    wrong = sum(
        end_repeatedly(name, folder, options.times, random.Random(f"{options.seed} {name}"))
        for name in options.commands
    )
    if not wrong:
        shutil.rmtree(folder)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
