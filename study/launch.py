"""Missing cells as Ray Tune trials: one Tuner an experiment."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

# Before ray is imported, which reads them then: the study prints its own progress, and
# `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` keeps CPU-only trials off the GPUs.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `study.faults.interrupt` has its own
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from study.lightness import torch_hidden

with torch_hidden():  # which this imports for the name of a type alone
    import tensorboardX  # noqa: F401  (Tune does, when it writes its first table)

from study.adapter import CELL, PARENT, driver_code, run_cell
from study.cluster.autoscaling import may_come
from study.errors import NoResources
from study.experiments import Experiment
from study.faults.eviction import evictions_fail_their_trial
from study.faults.retries import AtOnce, Grant, after, announcements, at_once, fault, last_words
from study.grid import Cell
from study.packing.measure import measure
from study.packing.share import describe, share_of, trials_per_gpu
from study.progress import ProgressCallback
from study.store import Store
from study.words import counted
from trainables.data import Dataset

NO_WORD = RuntimeError(
    "its trial ended without a result and without an error; the same command tries it again"
)
"""What is said of a cell of which Tune says nothing."""


@dataclass(frozen=True)
class Resources:
    """Where to run, and what a trial is given."""

    address: str = "local"
    """`local` starts a Ray on this machine; `auto` or HOST:PORT joins a running cluster."""
    cpus_per_trial: float = 1
    """CPU cores; a trial uses as many threads. One each is fastest for these small networks."""
    gpus_per_trial: float | Literal["auto"] = "auto"
    """GPUs or a fraction of one; `auto` is what an experiment's cells need of their memory where
    there are any, else none."""


def reachable(address: str, said_by: str = "--address") -> None:
    """Raise `NoResources` where nobody answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise NoResources(said_by, address, f"no Ray cluster answers there ({error})") from error


@contextmanager
def cluster(resources: Resources) -> Iterator[Resources]:
    """A Ray on this machine, or the running one at `resources.address`, for the block.

    Yields the resources, with no GPUs where `auto` finds none. Raises `NoResources` where the
    cluster can't be reached, or no node of it, nor any that it may start, can hold a trial.
    """
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if resources.address == "local":
        options |= {"include_dashboard": False}
    elif resources.address != "auto":
        reachable(resources.address)
    elif ":" in (theirs := os.environ.get("RAY_ADDRESS", "")) and "//" not in theirs:
        reachable(theirs, "RAY_ADDRESS")  # which Ray looks at first
    # A failed trial's traceback goes to the store, and its reason to the user, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            ray.init(address=resources.address, **options)
        except (OSError, ValueError) as error:
            # No cluster, an address that is none, a temporary folder too long for a socket.
            reason = " ".join(str(error).split())
            raise NoResources("--address", resources.address, reason) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield resolved(resources, nodes if resources.address == "local" else nodes + may_come())
    finally:
        ray.shutdown()


def resolved(resources: Resources, nodes: list[dict[str, float]]) -> Resources:
    """`resources` given what each node has: `auto` stays where there are GPUs, for each
    experiment to find its own number, and is 0 where there are none.

    Raises `NoResources` where no single node has enough: a trial can't span two.
    """
    asked = resources.gpus_per_trial
    least = float(any(node.get("GPU", 0) >= 1 for node in nodes)) if asked == "auto" else asked
    for option, kind, wanted in (
        ("--cpus-per-trial", "CPU", resources.cpus_per_trial),
        ("--gpus-per-trial", "GPU", least),
    ):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > most:
            allowed = f"the largest node of the cluster has {most:g} {kind}s"
            raise NoResources(option, f"{wanted:g}", allowed)
    return resources if least else replace(resources, gpus_per_trial=0.0)


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

    A cell whose worker dies, or that runs out of memory, is tried again after the others; see
    `study.faults.retries`. One that fails by an error of its own, such as `Diverged`, is not.

    `resources` are those that `cluster` gave.

    `data` is a `Dataset` in Ray's object store: one copy a node, however many trials.
    """
    started = time.strftime("%Y-%m-%d_%H-%M-%S")
    grants = given(experiment, spread(cells), data, store, resources, console)
    attempt = 1
    while grants:
        name = f"{experiment.name}_{started}" + (f"_try_{attempt}" if attempt > 1 else "")
        errors = run_trials(name, experiment, grants, data, store, resources, console)
        retries = []
        for grant in grants:
            error = errors.get(grant.cell.id)
            if error is None:
                continue
            if again := after(grant, error):
                retries.append((grant, fault(error), again))
            else:
                store.write_failure(grant.cell.id, grant.cell.config, last_words(grant, error))
        for line in announcements(retries) if retries else []:
            console.print(f"{experiment.name}: {line}")
        grants = [again for _, _, again in retries]
        attempt += 1


def spread(cells: list[Cell]) -> list[Cell]:
    """`cells` in turns of those that they build on: workers that begin together begin with
    different ones, and later find what the others have computed of them (`trainables.codes`)."""
    taken: Counter[str] = Counter()
    turns = {}
    for cell in cells:
        turns[cell.id] = taken[cell.parent] if cell.parent else 0
        taken[cell.parent or ""] += 1
    return sorted(cells, key=lambda cell: turns[cell.id])


def given(
    experiment: Experiment,
    cells: list[Cell],
    data: ray.ObjectRef,
    store: Store,
    resources: Resources,
    console: Console,
) -> list[Grant]:
    """What each cell is given at first; says how many share a GPU where that was left to us.

    Cells that gain nothing from a GPU (`Experiment.on_gpu`) get none.
    """
    gpus = resources.gpus_per_trial
    on_gpu = [cell for cell in cells if experiment.on_gpu(cell.config)] if gpus else []
    if gpus == "auto":
        gpus = 0.0
        if on_gpu:
            found = measure(experiment, on_gpu, data, store, resources.cpus_per_trial)
            trials = trials_per_gpu(
                found.need, found.hardware, len(on_gpu), resources.cpus_per_trial
            )
            gpus = share_of(trials)
            line = describe(trials, found.need, found.hardware, len(on_gpu), found.why)
            console.print(f"{experiment.name}: {line}")
    with_gpu = {cell.id for cell in on_gpu}
    if on_gpu and len(on_gpu) < len(cells):
        rest = counted(len(cells) - len(on_gpu), "cell")
        console.print(f"{experiment.name}: {rest} on CPU cores alone")
    return [Grant(cell, gpus if cell.id in with_gpu else 0.0) for cell in cells]


def run_trials(
    name: str,
    experiment: Experiment,
    grants: list[Grant],
    data: ray.ObjectRef,
    store: Store,
    resources: Resources,
    console: Console,
) -> dict[str, Exception]:
    """Try each cell of `grants` once, as the Tune experiment `name`; return the errors by id."""
    follow = ProgressCallback(console, experiment, len(grants))
    space, points = search_space([grant.cell for grant in grants])
    gpus = {grant.cell.id: grant.gpus for grant in grants}
    cpus = resources.cpus_per_trial
    trainable = tune.with_resources(
        tune.with_parameters(
            partial(
                run_cell,
                trainable=experiment.trainable,
                version=experiment.settings_module().VERSION,
                code=driver_code(),
                results=str(store.folder),
            ),
            data=data,
        ),
        lambda config: tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus[config[CELL]]}]),
    )
    # Tune writes its tables on the driver alone, so they need no shared storage while they grow.
    with store.place.folder("tune") as tables:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=BasicVariantGenerator(
                    points_to_evaluate=points, max_concurrent=most_at_once(at_once(grants), cpus)
                ),
                num_samples=len(points),
                reuse_actors=True,
                trial_name_creator=lambda trial: f"{experiment.name}_{trial.config[CELL]}",
                trial_dirname_creator=lambda trial: trial.config[CELL],
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(tables),
                callbacks=[follow],
                verbose=0,
            ),
        )
        try:
            with evictions_fail_their_trial():
                results = tuner.fit()
        finally:
            follow.close()
    # By the folder's name: of a trial whose host died before it was up, Tune has no more than that.
    each = (results[index] for index in range(len(results)))
    ended = {Path(result.path).name: result.error for result in each}
    finished = store.done()
    return {
        grant.cell.id: ended.get(grant.cell.id) or NO_WORD
        for grant in grants
        if grant.cell.id not in finished
    }


def most_at_once(how: AtOnce, cpus_per_trial: float) -> int:
    """As a number for Tune, to which 0 is no limit."""
    if how is AtOnce.HALF:
        return max(1, int(ray.cluster_resources().get("CPU", 0) / cpus_per_trial) // 2)
    return 1 if how is AtOnce.ONE else 0


def share(data: Dataset) -> ray.ObjectRef:
    """Put the dataset into Ray's object store, once for all experiments."""
    return ray.put(data)
