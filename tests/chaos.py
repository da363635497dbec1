"""A study whose workers, hosts and driver are killed every few seconds: the same rows in the end.

    python tests/chaos.py --minutes 5 --seed 0        (make chaos)

Ray's hosts are raylets on this machine, with a core each. The study runs once undisturbed, then
again and again while a seeded draw picks what SIGKILL ends; what was killed is started again. In
the end rows and histories must equal the undisturbed ones to the last bit: exit code 0, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

from study.store import Store
from tests.computing import assert_same_tables, tables

COMMAND = [
    *("run", "assignment", "--preset", "smoke", "--latent-dims", "2", "3", "5", "8"),
    *("--epochs", "12", "--replicates", "4", "--no-report"),
]
HOSTS = 3
KINDS = {"worker": 5, "host": 2, "driver": 2}
"""What is killed, with relative frequencies."""


class Ray:
    """A head without cores, and hosts that can be killed."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.log = log
        self.start("--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")
        self.fill()

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        with self.log.open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)

    def fill(self) -> None:
        """Start the missing hosts."""
        while len(self.hosts()) < HOSTS:
            self.start(f"--address={self.address}", "--num-cpus=1")

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Processes of this Ray, the oldest first."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            ours = any(str(self.port) in word for word in process.info["cmdline"] or ())
            if ours and name in process.info["name"]:
                found.append(process)
        return sorted(found, key=psutil.Process.create_time)

    def hosts(self) -> list[psutil.Process]:
        """Raylets of the hosts, without the head's."""
        return self.processes("raylet")[1:]

    def workers(self) -> list[psutil.Process]:
        """Processes that compute a trial."""
        found = []
        for host in self.hosts():
            with contextlib.suppress(psutil.Error):
                found += [p for p in host.children() if p.cmdline()[0].startswith("ray::Impl")]
        return found

    def stop(self) -> None:
        """Kill all of it, and forget that it was this machine's cluster."""
        Path("/tmp/ray/ray_current_cluster").unlink(missing_ok=True)
        for process in reversed(self.processes()):
            with contextlib.suppress(psutil.Error):
                for one in (*process.children(recursive=True), process):
                    one.kill()


def kill(processes: list[psutil.Process], rng: random.Random) -> bool:
    """Kill one of them with SIGKILL; whether there was one."""
    with contextlib.suppress(psutil.Error, IndexError):
        rng.choice(processes).kill()
        return True
    return False


def start_study(out: Path, log: Path, *options: str) -> subprocess.Popen:
    """Start the command as a process that appends its output to a file."""
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "study", *COMMAND, "--out", str(out), *options],
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def disturb(ray: Ray, folder: Path, log: Path, minutes: float, rng: random.Random) -> list[Path]:
    """Compute the study again and again under kills, the last time to its end; the results
    folders."""
    killed: Counter[str] = Counter()
    outs = [folder / "disturbed-1"]
    driver = start_study(outs[-1], log, "--address", ray.address)
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        time.sleep(rng.uniform(2, 8))
        if driver.poll() is not None:
            if driver.returncode == 0:
                outs.append(folder / f"disturbed-{len(outs) + 1}")
            driver = start_study(outs[-1], log, "--address", ray.address)
            continue
        (what,) = rng.choices(list(KINDS), list(KINDS.values()))
        if what == "driver":
            driver.kill()
            driver.wait()
            killed[what] += 1
        else:
            killed[what] += kill(ray.workers() if what == "worker" else ray.hosts(), rng)
        ray.fill()
    print(f"killed in {minutes:g} minutes: {dict(killed)}")
    for _ in range(5):  # a block lost four times counts as failed, and is tried again
        if driver.wait() == 0:
            break
        driver = start_study(outs[-1], log, "--address", ray.address)
    return outs


def is_same(out: Path, wanted: list[pd.DataFrame]) -> bool:
    """True if a results folder has the undisturbed tables, nothing damaged and nothing failed."""
    store = Store(out)
    damaged, failures = store.verify(store.blocks()), store.failures()
    try:
        assert_same_tables(tables(store), wanted)
    except AssertionError as error:
        print(error)
        return False
    return not damaged and not failures


def main() -> int:
    """Compare disturbed studies with an undisturbed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    # A head asks for a token if it finds one; hosts give one only when told to.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    folder = Path(tempfile.mkdtemp(prefix="study-chaos-"))
    log = folder / "log.txt"
    print(f"seed {options.seed}; what the studies print: {log}", flush=True)
    if start_study(folder / "undisturbed", log).wait() != 0:
        print("the undisturbed study failed")
        return 1
    wanted = tables(Store(folder / "undisturbed"))
    ray = Ray(log)
    try:
        outs = disturb(ray, folder, log, options.minutes, random.Random(options.seed))
    finally:
        ray.stop()
    same = [is_same(out, wanted) for out in outs]
    print(f"{sum(same)} of {len(same)} disturbed studies have the same {len(wanted[0])} rows")
    if all(same):
        shutil.rmtree(folder)
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
