"""The blocks of a queue as Ray Tune trials: one Tuner, whatever the experiments."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from study.adapter import Run, run_trial
from study.cluster.connect import cluster, count_gpus, count_workers
from study.dispatch import Dispatcher, Listener, TrialEvents, trial_name
from study.forecast import learn
from study.grid import Cell
from study.lightness import torch_hidden
from study.packing.measure import share_gpus
from study.progress import StudyProgress
from study.provenance import sources
from study.queue import Queue, missing_tasks
from study.rates import Rates
from study.ray_internals import evictions_fail_their_trial
from study.resources import Resources
from study.store import Store
from trainables.data import Dataset

MOST_LOGGED = 500
"""Trials up to which `--log auto` writes TensorBoard files."""


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """The resources of the trial with this configuration."""
    bundle = {"CPU": config["cpus"], "GPU": config["gpus"]}
    if not config["avoid"]:
        return tune.PlacementGroupFactory([bundle])
    selector = {"ray.io/node-id": f"!in({config['avoid']})"}
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=[selector])


@dataclass(frozen=True)
class Session:
    """A Ray that computes blocks, and what they are computed from and for."""

    store: Store
    """Where blocks go."""
    data: Dataset
    """The images."""
    shared_data: ray.ObjectRef[Dataset]
    """The same in Ray's object store: one copy a node, however many trials."""
    resources: Resources
    """The resources of a trial, resolved by `cluster`."""
    console: Console
    """Where to tell the user."""
    log: str = "auto"
    """Whether Tune writes TensorBoard files: `tensorboard`, `none`, or `auto` for a few trials."""
    tell: Callable[[str], object] = lambda state: None
    """Is given every state of the progress."""

    def compute(
        self, name: str, cells: Sequence[Cell], finished: Mapping[str, Sequence[range]]
    ) -> None:
        """Compute the replicates of `cells` that are not in `finished`."""
        resources, console = self.resources, self.console
        workers = count_workers(resources.cpus_per_trial)
        tasks = missing_tasks(cells, finished, self.store.begun())
        if not tasks:
            return
        share_gpus(
            tasks, resources.gpus_per_trial, resources.cpus_per_trial, self.shared_data, console
        )
        rates = Rates(len(self.data.train))
        learn(rates, self.store, cells, finished)
        gpus = count_gpus()
        queue = Queue(tasks, rates=rates, gpus=gpus)
        progress = StudyProgress(console, queue, workers, gpus, tell=self.tell)
        try:
            self.run(name, queue, progress)
        finally:
            progress.close()

    def run(
        self,
        name: str,
        queue: Queue,
        listener: Listener,
        scheduler: TrialScheduler | None = None,
        score_after: Sequence[int] = (),
        workers: int = 0,
    ) -> None:
        """Compute the blocks of `queue`. Failures go to the listener, and to the store.

        `scheduler` may stop trials early, comparing them `score_after` these epochs; `workers`
        (default: as many as fit) trials run at once.
        """
        cpus = self.resources.cpus_per_trial
        at_once = workers or count_workers(cpus)
        dispatcher = Dispatcher(queue, listener, self.store, cpus, at_once)
        run = Run(
            results=self.store.address,
            code=sources("study", "trainables"),
            threads=self.resources.threads,
            # A report takes 2 ms of the driver: half of a core at most, however many workers.
            report_interval=0.0 if score_after else max(1.0, at_once / 20),
            score_after=tuple(score_after),
        )
        trainable = tune.with_resources(
            tune.with_parameters(partial(run_trial, run=run), data=self.shared_data), resources_of
        )
        callbacks: list[tune.Callback] = [TrialEvents(dispatcher)]
        if self.log == "tensorboard" or (self.log == "auto" and queue.total <= MOST_LOGGED):
            from ray.tune.logger import TBXLoggerCallback

            with torch_hidden():  # tensorboardX imports it for the name of a type alone
                callbacks.append(TBXLoggerCallback())
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
        # Tune writes its tables on the driver alone, so they need no shared storage meanwhile.
        with self.store.place.working_folder("tune") as tables, evictions_fail_their_trial():
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=dispatcher,
                    scheduler=scheduler or FIFOScheduler(),
                    num_samples=-1,  # the queue ends it
                    reuse_actors=True,
                    trial_name_creator=trial_name,
                    trial_dirname_creator=trial_name,
                ),
                run_config=tune.RunConfig(
                    name=f"{name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}",
                    storage_path=str(tables),
                    callbacks=callbacks,
                    verbose=0,
                ),
            ).fit()


@contextmanager
def open_session(
    store: Store,
    data: Dataset,
    resources: Resources,
    console: Console,
    log: str = "auto",
    tell: Callable[[str], object] = lambda state: None,
) -> Iterator[Session]:
    """A `cluster` with the data on it, for the block."""
    with cluster(resources) as given:
        yield Session(store, data, ray.put(data), given, console, log, tell)
