"""A ray-free `train` function as a Ray Tune trainable.

The driver only names `run_cell`. What that needs of torch is imported when it runs, in a worker:
half a GiB and two seconds that a driver is spared.
"""

from __future__ import annotations

import importlib
import inspect
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.provenance import code_version, device_name, sources
from study.store import Store, StoreError
from trainables.contract import Report
from trainables.data import Dataset

CELL, PARENT = "cell", "encoder_cell"
"""The two keys of a Tune configuration that are not settings of the trainable."""

PACE = 1.0
"""Seconds between two reports on the way, at least: what a user can follow."""


def bits_depend_on() -> str:
    """What a result's last bits depend on besides its cell: other code, another torch, device or
    number of threads must not go on with what these have begun."""
    import torch

    threads = torch.get_num_threads()
    return f"{sources('trainables')}, torch {torch.__version__}, {device_name()}, {threads} threads"


def reporter(sparing: bool) -> Report:
    """What hands metrics to Tune; where it is `sparing`, those that come too soon after others are
    left out. A trial waits until Tune has dealt with a report, and so do the driver's cores."""
    latest = -math.inf

    def report(metrics: Mapping[str, float]) -> None:
        nonlocal latest
        if not sparing or time.monotonic() - latest >= PACE:
            tune.report(dict(metrics))
            latest = time.monotonic()

    return report


def settle() -> None:
    """Make this process a place to compute in: with the threads and the share of a GPU that the
    trial was given, and with the codes that the trials of this machine share."""
    import torch

    from study.packing import gpu
    from trainables import codes
    from trainables.allocator import keep_freed_memory

    # Ray sets OMP_NUM_THREADS too late for a torch that is imported already (in reused actors).
    context = tune.get_context()
    given = context.get_trial_resources().required_resources if context else {}
    torch.set_num_threads(max(1, int(given.get("CPU", 1))))
    keep_freed_memory()
    if context:
        gpu.claim(given.get("GPU", 0))
        ours = ray.get_runtime_context()
        codes.share(Path(ours.get_temp_dir(), ours.get_session_name(), "codes"))


class OtherCode(RuntimeError):
    """A worker has other sources than the driver."""


def driver_code() -> str:
    """Hash of the sources that results depend on; the same on the driver and on each worker."""
    return sources("study", "trainables")


def provenance(started: float, seconds: float, resumed_after: int | None) -> dict[str, Any]:
    """What made the cell that this process has computed: code, hardware, and when, from `started`
    (in seconds since 1970) on for `seconds`, after the epoch `resumed_after` of an earlier try."""
    import torch

    from study.packing import gpu

    return {
        "code": code_version(),
        "device": device_name(),
        "host": platform.node(),
        "gpu_memory_bytes": gpu.peak(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "started": started,
        "seconds": seconds,
        "resumed_after_epoch": resumed_after,
    }


def run_cell(
    config: Mapping[str, Any],
    *,
    trainable: str,
    version: int,
    code: str,
    data: Dataset,
    results: str,
    score_after: Sequence[int] | None = None,
) -> None:
    """Compute one cell, report to Tune on the way, and write the cell when it is done.

    `config` is the cell's configuration with its id and its parent's beside the settings;
    `version` and `code` are the trainable's `VERSION` and `driver_code()` on the driver;
    `score_after` are the epochs after which a search compares this trial with others, None where
    nobody does.
    """
    from study.store.checkpoint import FileCheckpoint

    settle()
    settings = {key: value for key, value in config.items() if key not in (CELL, PARENT)}
    module = importlib.import_module(trainable)
    if version != module.VERSION or driver_code() != code:
        raise OtherCode(
            f"{platform.node()} has other sources than the driver, so that its results would have "
            "wrong ids; `ray up` copies them again"
        )
    store = Store(results)
    if not store.has_plan():
        # On a node that came later: what it computes would stay there, and be lost with it.
        raise StoreError(
            f"{store.folder} is not on {platform.node()}; on a cluster results have to be on "
            "storage that all nodes share"
        )
    parent = store.weights(config[PARENT]) if config[PARENT] else None

    checkpoint = FileCheckpoint(store.place, store.progress(config[CELL]), bits_depend_on())
    offered = {"checkpoint": checkpoint, "score_after": score_after or ()}
    taken = inspect.signature(module.train).parameters
    options = {name: value for name, value in offered.items() if name in taken}

    started, clock = time.time(), time.monotonic()  # a clock that is set counts no seconds
    outcome = module.train(
        module.Config(**settings),
        data,
        reporter(sparing=score_after is None),
        parent,
        **options,
    )
    seconds = time.monotonic() - clock
    store.write(
        config[CELL],
        settings,
        config[PARENT],
        outcome,
        provenance(started, seconds, checkpoint.resumed_after),
    )
    checkpoint.remove()
    numbers = [key for key, value in outcome.rows[0].items() if isinstance(value, float)]
    means = {key: sum(row[key] for row in outcome.rows) / len(outcome.rows) for key in numbers}
    tune.report(means)
