"""Several processes that train on one device at once: they stand for fractional-GPU Ray Tune.

With 1/k GPU a trial, k trials share the GPU. The processes are started without Ray and timed only
once all of them are warm, which favours them. Their data is already on the device.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import multiprocessing

from benchmarks.machine import synchronised
from benchmarks.steps import autoencoder, one_after_another
from trainables.replicates import pick_device


def _one_of_several(name: str, batch_size: int, steps: int, ready: Any, times: Any) -> None:
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    device = torch.device(name)
    step = one_after_another(autoencoder(batch_size, 1), device)
    synchronised(lambda: [step() for _ in range(max(1, steps // 10))], device)()
    ready.wait()
    started = time.time()
    synchronised(lambda: [step() for _ in range(steps)], device)()
    times.put((started, time.time()))


def at_once(processes: int, device: torch.device, steps: int, batch_size: int = 64) -> float:
    """Seconds per step and model of k `processes` on one device.

    Raises `RuntimeError` if one fails.
    """
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes), context.Queue()
    arguments = (str(device), batch_size, steps, ready, times)
    running = [context.Process(target=_one_of_several, args=arguments) for _ in range(processes)]
    for process in running:
        process.start()
    spans: list[tuple[float, float]] = []
    while len(spans) < processes:
        if any(process.exitcode not in (None, 0) for process in running):
            for process in running:
                process.kill()
            raise RuntimeError(f"one of {processes} processes on {device} has failed")
        if not times.empty():
            spans.append(times.get())
        time.sleep(0.01)
    for process in running:
        process.join()
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return (last - first) / (processes * steps)
