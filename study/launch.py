"""Run the blocks of a queue as Ray Tune trials, all experiments in one Tuner."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from study.adapter import Run, run_trial
from study.cluster.connect import count_gpus, count_workers
from study.dispatch import Dispatcher, TrialEvents, trial_name
from study.forecast import learn
from study.grid import Cell
from study.packing.measure import share_gpus
from study.progress import StudyProgress
from study.provenance import sources
from study.queue import Listener, Queue, missing_tasks
from study.rates import Rates
from study.ray_internals import evictions_fail_their_trial
from study.resources import Resources
from study.store import Store
from trainables.data import Dataset

MOST_LOGGED = 500
"""Largest number of blocks for which `--log auto` writes TensorBoard files."""


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """The resources of the trial with this configuration."""
    bundle = {"CPU": config["cpus"], "GPU": config["gpus"]}
    if not config["avoid"]:
        return tune.PlacementGroupFactory([bundle])
    selector = {"ray.io/node-id": f"!in({config['avoid']})"}
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=[selector])


@dataclass(frozen=True)
class Session:
    """A running Ray, with the data and the store of the blocks that it computes."""

    store: Store
    """Where blocks are written."""
    data: Dataset
    """The images."""
    resources: Resources
    """The resources of a trial, resolved by `cluster`."""
    console: Console
    """Where messages are printed."""
    log: str = "auto"
    """TensorBoard files: `tensorboard` writes them, `none` doesn't, `auto` does for few blocks."""
    tell: Callable[[str], object] = lambda state: None
    """Called with every state of the progress."""

    @cached_property
    def shared_data(self) -> ray.ObjectRef[Dataset]:
        """The images in Ray's object store: one copy per node for all trials."""
        return ray.put(self.data)

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
        queue = Queue(tasks, rates=rates, gpus=count_gpus())
        progress = StudyProgress(console, queue, workers, self.tell)
        try:
            self.run(name, queue, progress, workers)
        finally:
            progress.close()

    def run(
        self,
        name: str,
        queue: Queue,
        listener: Listener,
        workers: int,
        scheduler: TrialScheduler | None = None,
        score_after: Sequence[int] = (),
    ) -> None:
        """Compute the blocks of `queue`, `workers` trials at once; report failures to the listener
        and the store.

        `scheduler` may stop trials early; it compares them after the epochs `score_after`.
        """
        cpus = self.resources.cpus_per_trial
        dispatcher = Dispatcher(queue, listener, self.store, cpus, workers)
        run = Run(
            results=self.store.address,
            code=sources("study", "trainables"),
            threads=self.resources.threads,
            # A report takes the driver 2 ms. However many workers there are, at most 20 come in a
            # second: 4 % of a core.
            report_interval=0.0 if score_after else max(1.0, workers / 20),
            score_after=tuple(score_after),
        )
        trainable = tune.with_resources(
            tune.with_parameters(partial(run_trial, run=run), data=self.shared_data), resources_of
        )
        callbacks: list[tune.Callback] = [TrialEvents(dispatcher)]
        if self.log == "tensorboard" or (self.log == "auto" and queue.total <= MOST_LOGGED):
            from ray.tune.logger import TBXLoggerCallback

            with torch_hidden():  # tensorboardX imports it only for the name of a type
                callbacks.append(TBXLoggerCallback())
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
        # Only the driver writes Tune's tables, so they need no shared storage during the run.
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
def torch_hidden() -> Iterator[None]:
    """Make imports of torch fail inside the block, unless it has been imported already.

    Torch takes half a GiB and two seconds. The driver computes nothing, and so imports it only for
    questions about this machine's GPUs, and after a failed trial.
    """
    if "torch" in sys.modules:
        yield
        return
    missing: dict[str, None] = {"torch": None}
    sys.modules.update(missing)  # type: ignore[arg-type]  # what makes an import fail
    try:
        yield
    finally:
        del sys.modules["torch"]
