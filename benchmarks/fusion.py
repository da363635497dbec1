"""Replicates trained as one against the same models one after another, at every size in use.

Steps run on one thread, as in a trial, and are timed in processor time, which other processes
disturb less. `fastest_strategy` chooses the study's strategy. A second strategy is timed beside it
(`vectorised` unless that is the study's) to show whether the choice is right.
"""

from __future__ import annotations

import time

import torch

from benchmarks.measure import Line, Options, time_in_turns
from benchmarks.steps import Workload, autoencoder, classifier, head, ordinary_step, study_step
from trainables.allocator import keep_freed_memory
from trainables.replicates import Strategy, fastest_strategy

CPU = torch.device("cpu")


def workloads(tiny: bool) -> list[Workload]:
    """The sizes of the quick preset."""
    if tiny:
        return [autoencoder(4, 2, width=2), classifier(10, 2, width=2), head(10, 2)]
    return [
        *(autoencoder(size, 4) for size in (32, 64)),
        *(classifier(labels, 8) for labels in (20, 40, 80, 160)),
        *(head(labels, 8) for labels in (20, 40, 80, 160)),
    ]


def measure(options: Options) -> list[Line]:
    """One line per workload: time of ordinary models over time by the study's strategy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = []
    try:
        for workload in workloads(options.tiny):
            options.say(f"fusion: {workload.name}")
            chosen = fastest_strategy(workload.build(), CPU)
            other: Strategy = "loop" if chosen == "vectorised" else "vectorised"
            seconds = time_in_turns(
                {
                    "study": study_step(workload, CPU),
                    "other": study_step(workload, CPU, other),
                    "alone": ordinary_step(workload, CPU),
                },
                repeats=3 if options.tiny else 40,
                warm_up=1 if options.tiny else 5,
                clock=time.process_time,
            )
            milliseconds = {name: 1000 * sample.median for name, sample in seconds.items()}
            lines.append(
                Line(
                    f"{workload.name}, R = {workload.replicates}: together against one by one",
                    seconds["alone"].ratios_to(seconds["study"]),
                    "×",
                    at_least=1,
                    note=f"a step by `{chosen}` {milliseconds['study']:.2f} ms, "
                    f"by `{other}` {milliseconds['other']:.2f}, "
                    f"one by one {milliseconds['alone']:.2f}",
                    details={"strategy": chosen, **milliseconds},
                )
            )
    finally:
        torch.set_num_threads(threads)
    return lines
