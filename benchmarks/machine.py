"""The machine: hardware, versions, and its fastest matrix products and copies."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import time_in_turns
from study.provenance import code_version, packages, processor


def describe() -> dict[str, Any]:
    """Hardware and versions."""
    import psutil  # imported here: `gpu_check` runs without it

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "system": platform.platform(),
        "code": code_version(),
        "packages": packages(),
    }


def best_seconds(function: Callable[[], Any], device: torch.device, repeats: int = 20) -> float:
    """Shortest time of `function` in seconds, of `repeats` runs after a warm-up.

    On a CPU this is processor time, like all times that are compared with it.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = time_in_turns({"run": synchronised(function, device)}, repeats, clock=clock)
    return min(seconds["run"].values)


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int = 1024) -> float:
    """Floating-point operations per second of a square matrix product on the current threads."""
    left, right = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / best_seconds(lambda: left @ right, device)


def copy_rate(device: torch.device, size: int = 2**28) -> float:
    """Bytes read and written per second while copying `size` bytes, which fit no cache."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / best_seconds(lambda: target.copy_(source), device, repeats=5)


def synchronised(function: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return `function` such that it waits until the device has finished its work."""
    if device.type != "cuda":
        return function

    def run() -> Any:
        result = function()
        torch.cuda.synchronize(device)
        return result

    return run


def seconds_of(step: Callable[[], Any], steps: int, device: torch.device) -> float:
    """Seconds per step after a warm-up of a tenth as many, including the device's work."""
    run = synchronised(lambda: [step() for _ in range(steps)], device)
    synchronised(lambda: [step() for _ in range(max(1, steps // 10))], device)()
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) / steps
