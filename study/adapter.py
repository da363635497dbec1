"""The Ray Tune trainable: it calls a `train` function, which knows nothing of Ray.

The driver only names `run_trial`, which imports torch in the worker. This saves the driver half a
GiB and two seconds.
"""

from __future__ import annotations

import inspect
import math
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.errors import StoreError
from study.faults import Fault, OtherCode, TrialFailed, fault_of
from study.provenance import code_version, device_name, sources
from study.queue import Task
from study.store import Block, Store
from trainables.contract import Report
from trainables.data import Dataset
from trainables.own import trainable_part

BLOCKS, OUTCOMES = "blocks", "outcomes"
"""Keys of a trial's blocks in its configuration, and of their outcomes in its last result."""


@dataclass(frozen=True)
class Run:
    """Settings that all trials of a study share."""

    results: str
    """Address of the store."""
    code: str
    """Hash of the driver's sources."""
    threads: int
    """Threads a trial computes with."""
    report_interval: float
    """Minimum seconds between two reports of a trial to Tune."""
    score_after: tuple[int, ...] = ()
    """Epochs after which a search compares a trial with others; empty without a search."""


def trial_config(tasks: Sequence[Task], cpus: float, avoid: Sequence[str]) -> dict[str, Any]:
    """Tune's configuration of a trial that computes `tasks`, on any node except `avoid`.

    Settings that all blocks share are at the top level, so that Tune's tables have columns like
    `config/latent_dim`. The other settings are listed with each block.
    """
    first = tasks[0].cell
    configs = [task.cell.config for task in tasks]
    shared = {k: v for k, v in first.config.items() if all(c[k] == v for c in configs)}
    blocks = [
        {
            "block": task.block.name,
            "parent": task.cell.parent_id,
            **{name: value for name, value in config.items() if name not in shared},
        }
        for task, config in zip(tasks, configs, strict=True)
    ]
    return {
        **shared,
        "experiment": first.experiment.name,
        "trainable": first.experiment.trainable,
        "version": first.experiment.settings_module().VERSION,
        "metric": first.experiment.metric,
        "cpus": cpus,
        "gpus": tasks[0].gpus,
        "avoid": ",".join(avoid),
        BLOCKS: blocks,
    }


def resume_key() -> str:
    """Key of the environment that determines a result's last bits.

    A checkpoint is resumed only under the same key: code, torch version, device, threads.
    """
    import torch

    threads = torch.get_num_threads()
    return f"{sources('trainables')}, torch {torch.__version__}, {device_name()}, {threads} threads"


def throttled_report(interval: float, score_after: tuple[int, ...]) -> Report:
    """Report metrics to Tune at most once per `interval` seconds.

    Each report blocks the trial until the driver has handled it.
    """
    latest = -math.inf

    def send(metrics: Mapping[str, float]) -> None:
        nonlocal latest
        if time.monotonic() - latest >= interval:
            tune.report(dict(metrics))
            latest = time.monotonic()

    return Report(send, score_after)


def configure_worker(threads: int) -> None:
    """Set this process's threads and allocator; in a trial, also its GPU share and shared codes."""
    import torch

    from study.packing import gpu
    from trainables.allocator import keep_freed_memory
    from trainables.fewshot import codes

    # In a reused actor torch is already imported, so OMP_NUM_THREADS comes too late.
    torch.set_num_threads(threads)
    keep_freed_memory()
    context = tune.get_context()
    if context:
        gpu.claim(context.get_trial_resources().required_resources.get("GPU", 0))
        runtime = ray.get_runtime_context()
        codes.share_cache(Path(runtime.get_temp_dir(), runtime.get_session_name(), "codes"))


def require_driver(config: Mapping[str, Any], run: Run, store: Store) -> None:
    """Raise `OtherCode` or `StoreError` unless this worker has the driver's code and results.

    Otherwise, the results of a node that joined later would have wrong ids, or be lost with it.
    """
    here = platform.node()
    module = trainable_part(config["trainable"], "train")
    if sources("study", "trainables") != run.code or config["version"] != module.VERSION:
        raise OtherCode(f"{here} has other sources than the driver; `ray up` copies them again")
    if not store.exists():
        raise StoreError(
            f"{store.address} is not on {here}; on a cluster results have to be on storage that "
            "all nodes share"
        )


def run_trial(config: Mapping[str, Any], *, data: Dataset, run: Run) -> None:
    """Compute the blocks of a trial, and write each when it is done.

    Raises `TrialFailed` if a block fails: after the last block for `Fault.OWN`, at once for any
    other fault.
    """
    own: dict[str, str] = {}
    outcomes: list[tuple[float | None, float]] = []
    means: dict[str, float] = {}
    try:
        store = Store(run.results)
        configure_worker(run.threads)
        require_driver(config, run, store)
    except Exception:  # before any block: the host is at fault, such as one without torch
        raise TrialFailed(Fault.LOST, traceback.format_exc(), node_id(), own) from None
    for entry in config[BLOCKS]:
        try:
            means, seconds = run_block({**config, **entry}, data, store, run)
            outcomes.append((means.get(config["metric"]), seconds))
        except Exception as error:
            fault = fault_of(error)
            if fault is not Fault.OWN:
                raise TrialFailed(fault, traceback.format_exc(), node_id(), own) from None
            own[entry["block"]] = traceback.format_exc()
    if own:
        raise TrialFailed(Fault.OWN, "", node_id(), own)
    # A tuple: TensorBoard would draw a list as a histogram.
    tune.report({**means, "node": node_id(), OUTCOMES: tuple(outcomes)})


def node_id() -> str:
    """Id of the node that this process runs on; empty outside of Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def run_block(
    entry: Mapping[str, Any], data: Dataset, store: Store, run: Run
) -> tuple[dict[str, float], float]:
    """Compute and write one block; return the means of its metrics and the seconds it took.

    These include the seconds of earlier tries that a checkpoint continues.
    """
    import torch

    from study.packing import gpu
    from study.store.checkpoint import FileCheckpoint

    module = trainable_part(entry["trainable"], "train")
    block = Block.parse(entry["block"])
    assert block is not None
    config = module.Config(**{name: entry[name] for name in module.Config.__dataclass_fields__})
    parent = None
    if entry["parent"]:
        needed = sorted({config.parent_replicate(replicate) for replicate in block.replicates})
        parent = store.weights(entry["parent"], needed)

    checkpoint = FileCheckpoint(store.place, store.progress(block), resume_key())
    resumes = "checkpoint" in inspect.signature(module.train).parameters
    options = {"checkpoint": checkpoint} if resumes else {}
    report = throttled_report(run.report_interval, run.score_after)

    started, clock = time.time(), time.monotonic()  # time.time jumps when the clock is set
    outcome = module.train(config, block.replicates, data, report, parent, **options)
    seconds = checkpoint.earlier_seconds + time.monotonic() - clock
    provenance = {
        "code": code_version(),
        "device": device_name(),
        "host": platform.node(),
        "gpu_memory_bytes": gpu.peak(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        # Unix time of this try's start; the seconds include the earlier tries that it continues.
        "started": started,
        "seconds": seconds,
        "resumed_after_epoch": checkpoint.resumed_after,
    }
    store.write_block(block, vars(config), entry["parent"], outcome, provenance)
    checkpoint.remove()
    names = [key for key, value in outcome.rows[0].items() if isinstance(value, float)]
    means = {name: sum(row[name] for row in outcome.rows) / len(outcome.rows) for name in names}
    return means, seconds
