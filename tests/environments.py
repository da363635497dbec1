"""Run a tiny study to its report on machines as users have them, each timed.

    python -m tests.environments        (make environments; needs root, util-linux and iproute2)

Each condition is a command that runs another command, so conditions can be combined.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUDY = Path(sys.executable).with_name("study")
NOBODY = "65534"
TINY = ("--preset", "smoke", "--dataset", "digits", "--latent-dims", "2", "--replicates", "1")


def mounted(*commands: str) -> list[str]:
    """Words that run a command after these have changed the mounts."""
    return ["unshare", "-m", "bash", "-ec", "; ".join([*commands, 'exec "$@"']), "--"]


CONDITIONS = {
    "as it is": [],
    "offline": ["unshare", "-n", "bash", "-ec", 'ip link set lo up; exec "$@"', "--"],
    "64 MiB of shared memory": mounted("mount -t tmpfs -o size=64m tmpfs /dev/shm"),
    "read-only checkout": mounted(
        f"mount --bind '{ROOT}' '{ROOT}'", f"mount -o remount,ro,bind '{ROOT}'"
    ),
    "another user": [  # may read root's files, where the interpreter may be
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    ],
    "128 open files": ["prlimit", "--nofile=128"],
    "one core": ["taskset", "-c", "0"],
    "a long temporary path": ["env", "TMPDIR=/tmp/study-environments/" + 150 * "x"],
    "no home": ["env", "HOME=/nonexistent"],
    "HOME unset": ["env", "-u", "HOME"],
    "colours asked for": ["env", "FORCE_COLOR=1", "TERM=xterm-256color"],
    "a terminal without colours": ["env", "TERM=dumb", "NO_COLOR=1"],
    "ASCII": ["env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"],
}
"""By name: the words before a command that make it run under this condition."""

FOREIGN = {
    "study.py": "raise SystemExit('not the study')",
    "torch.py": "raise SystemExit('not torch')",
    "matplotlibrc": "text.usetex: True\nfigure.dpi: 7\n",
}
"""A user's files in the folder that the study is started in."""


def run(*conditions: str) -> subprocess.CompletedProcess[str]:
    """Run a tiny study under these conditions, in a folder with foreign files."""
    folder = Path(tempfile.mkdtemp(prefix="study-environment-"))
    for name, content in FOREIGN.items():
        (folder / name).write_text(content)
    long = Path(CONDITIONS["a long temporary path"][1].partition("=")[2])
    long.mkdir(parents=True, exist_ok=True)
    for path in (folder, long):
        os.chmod(path, 0o777)
    words = [word for name in conditions for word in CONDITIONS[name]]
    # `make coverage` sets this variable to measure processes; a read-only system takes no file.
    environment = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_CONFIG"}
    try:
        return subprocess.run(
            [*words, STUDY, "run", "autoencoder", *TINY, "--out", "results"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Try every condition alone."""
    failed = 0
    for name in CONDITIONS:
        started = time.monotonic()
        done = run(name)
        failed += done.returncode != 0
        print(f"{name}: exit code {done.returncode}, {time.monotonic() - started:.1f} s")
        if done.returncode or "\x1b" in done.stdout:
            print(done.stdout)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
