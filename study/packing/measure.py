"""Measure the GPU memory that blocks need, and set the share that each gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from study.cluster.connect import alive_nodes
from study.packing.probe import Probe, probe_of, train
from study.packing.share import CONTEXT_BYTES, Hardware, describe, largest, share_of, trials_per_gpu
from study.queue import Task
from study.words import counted, reason
from trainables.data import Dataset

TOO_MUCH = 2**62
"""Bytes recorded for a block that doesn't fit a whole GPU: more than any GPU has."""


def share_gpus(
    tasks: Sequence[Task],
    gpus: float | str,
    cpus: float,
    data: ray.ObjectRef[Dataset],
    console: Console,
) -> None:
    """Set each task's number of GPUs, or its fraction of one.

    `gpus` is that number, or `auto` to measure the largest blocks of each experiment and print how
    many trials share a GPU, and why. Tasks that gain nothing from a GPU (`Experiment.on_gpu`) get
    none.
    """
    groups: dict[str, list[Task]] = {}
    for task in tasks if gpus else ():
        if task.cell.experiment.on_gpu(task.cell.config):
            groups.setdefault(task.cell.experiment.name, []).append(task)
    if gpus != "auto":
        for task in (task for group in groups.values() for task in group):
            task.gpus = float(gpus)
    elif groups:
        hardware, needs, problem = measure(groups, cpus, data)
        for name, group in groups.items():
            need = needs.get(name)
            trials = trials_per_gpu(need, hardware, len(group), cpus)
            for task in group:
                task.gpus = share_of(trials)
            why = "" if need else problem or "the largest block doesn't fit a whole GPU"
            console.print(f"{name}: {describe(trials, need, hardware, len(group), why)}")
    if groups and (without := sum(not task.gpus for task in tasks)):
        console.print(f"{counted(without, 'block')} on CPU cores alone")


def measure(
    groups: dict[str, list[Task]], cpus: float, data: ray.ObjectRef[Dataset]
) -> tuple[Hardware, dict[str, int], str]:
    """Measure the largest blocks of each experiment.

    Returns the cluster's GPUs; the bytes that the largest block of each experiment needs, CUDA
    context included, without experiments whose block doesn't fit a whole GPU; and the reason if
    nothing could be measured, else an empty string.

    One Ray task on each node with GPUs measures the memory of one GPU; the first also runs the
    probes. Waits for GPUs that others hold, as the trials would.
    """
    probes = [
        (name, probe_of(task.cell, task.replicates))
        for name, tasks in groups.items()
        for task in largest(tasks)
    ]
    remote = ray.remote(num_gpus=1, num_cpus=cpus)(measure_peaks)
    # An autoscaled cluster without a worker starts one for a task that waits.
    strategies: list[Any] = [
        NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in gpu_nodes()
    ] or ["DEFAULT"]
    references = [
        remote.options(scheduling_strategy=strategy).remote(
            [probe for _, probe in probes] if number == 0 else [], data
        )
        for number, strategy in enumerate(strategies)
    ]
    try:
        found, problem = ray.get(references), ""
    except RayError as error:
        found, problem = [], f"not measured, {reason(str(error))}"
    nodes = [node["Resources"] for node in gpu_nodes()]
    gpus = int(sum(node["GPU"] for node in nodes)) or 1
    cores = min((node.get("CPU", 0) / node["GPU"] for node in nodes), default=0)
    usable = [free for free, _ in found if free is not None]
    if not problem and len(usable) < len(found):
        problem = "torch sees no GPU in the workers, so trials compute on CPU cores"
    if problem:
        return Hardware(gpus, cores, None), {}, problem
    peaks = dict.fromkeys(groups, 0)
    for (name, _), peak in zip(probes, found[0][1], strict=True):
        peaks[name] = max(peaks[name], peak)
    needs = {name: peak + CONTEXT_BYTES for name, peak in peaks.items() if peak != TOO_MUCH}
    return Hardware(gpus, cores, min(usable)), needs, ""


def gpu_nodes() -> list[dict[str, Any]]:
    """Ray's record of each node with a GPU that is up."""
    return [node for node in alive_nodes() if node["Resources"].get("GPU", 0) >= 1]


def measure_peaks(probes: Sequence[Probe], data: Dataset) -> tuple[int | None, list[int]]:
    """Usable bytes of this worker's whole GPU (None if torch sees none), and each probe's peak.

    The peak is `TOO_MUCH` for a probe that doesn't fit.
    """
    import torch  # here, as the driver only names this function and needs no torch

    from study.packing import gpu

    gpu.claim(1)
    usable = gpu.usable()
    peaks: list[int] = []
    if usable is None:
        return None, peaks
    for probe in probes:
        parent = train(probe.parent, data, None) if probe.parent else None
        gpu.claim(1)
        try:
            train(probe, data, parent)
        except torch.OutOfMemoryError:
            peaks.append(TOO_MUCH)
        else:
            peaks.append(gpu.peak() or 0)
    return usable, peaks
