"""Cores, memory and GPUs that a process may use."""

import os
import subprocess
import sys

import pytest

from trainables import limits
from trainables.limits import cores, gpus, installed_memory, memory


@pytest.fixture
def control_groups(tmp_path, monkeypatch):
    """The folder of the control groups, empty."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    return tmp_path


def write_files(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, 8),
        ({"cpu_dot_max": "max 100000"}, 8),
        ({"cpu_dot_max": "250000 100000"}, 2),
        ({"cpu_dot_max": "50000 100000"}, 1),
        ({"cpu_dot_max": "1600000 100000"}, 8),
        ({"cpu__cpu.cfs_quota_us": "-1", "cpu__cpu.cfs_period_us": "100000"}, 8),
        ({"cpu__cpu.cfs_quota_us": "300000", "cpu__cpu.cfs_period_us": "100000"}, 3),
        ({"cpu_dot_max": "nonsense"}, 8),
    ],
)
def test_control_groups_limit_cores(files, wanted, control_groups, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    write_files(control_groups, **files)
    assert cores() == wanted


def test_affinity_limits_cores():
    """As `taskset` and SLURM set it."""
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program += "from trainables.limits import cores; print(cores())"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.split() == [b"1"]


def test_control_groups_limit_memory(control_groups):
    assert memory() == installed_memory()
    write_files(control_groups, memory_dot_max="max")
    assert memory() == installed_memory()
    write_files(control_groups, memory_dot_max="1073741824")
    assert memory() == 2**30
    write_files(control_groups, memory__memory_dot_limit_in_bytes="9223372036854771712")
    assert memory() == 2**30


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [(None, 2), ("0,3", 2), ("GPU-5f2a", 1), ("", 0), ("-1", 0), ("0,1,2", 2)],
)
def test_gpus_are_listed_and_visible(visible, wanted, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == 0
    listed = "GPU 0: H200 (UUID: GPU-1)\\n  MIG 1g.18gb Device 0: (UUID: MIG-2)\\nGPU 1: H200"
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "{listed}"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpus() == wanted
