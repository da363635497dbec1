"""Run the blocks of a queue as Ray Tune trials, all experiments in one Tuner."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from rich.console import Console

from study.adapter import BLOCKS, OUTCOMES, Run, run_trial, trial_config
from study.cluster.connect import alive_nodes, count_gpus, count_workers
from study.faults import HOST_LOSSES, TRIES, Fault, TrialFailed, failure_message
from study.forecast import learn
from study.grid import Cell
from study.packing.measure import share_gpus
from study.progress import StudyProgress
from study.provenance import sources
from study.queue import Listener, Queue, Task, missing_tasks
from study.rates import Rates
from study.ray_internals import Evicted, evictions_fail_their_trial, starting_actors_are_kept
from study.resources import Resources
from study.store import Store
from study.words import counted, reason
from trainables.data import Dataset

MAX_LOGGED_BLOCKS = 500
"""Largest number of blocks for which `--log auto` writes TensorBoard files."""

COUNT_INTERVAL = 5.0
"""Seconds between two counts of a growing cluster's workers."""

OTHER_HOST_SECONDS = 60.0
"""Seconds that new trials are held back while one waits for a host other than where it failed."""


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """The resources of the trial with this configuration."""
    bundle = {"CPU": config["cpus"], "GPU": config["gpus"]}
    avoid = [{"ray.io/node-id": f"!in({config['avoid']})"}] if config["avoid"] else None
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=avoid)


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
        count = partial(count_workers, resources)
        tasks = missing_tasks(cells, finished, self.store.unfinished_blocks())
        if not tasks:
            return
        share_gpus(
            tasks, resources.gpus_per_trial, resources.cpus_per_trial, self.shared_data, console
        )
        rates = Rates(len(self.data.train))
        learn(rates, self.store, cells, finished)
        queue = Queue(tasks, rates=rates, gpus=count_gpus(resources))
        progress = StudyProgress(console, queue, count(), self.tell)
        try:
            self.run(name, queue, progress, count)
        finally:
            progress.close()

    def run(
        self,
        name: str,
        queue: Queue,
        listener: Listener,
        count: Callable[[], int],
        scheduler: TrialScheduler | None = None,
        score_after: Sequence[int] = (),
    ) -> None:
        """Compute the blocks of `queue`, as many trials at once as `count` says; report failures to
        the listener and the store.

        `scheduler` may stop trials early; it compares them after the epochs `score_after`.
        """
        cpus = self.resources.cpus_per_trial
        dispatcher = Dispatcher(queue, listener, self.store, cpus, count)
        workers = dispatcher.workers
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
        if self.log == "tensorboard" or (self.log == "auto" and queue.total <= MAX_LOGGED_BLOCKS):
            from ray.tune.logger import TBXLoggerCallback

            with torch_hidden():  # tensorboardX imports it only for the name of a type
                callbacks.append(TBXLoggerCallback())
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
        # Only the driver writes Tune's tables, so they need no shared storage during the run.
        with (
            self.store.place.working_folder("tune") as tables,
            evictions_fail_their_trial(),
            starting_actors_are_kept(),
        ):
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


def trial_name(trial: Any) -> str:
    """`autoencoder_0123456789abcdef.0-3`, or for three blocks, `…_and_2_more`."""
    blocks = trial.config[BLOCKS]
    more = f"_and_{len(blocks) - 1}_more" if len(blocks) > 1 else ""
    return f"{trial.config['experiment']}_{blocks[0]['block']}{more}"


class Dispatcher(Searcher):
    """Gives Tune the tasks of a queue, and handles how their trials end."""

    def __init__(
        self,
        queue: Queue,
        listener: Listener,
        store: Store,
        cpus: float,
        count: Callable[[], int],
    ) -> None:
        super().__init__()
        self.queue = queue
        self.listener = listener
        self.store = store
        self.cpus = cpus
        self.count = count
        """Returns the number of trials that run at once."""
        self.workers = count()
        self.counted = time.monotonic()
        self.excluded: dict[str, str] = {}
        """Why each excluded node gets no more blocks, by its id."""
        self.losses: Counter[str] = Counter()
        """Blocks in a row that each node has lost."""
        self.trials: dict[str, list[Task]] = {}
        """Tasks of the trials that have not ended, by Tune's id."""
        self.waiting: dict[str, float] = {}
        """The time, by `time.monotonic`, until which a trial without a worker holds others back."""
        self.failed_before = set(store.failures())
        """Ids of cells that failed in an earlier command, and have not been tried since."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its searcher; everything that must last is in the store

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `__getstate__`."""

    # --- the next trial ----------------------------------------------------------------------

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial, `FINISHED` after the last.

        None while no task is ready, enough trials wait, or (for `OTHER_HOST_SECONDS`) a trial
        waits for another host.
        """
        if time.monotonic() > self.counted + COUNT_INTERVAL:
            self.workers, self.counted = max(self.workers, self.count()), time.monotonic()
            self.listener.resized(self.workers)
        if any(time.monotonic() < until for until in self.waiting.values()):
            return None  # the next free cores are for those trials, not for a reused actor
        computing = len(self.trials) - len(self.waiting)
        if len(self.waiting) >= max(1, self.workers - computing):
            return None
        tasks = self.queue.take(self.workers)
        if not tasks:
            return None if self.queue.running else Searcher.FINISHED
        for cell in {task.cell.id for task in tasks} & self.failed_before:
            self.failed_before.remove(cell)
            self.store.forget_failure(cell)
        self.trials[trial_id] = tasks
        cpus, avoid = self._placement(tasks[0])
        moves = set(avoid) - self.excluded.keys()
        self.waiting[trial_id] = time.monotonic() + OTHER_HOST_SECONDS if moves else 0.0
        return trial_config(tasks, cpus, avoid)

    def _placement(self, task: Task) -> tuple[float, list[str]]:
        """CPU cores of the trial, and ids of the nodes that it must avoid.

        A task with `whole_host` gets all cores of a host, but computes with the usual threads.
        """
        unwanted = {*self.excluded, task.failed_on} - {""}
        if not (unwanted or task.whole_host):
            return self.cpus, []
        fitting = {
            node["NodeID"]: node["Resources"].get("CPU", 0)
            for node in alive_nodes()
            if node["Resources"].get("CPU", 0) >= self.cpus
            and node["Resources"].get("GPU", 0) >= task.gpus
        }
        others = {node: cores for node, cores in fitting.items() if node not in unwanted}
        if not others:
            others, unwanted = fitting, set()
        cpus = max(others.values(), default=self.cpus) if task.whole_host else self.cpus
        return cpus, sorted(unwanted)

    # --- events of trials --------------------------------------------------------------------

    def on_trial_start(self, trial_id: str) -> None:
        """Handle a trial's start."""
        self.waiting.pop(trial_id, None)
        for task in self.trials[trial_id]:
            self.listener.started(task)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if OUTCOMES not in result:
            for task in self.trials[trial_id]:
                self.listener.reported(task, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if error:  # handled by `on_trial_error`
            return
        tasks, result = self._ended(trial_id), result or {}
        if OUTCOMES in result:
            self.losses.pop(result["node"], None)
            for task, (value, seconds) in zip(tasks, result[OUTCOMES], strict=True):
                self.queue.finish(task, seconds)
                self.listener.done(task, value)
        else:
            for task in tasks:
                self.queue.finish(task)
                self.listener.stopped(task, result)

    def _ended(self, trial_id: str) -> list[Task]:
        self.waiting.pop(trial_id, None)
        return self.trials.pop(trial_id)

    def on_trial_error(self, trial_id: str, error: Exception | None) -> None:
        """Handle a failed trial: its blocks are done already, tried again or given up."""
        failure = diagnosis(error)
        fault, text, node = failure.fault, failure.error, failure.node
        retried, lost = 0, False
        for task in self._ended(trial_id):
            name = task.block.name
            if name in failure.own:
                self._give_up(task, failure.own[name])
            elif self.store.has(task.block):
                self.queue.finish(task)
                self.listener.done(task, None)
            elif self.queue.retry(task, fault, node):
                retried += 1
                lost |= fault in (Fault.LOST, Fault.HOST_MEMORY)
                again = task
            else:
                self._give_up(task, failure_message(fault, text, task.gpus))
        if retried:
            tries = f" (try {again.losses + 1} of {TRIES})" if lost else ""
            alone = ", alone on a host" if again.whole_host else ""
            self.listener.say(
                f"{counted(retried, 'block')} of {again.cell.experiment.name} tried again{alone}"
                f"{tries}: {fault.value}: {reason(text)}"
            )
        if lost and node:
            self.losses[node] += 1
            if self.losses[node] >= HOST_LOSSES and node not in self.excluded:
                self.excluded[node] = reason(text)
                self._announce_exclusion(node)

    def _announce_exclusion(self, node: str) -> None:
        others = [other for other in alive_nodes() if other["NodeID"] not in self.excluded]
        if others:
            host = next(
                (n["NodeManagerHostname"] for n in ray.nodes() if n["NodeID"] == node), node
            )
            self.listener.say(
                f"host {host} has lost its last {HOST_LOSSES} blocks and gets no more: "
                f"{self.excluded[node]}"
            )

    def _give_up(self, task: Task, error: str) -> None:
        children = self.queue.drop(task)  # first: what the listener prints counts running tasks
        self._fail(task, error)
        for child in children:
            parent = task.cell.id
            self._fail(child, f"not tried: the cell {parent} that it builds on has failed")

    def _fail(self, task: Task, error: str) -> None:
        self.store.write_failure(task.cell.id, task.cell.config, error)
        self.listener.failed(task, error)


def diagnosis(error: Exception | None) -> TrialFailed:
    """The error of a failed trial as a `TrialFailed`; its node is empty if unknown."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, TrialFailed):
        return cause
    if isinstance(cause, Evicted):
        return TrialFailed(Fault.HOST_MEMORY, str(error), node_of(cause), {})
    if error is None or isinstance(error, RayActorError):
        text = str(error or "its trial ended without a result and without an error")
        return TrialFailed(Fault.LOST, text, node_of(cause), {})
    return TrialFailed(Fault.OWN, str(error), "", {})


def node_of(error: BaseException | None) -> str:
    """Id of a dead worker's node, from the address in Ray's message; empty if unknown."""
    found = re.search(r"\bip: (\S+)", str(error))
    nodes = ray.nodes() if found else ()
    return next((n["NodeID"] for n in nodes if found and n["NodeManagerAddress"] == found[1]), "")


class TrialEvents(tune.Callback):
    """Passes the dispatcher events that Tune gives only to callbacks, not to searchers."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dispatcher.on_trial_start(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Not `get_pickled_error`: it looks in the folder to which Tune copies the file later.
        path = trial.pickled_error_file
        error = ray.cloudpickle.loads(Path(path).read_bytes()) if path else None
        self.dispatcher.on_trial_error(trial.trial_id, error)
