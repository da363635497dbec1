"""Estimate the seconds of blocks when none is finished, by timing a few steps of some of them.

The steps are trained in separate processes, as many as trials would run at once. They leave nothing
behind: no results, no torch in this process.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import chain, zip_longest

from study.grid import has_setting
from study.packing.probe import Probe, probe_of, train
from study.packing.share import group_by_kind
from study.queue import Task
from study.rates import Rates
from study.reporting import blocking_interrupts, end_with_parent
from trainables.data import Dataset
from trainables.data.dataset import Split
from trainables.limits import gpus

STEPS, STEPS_ON_GPU = (4, 12), (20, 220)
"""Steps of the two runs of a block; their difference excludes the cost of a start. On a GPU, the
first steps are slow: they choose algorithms, and the fourth records a CUDA graph."""

MEASURING_SECONDS = 20.0
"""Seconds after which measuring stops, imports of torch included; the rest stays unknown."""

MAX_PROBES = 16
PROBES_PER_KIND = 2
"""Maximum number of blocks measured: in total, and of one kind."""

LABELLED_PROBE_IMAGES = 5000
"""Training images of a probe with labels; it uses all if these have too few labels."""

Run = tuple[Probe, Dataset, float]
"""A short run of a block: what to train, on which images, and its work (`Settings.work`)."""


def measure(rates: Rates, tasks: Sequence[Task], data: Dataset, workers: int, threads: int) -> int:
    """Measure some of `tasks` for `rates` within `MEASURING_SECONDS`; return how many.

    On this machine's GPU, in one process, because several would slow each other.
    """
    chosen = representatives(tasks)
    # A plan for a cluster with GPUs may be made on a machine without one.
    on_gpu = any(task.gpus for task in tasks) and gpus() > 0
    lengths, workers = (STEPS_ON_GPU, 1) if on_gpu else (STEPS, workers)
    context = multiprocessing.get_context("spawn")
    end, count = time.monotonic() + MEASURING_SECONDS, 0
    number = min(workers, len(chosen))
    with ProcessPoolExecutor(number, context, initializer=end_with_parent) as processes:
        try:
            with blocking_interrupts():  # Ctrl-C is for this process
                task_of = {
                    processes.submit(seconds_of, *sample(task, data, lengths), threads): task
                    for task in chosen
                }
            pending = set(task_of)
            while pending and (left := end - time.monotonic()) > 0:
                done, pending = wait(pending, left, return_when="FIRST_COMPLETED")
                for future in done:
                    # A block that can't be trained fails when it is run, with its own reason.
                    if future.exception() is None:
                        task = task_of[future]
                        rates.observe(task.cell, len(task.replicates), future.result())
                        count += 1
        except BrokenProcessPool:
            pass  # what was measured before is kept
        finally:
            processes.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()
    return count


def representatives(tasks: Sequence[Task]) -> list[Task]:
    """Up to `PROBES_PER_KIND` random tasks of each kind, in turns, `MAX_PROBES` in total."""
    samples = [
        random.Random(0).sample(group, min(PROBES_PER_KIND, len(group)))
        for group in group_by_kind(tasks)
    ]
    turns = chain.from_iterable(zip_longest(*samples))
    return [task for task in turns if task is not None][:MAX_PROBES]


def sample(task: Task, data: Dataset, lengths: Sequence[int]) -> tuple[tuple[Run, ...], float]:
    """Runs of these `lengths` in steps, which time a block, and the work of the whole block."""
    replicates, runs = task.replicates, []
    labelled = has_setting(task.cell.experiment, "labels")
    for steps in lengths:
        probe = probe_of(task.cell, replicates)
        images = LABELLED_PROBE_IMAGES if labelled else steps * probe.config.get("batch_size", 1)
        short = {"epochs": min(steps, task.cell.config.get("epochs", 1)) if labelled else 1}
        short |= {"contrastive_updates": steps, "pseudo_epochs": 1}
        config = probe.config | {k: v for k, v in short.items() if k in probe.config}
        settings = type(task.cell.settings)(**config)
        sampled = subsample(data, images)
        if labelled and sampled.most_labels < config["labels"]:
            sampled = data
        work = len(replicates) * settings.work(len(sampled.train))
        runs.append((replace(probe, config=config), sampled, work))
    return tuple(runs), len(replicates) * task.cell.settings.work(len(data.train))


def subsample(data: Dataset, images: int) -> Dataset:
    """`data` with about `images` training images, evenly spaced; the other splits in proportion."""
    stride = max(1.0, len(data.train) / max(1, images))
    parts = []
    for split in data.splits:
        rows = [int(stride * row) for row in range(max(1, int(len(split) / stride)))]
        parts.append(Split(split.images[rows], split.labels[rows]))
    return replace(data, train=parts[0], validation=parts[1], test=parts[2])


def seconds_of(runs: tuple[Run, ...], work: float, threads: int) -> float:
    """Expected seconds of a block of this `work`, by a line through two runs. Imports torch."""
    import torch

    torch.set_num_threads(threads)
    start, per_work = line_through(*runs)
    return start + per_work * work


def line_through(short: Run, long: Run) -> tuple[float, float]:
    """Seconds of a start, and seconds per unit of work. Imports torch."""
    import torch

    parent = train(short[0].parent, short[1], None) if short[0].parent else None
    times = []
    # The first run warms up.
    for probe, data, _ in (short, short, long):
        began = time.perf_counter()
        train(probe, data, parent)
        times.append(time.perf_counter() - began)
    _, short_seconds, long_seconds = times
    short_work, long_work = short[2], long[2]
    if long_work <= short_work:
        return 0.0, long_seconds / max(long_work, 1.0)
    slope = (long_seconds - short_seconds) / (long_work - short_work)
    # Against noise. On a GPU, the start takes most of the time, and the long run has enough steps.
    least = 0.0 if torch.cuda.is_available() else 0.3 * long_seconds / long_work
    slope = max(slope, least)
    return max(0.0, short_seconds - slope * short_work), slope
