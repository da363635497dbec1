"""Missing cells as Ray Tune trials: one Tuner an experiment."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from rich.console import Console

# Before ray is imported, which reads them then: the study prints its own progress, and
# `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` keeps CPU-only trials off the GPUs.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `study.interrupt` has its own
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune.search.basic_variant import BasicVariantGenerator

from study.adapter import CELL, PARENT, run_cell
from study.experiments import Experiment
from study.grid import Cell
from study.options import NoResources
from study.progress import ProgressCallback
from study.store import Store
from trainables.data import Dataset

TRIES = 4
"""How often a cell is tried whose worker dies each time; it may be the cell that kills it."""


@dataclass(frozen=True)
class Resources:
    """Where to run, and what a trial is given."""

    address: str = "local"
    """`local` starts a Ray on this machine; `auto` or HOST:PORT joins a running cluster."""
    cpus_per_trial: float = 1
    """CPU cores; a trial uses as many threads. One each is fastest for these small networks."""
    gpus_per_trial: float | Literal["auto"] = "auto"
    """GPUs or a fraction of one; `auto` is one where there are any, else none."""


def reachable(address: str) -> None:
    """Raise `NoResources` where nobody answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise NoResources(
            "--address", address, f"no Ray cluster answers there ({error})"
        ) from error


@contextmanager
def cluster(resources: Resources) -> Iterator[Resources]:
    """A Ray on this machine, or the running one at `resources.address`, for the block.

    Yields the resources with `auto` resolved. Raises `NoResources` where the cluster can't be
    reached, or no node of it can hold a trial.
    """
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if resources.address == "local":
        options |= {"include_dashboard": False}
    elif resources.address != "auto":
        reachable(resources.address)
    # A failed trial's traceback goes to the store, and its reason to the user, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            ray.init(address=resources.address, **options)
        except ConnectionError as error:
            reason = " ".join(str(error).split())
            raise NoResources("--address", resources.address, reason) from error
    try:
        yield resolved(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    finally:
        ray.shutdown()


def resolved(resources: Resources, nodes: list[dict[str, float]]) -> Resources:
    """`resources` with numbers for `auto`, given what each node has.

    Raises `NoResources` where no single node has enough: a trial can't span two.
    """
    asked = resources.gpus_per_trial
    gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes)) if asked == "auto" else asked
    for option, kind, wanted in (
        ("--cpus-per-trial", "CPU", resources.cpus_per_trial),
        ("--gpus-per-trial", "GPU", gpus),
    ):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > most:
            allowed = f"the largest node of the cluster has {most:g} {kind}s"
            raise NoResources(option, f"{wanted:g}", allowed)
    return replace(resources, gpus_per_trial=gpus)


def search_space(cells: list[Cell]) -> tuple[dict, list[dict]]:
    """Tune's parameter space and the points of it that are the cells.

    Keys are the settings themselves, at top level, so that Tune's tables and TensorBoard have
    `config/latent_dim` columns. The points are the missing cells rather than a grid, since what
    is missing from a grid is seldom a grid.
    """
    points = [{**cell.config, CELL: cell.id, PARENT: cell.parent} for cell in cells]
    space = {key: tune.choice(list(dict.fromkeys(p[key] for p in points))) for key in points[0]}
    return space, points


def run_experiment(
    experiment: Experiment,
    cells: list[Cell],
    data: ray.ObjectRef,
    store: Store,
    resources: Resources,
    console: Console,
) -> None:
    """Compute `cells`, none of which may depend on another. Failures go to the store.

    A cell whose worker dies is tried again, `TRIES` times in all, after the others. One that
    fails by an error of its own, such as `Diverged`, is not: it would only fail again.

    `resources` are those that `cluster` gave, with numbers.

    `data` is a `Dataset` in Ray's object store: one copy a node, however many trials.
    """
    started = time.strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1, TRIES + 1):
        name = f"{experiment.name}_{started}" + (f"_try_{attempt}" if attempt > 1 else "")
        errors = run_trials(name, experiment, cells, data, store, resources, console)
        lost = [cell for cell in cells if worker_died(errors.get(cell.id))]
        again = lost if attempt < TRIES else []
        for cell in cells:
            if cell.id in errors and cell not in again:
                store.write_failure(cell.id, cell.config, str(errors[cell.id]))
        if not again:
            return
        count = "1 cell has" if len(again) == 1 else f"{len(again)} cells have"
        console.print(f"{experiment.name}: {count} lost the worker; trying again")
        cells = again


def worker_died(error: Exception | None) -> bool:
    """Whether a trial ended because its process or host did, not by an error of its own."""
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def run_trials(
    name: str,
    experiment: Experiment,
    cells: list[Cell],
    data: ray.ObjectRef,
    store: Store,
    resources: Resources,
    console: Console,
) -> dict[str, Exception]:
    """Try each of `cells` once, as the Tune experiment `name`; return the errors by cell id."""
    follow = ProgressCallback(console, experiment, len(cells))
    space, points = search_space(cells)
    trainable = tune.with_resources(
        tune.with_parameters(
            partial(run_cell, trainable=experiment.trainable, results=str(store.folder)),
            data=data,
        ),
        {"cpu": resources.cpus_per_trial, "gpu": float(resources.gpus_per_trial)},
    )
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=BasicVariantGenerator(points_to_evaluate=points),
            num_samples=len(points),
            reuse_actors=True,
            trial_name_creator=lambda trial: f"{experiment.name}_{trial.config[CELL]}",
            trial_dirname_creator=lambda trial: trial.config[CELL],
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(store.folder / "tune"),
            callbacks=[follow],
            verbose=0,
        ),
    )
    try:
        results = tuner.fit()
    finally:
        follow.close()
    finished = store.done()
    return {
        result.config[CELL]: result.error
        for result in (results[index] for index in range(len(results)))
        if result.error is not None and result.config and result.config[CELL] not in finished
    }


def share(data: Dataset) -> ray.ObjectRef:
    """Put the dataset into Ray's object store, once for all experiments."""
    return ray.put(data)
