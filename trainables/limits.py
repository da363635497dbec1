"""CPU cores, memory and GPUs that this process may use."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux mounts control groups."""


def cores() -> int:
    """CPU cores that this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = float(allowed or 1)
    for folder in _folders("cpu"):
        quota = _numbers(folder / "cpu.max") or [
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and quota[0] > 0:  # microseconds of each period; -1 is no limit
            limit = min(limit, quota[0] / quota[1])
    return max(1, int(limit))


def installed_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory() -> int:
    """Bytes of memory that this process and the others of its control group may use."""
    allowed = installed_memory()
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            for limit in _numbers(folder / name):
                allowed = min(allowed, int(limit))
    return allowed


def gpus() -> int:
    """GPUs that `nvidia-smi` lists, at most those that `CUDA_VISIBLE_DEVICES` names."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    return min(found, sum(name.strip() not in ("", "-1") for name in visible.split(",")))


def _folders(controller: str) -> Iterator[Path]:
    """Folders that may limit this process: its control group's and all above it, v1 and v2.

    In a container, the group that /proc names may be mounted as the topmost folder.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = GROUPS / controller if controllers else GROUPS
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _numbers(path: Path) -> list[float]:
    """The numbers in a file, up to a word such as `max`; empty if it can't be read."""
    numbers: list[float] = []
    try:
        for word in path.read_text(encoding="ascii").split():
            numbers.append(float(word))
    except (OSError, ValueError):
        pass
    return numbers
