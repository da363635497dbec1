"""On a GPU: replicates trained as one, against plain sequential training and k processes at once.

k processes that share the GPU stand for fractional-GPU Ray Tune (1/k GPU a trial). They are started
without Ray and timed only once all of them are warm, which favours them. All ways train the same
autoencoder on data that is already on the device. Without a GPU nothing is measured, and the lines
say so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import multiprocessing

from benchmarks.machine import synchronised
from benchmarks.measure import Line, Options, Sample
from benchmarks.steps import autoencoder, graphed, one_after_another, together
from trainables.replicates import pick_device


@dataclass(frozen=True)
class Sizes:
    """Sizes of the benchmark."""

    batch_size: int = 64
    width: int = 16
    steps: int = 100
    """Timed steps; a tenth as many, and at least one, warm up."""
    replicates: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Values of R, fused."""
    processes: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    """Values of k, at once on one device."""


def seconds_of(step: Any, steps: int, device: torch.device) -> float:
    """Seconds per step after a warm-up, including the device's work."""
    run = synchronised(lambda: [step() for _ in range(steps)], device)
    synchronised(lambda: [step() for _ in range(max(1, steps // 10))], device)()
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) / steps


def fused(sizes: Sizes, replicates: int, device: torch.device) -> float:
    """Seconds per step and model of R replicates trained as one, as the study does."""
    step = together(autoencoder(sizes.batch_size, replicates, sizes.width), device)
    step = graphed(step) if device.type == "cuda" else step
    return seconds_of(step, sizes.steps, device) / replicates


def sequential(sizes: Sizes, device: torch.device) -> float:
    """Seconds per step of one ordinary model."""
    workload = autoencoder(sizes.batch_size, 1, sizes.width)
    return seconds_of(one_after_another(workload, device), sizes.steps, device)


def _one_of_several(device_name: str, sizes: Sizes, ready: Any, times: Any) -> None:
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    device = torch.device(device_name)
    step = one_after_another(autoencoder(sizes.batch_size, 1, sizes.width), device)
    synchronised(lambda: [step() for _ in range(max(1, sizes.steps // 10))], device)()
    ready.wait()
    started = time.time()
    synchronised(lambda: [step() for _ in range(sizes.steps)], device)()
    times.put((started, time.time()))


def at_once(sizes: Sizes, processes: int, device: torch.device) -> float:
    """Seconds per step and model of k processes on one device.

    Raises `RuntimeError` if one fails.
    """
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes), context.Queue()
    arguments = (str(device), sizes, ready, times)
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
    return (last - first) / (processes * sizes.steps)


def compare(options: Options, sizes: Sizes, device: torch.device) -> list[Line]:
    """Time all ways on `device` in turns, `options.repeats` times."""
    plain: list[float] = []
    together_: dict[int, list[float]] = {r: [] for r in sizes.replicates}
    packed: dict[int, list[float]] = {k: [] for k in sizes.processes}
    for turn in range(options.repeats):
        options.say(f"gpu: round {turn + 1} of {options.repeats}")
        plain.append(sequential(sizes, device))
        for replicates, values in together_.items():
            values.append(fused(sizes, replicates, device))
        for processes, values in packed.items():
            values.append(at_once(sizes, processes, device))
    one = Sample(tuple(plain))
    lines = [Line("sequential, a step and model", one.map(milliseconds), "ms")]
    for k, values in packed.items():
        each = Sample(tuple(values)).map(milliseconds)
        lines.append(Line(f"{k} processes at once, a step and model", each, "ms"))
    best = min((Sample(tuple(values)) for values in packed.values()), key=lambda s: s.median)
    for replicates, values in together_.items():
        mine = Sample(tuple(values))
        target = replicates == 32
        name = f"fused, R = {replicates}"
        lines += [
            Line(f"{name}, a step and model", mine.map(milliseconds), "ms"),
            Line(f"{name}, against sequential", one.over(mine), "×", 20 if target else None),
            Line(
                f"{name}, against the best number of processes at once",
                best.over(mine),
                "×",
                5 if target else None,
            ),
        ]
    return lines


def milliseconds(seconds: float) -> float:
    """Seconds in milliseconds."""
    return 1000 * seconds


def measure(options: Options) -> list[Line]:
    """Compare all ways on this machine's GPU; without one, return lines that say so."""
    if not torch.cuda.is_available():
        note = "not measured: no GPU here"
        return [
            Line("fused, R = 32, against sequential", None, "×", 20, note=note),
            Line("fused, R = 32, against fractional-GPU Ray Tune", None, "×", 5, note=note),
        ]
    return compare(options, Sizes(), pick_device())
