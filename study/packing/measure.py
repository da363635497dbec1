"""What a cell needs of a GPU's memory, asked of a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.experiments import Experiment
from study.grid import Cell, has_setting
from study.packing.share import CONTEXT, Hardware, kind, largest, size
from study.store import Store, StoreError
from study.words import reason
from trainables.data import Dataset

Point = tuple[Mapping[str, Any], str | None]
"""A cell's configuration, and the id of the cell that it builds on."""

TOO_MUCH = 2**62
"""The need of a cell that a whole GPU doesn't hold: bytes beyond any GPU."""


@dataclass(frozen=True)
class Measured:
    """What the packing of an experiment is made from."""

    hardware: Hardware
    need: int | None
    """Bytes a trial, CUDA context included; None where that can't be known."""
    why: str = ""
    """In a few words: why it can't."""


def measure(
    experiment: Experiment,
    cells: list[Cell],
    data: ray.ObjectRef,
    store: Store,
    cpus: float,
) -> Measured:
    """What the largest of `cells` needs of a GPU, and what GPUs the cluster has.

    One task a node with GPUs looks at a whole one; the first of them also runs the largest cell
    of each kind, for one epoch (`Experiment.briefly`), where no finished cell at least as large
    has left a record of its peak. Waits for GPUs that others hold, as the trials would.
    """
    candidates = largest(cells, list(experiment.axes))
    peaks = [recorded(cell, experiment, store) for cell in candidates]
    unknown = [cell for cell, peak in zip(candidates, peaks, strict=True) if peak is None]
    points: list[Point] = [({**c.config, **brief(experiment)}, c.parent) for c in unknown]
    task = ray.remote(num_gpus=1, num_cpus=cpus)(weigh)
    arguments = (experiment.trainable, data, str(store.folder))
    # An autoscaled cluster without a worker starts one for a task that waits.
    places: list[Any] = [
        NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in with_gpus()
    ] or ["DEFAULT"]
    looks = [
        task.options(scheduling_strategy=place).remote(points if number == 0 else [], *arguments)
        for number, place in enumerate(places)
    ]
    try:
        found, trouble = ray.get(looks), ""
    except RayError as error:
        found, trouble = [], f"not measured, {reason(str(error))}"
    nodes = [node["Resources"] for node in with_gpus()]
    gpus = int(sum(node["GPU"] for node in nodes)) or 1
    cores = min((node.get("CPU", 0) / node["GPU"] for node in nodes), default=0)
    if trouble:
        return Measured(Hardware(gpus, cores, None), None, trouble)
    usable = [bytes_free for bytes_free, _ in found if bytes_free is not None]
    if len(usable) < len(found):
        why = "torch sees no GPU in the workers, so trials compute on CPU cores"
        return Measured(Hardware(gpus, cores, None), None, why)
    known = [peak for peak in [*peaks, *found[0][1]] if peak is not None]
    hardware = Hardware(gpus, cores, min(usable))
    if max(known) == TOO_MUCH:
        return Measured(hardware, None, "the largest cell doesn't fit a whole one")
    return Measured(hardware, max(known) + CONTEXT)


def with_gpus() -> list[dict[str, Any]]:
    """The nodes with GPUs that are there now."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]


def brief(experiment: Experiment) -> dict[str, Any]:
    """Settings with which a cell is over soon, and takes as much memory."""
    return {name: v for name, v in experiment.briefly.items() if has_setting(experiment, name)}


def weigh(
    points: list[Point], trainable: str, data: Dataset, results: str
) -> tuple[int | None, list[int]]:
    """On a worker with a whole GPU: its usable bytes (None: torch sees none), and the peak of
    each of `points`, `TOO_MUCH` for one that doesn't fit."""
    import torch  # which the driver, who only names this function, is spared

    from study.packing import gpu

    gpu.claim(1)
    usable = gpu.usable()
    peaks: list[int] = []
    if usable is None:
        return None, peaks
    module = importlib.import_module(trainable)
    store = Store(results)
    for config, parent in points:
        weights = store.weights(parent) if parent else None
        gpu.claim(1)
        try:
            module.train(module.Config(**config), data, lambda metrics: None, weights)
        except torch.OutOfMemoryError:
            peaks.append(TOO_MUCH)
        else:
            peaks.append(gpu.peak() or 0)
    return usable, peaks


def recorded(cell: Cell, experiment: Experiment, store: Store) -> int | None:
    """The peak of the smallest finished cell of the plan that is at least as large as `cell` and
    of its kind; None where there is none."""
    axes = list(experiment.axes)
    done = store.done()
    peers = [
        (size(planned["config"], axes), planned["id"])
        for group in store.plan()["experiments"]
        if group["name"] == experiment.name
        for planned in group["cells"]
        if planned["id"] in done
        and kind(planned["config"], axes) == kind(cell.config, axes)
        and size(planned["config"], axes) >= size(cell.config, axes)
    ]
    for _, identity in sorted(peers):
        try:
            peak = store.marker(identity)["provenance"].get("gpu_memory_bytes")
        except StoreError:
            continue  # damaged since the study began: the next run finds it
        if isinstance(peak, int):
            return peak
    return None
