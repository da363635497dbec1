"""The blocks of a queue as Ray Tune trials: one Tuner, whatever the experiments."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shlex
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

# Before ray is imported, which reads them then: the study prints its own progress, and
# `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` keeps CPU-only trials off the GPUs.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `study.signals` has its own
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # `--log` chooses
# Tune's own state is never read: the store says what is done. It is written once, at the end.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.adapter import BLOCKS, OUTCOMES, Run, run_trial, trial_config
from study.cluster.autoscaling import may_come
from study.errors import NoResources
from study.faults import HOST_LOSSES, TRIES, Fault, Hosts, TrialFailed, failure_message
from study.forecast import learn
from study.grid import Cell
from study.lightness import torch_hidden
from study.limits import cores, memory
from study.packing.measure import share_gpus
from study.progress import StudyProgress
from study.provenance import sources
from study.queue import Queue, Task, missing_tasks
from study.rates import Rates
from study.ray_internals import (
    Evicted,
    evictions_fail_their_trial,
    get_default_ray_temp_dir,
    signals_kept,
)
from study.resources import Resources
from study.store import Store
from study.words import counted, reason
from trainables.data import Dataset

SOURCES = Path(__file__).resolve().parent.parent
"""Where the packages are. Workers look for modules in the folder that Ray is started in, first."""

OBJECT_STORE = 0.3
"""Part of the memory that Ray's object store may take, as by Ray's own default."""

LONGEST_FOLDER = 40
"""Bytes of the path of Ray's temporary folder from which on its sockets' paths, 65 bytes longer,
pass the system's limit of 107."""

PATIENCE = 60.0
"""Seconds for which no other trial starts while one waits for another host than it failed on."""

MOST_LOGGED = 500
"""Trials up to which `--log auto` writes TensorBoard files."""


class Listener(Protocol):
    """Hears how the tasks of a queue fare."""

    def started(self, task: Task) -> None:
        """A worker has begun with it."""

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """Its trial has reported metrics on the way."""

    def done(self, task: Task, value: float | None) -> None:
        """Its block is in the store; `value` is the mean of the experiment's metric."""

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        """Its trial was stopped early, with these last metrics."""

    def failed(self, task: Task, error: str) -> None:
        """It has no result; `error` may be a traceback."""

    def say(self, text: str) -> None:
        """Print a line."""


def require_reachable(address: str, option: str = "--address") -> None:
    """Raise `NoResources` where nobody answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise NoResources(option, address, f"no Ray cluster answers there ({error})") from error


@contextmanager
def cluster(resources: Resources) -> Iterator[Resources]:
    """A Ray on this machine, or the running one at `resources.address`, for the block.

    Yields the resources, with no GPUs where `auto` finds none. Raises `NoResources` where the
    cluster can't be reached, or no node of it, nor any that it may start, can hold a trial.
    """
    if resources.address not in ("local", "auto"):
        require_reachable(resources.address)
    elif resources.address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")  # which Ray looks at first
        if ":" in address and "//" not in address:
            require_reachable(address, "RAY_ADDRESS")
    logs: Path | None = None
    try:
        connect(resources)
        if resources.address == "local":
            context = ray.get_runtime_context()
            logs = Path(context.get_temp_dir(), context.get_session_name())
        nodes = [node["Resources"] for node in alive_nodes()]
        yield resolved(resources, nodes if resources.address == "local" else nodes + may_come())
    except Exception:
        logs = None  # they may explain it
        raise
    finally:
        ray.shutdown()
        if logs:  # 12 MB a run, which Ray leaves
            remove_logs(logs)


def connect(resources: Resources) -> None:
    """Start a Ray on this machine, or join the one at `resources.address`. Raises `NoResources`."""
    address = resources.address
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= local_options(resources)
    # A failed trial's traceback goes to the store, and its reason to the user, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), signals_kept(), contextlib.chdir(SOURCES):
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        # No cluster, no token for it or another Ray there, an address that is none.
        raise NoResources("--address", address, " ".join(str(error).split())) from error


def local_options(resources: Resources) -> dict[str, Any]:
    """Arguments of `ray.init` for a Ray on this machine."""
    options: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": resources.cpus or cores(),
    }
    if limit := memory():  # Ray's own default is a share of what the machine has
        options["object_store_memory"] = int(OBJECT_STORE * limit)
    if not os.access(os.path.expanduser("~"), os.W_OK):  # where Ray would keep its token
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    python = shlex.quote(sys.executable)
    if python != sys.executable:  # Ray starts Tune's workers by a shell, without quotes
        options["runtime_env"] = {"py_executable": python}
    folder = get_default_ray_temp_dir()
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        options["_temp_dir"] = "/tmp/ray"
    return options


def remove_logs(folder: Path) -> None:
    """Remove a session's folder, and the link to it."""
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.parent / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's record of each node that is up."""
    return [node for node in ray.nodes() if node["Alive"]]


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


def count_workers(cpus: float, gpus: float = 0.0) -> int:
    """How many trials with these resources run at once, on nodes that may come included."""
    nodes = [node["Resources"] for node in alive_nodes()] + may_come()
    return max(1, sum(trials_on(node, cpus, gpus) for node in nodes))


def trials_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials with these resources fit on a node."""
    by_cpus = int(node.get("CPU", 0) / cpus)
    if not gpus:
        return by_cpus
    there = node.get("GPU", 0)
    return min(by_cpus, int(there // gpus if gpus >= 1 else there * (1 / gpus // 1)))


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
        gpus = sum(node["Resources"].get("GPU", 0) for node in alive_nodes())
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


def trial_name(trial: Any) -> str:
    """`autoencoder_0123456789abcdef.0-3`, of several blocks the first."""
    blocks = trial.config[BLOCKS]
    more = f"_and_{len(blocks) - 1}_more" if len(blocks) > 1 else ""
    return f"{trial.config['experiment']}_{blocks[0]['block']}{more}"


class Dispatcher(Searcher):
    """Hands Tune the tasks of a queue, and deals with what becomes of them."""

    def __init__(
        self, queue: Queue, listener: Listener, store: Store, cpus: float, workers: int
    ) -> None:
        super().__init__()
        self.queue = queue
        self.listener = listener
        self.store = store
        self.cpus = cpus
        self.workers = workers
        self.hosts = Hosts()
        self.trials: dict[str, list[Task]] = {}
        """By Tune's id: the tasks of trials that have not ended."""
        self.waiting: set[str] = set()
        """Those of them that have no worker yet."""
        self.moved: dict[str, float] = {}
        """When trials were suggested that wait for another host than the one they failed on."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its searcher; what has to last is in the store

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    # --- Tune asks ---------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial; None while there is none, or enough wait."""
        if any(time.monotonic() - since < PATIENCE for since in self.moved.values()):
            return None  # the next free cores are theirs, and not those of a reused actor
        computing = len(self.trials) - len(self.waiting)
        if len(self.waiting) >= max(1, self.workers - computing):
            return None
        tasks = self.queue.take(self.workers)
        if not tasks:
            return None if self.queue.running else Searcher.FINISHED
        self.trials[trial_id] = tasks
        self.waiting.add(trial_id)
        cpus, avoid = self._placement(tasks[0])
        if set(avoid) - self.hosts.excluded.keys():
            self.moved[trial_id] = time.monotonic()
        return trial_config(tasks, cpus, avoid)

    def _placement(self, task: Task) -> tuple[float, list[str]]:
        """CPU cores of the trial, and ids of the nodes that it may not run on.

        A task that runs alone gets all cores of a host, and computes with as many threads as ever.
        """
        unwanted = {*self.hosts.excluded, task.failed_on} - {""}
        if not (unwanted or task.alone):
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
        cpus = max(others.values(), default=self.cpus) if task.alone else self.cpus
        return cpus, sorted(unwanted)

    # --- Tune tells --------------------------------------------------------------------------

    def on_trial_start(self, trial_id: str) -> None:
        """A worker has begun with the trial."""
        self._placed(trial_id)
        for task in self.trials[trial_id]:
            self.listener.started(task)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if OUTCOMES not in result:
            for task in self.trials[trial_id]:
                self.listener.reported(task, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if error:  # `on_trial_error` knows more
            return
        tasks, result = self._ended(trial_id), result or {}
        if OUTCOMES in result:
            self.hosts.succeeded(result["node"])
            for task, (value, seconds) in zip(tasks, result[OUTCOMES], strict=True):
                self.queue.finish(task, seconds)
                self.listener.done(task, value)
        else:
            for task in tasks:
                self.queue.finish(task)
                self.listener.stopped(task, result)

    def _placed(self, trial_id: str) -> None:
        self.waiting.discard(trial_id)
        self.moved.pop(trial_id, None)

    def _ended(self, trial_id: str) -> list[Task]:
        self._placed(trial_id)
        return self.trials.pop(trial_id)

    def on_trial_error(self, trial_id: str, error: Exception | None) -> None:
        """The trial has failed: its blocks are done, tried again, or given up."""
        fault, text, node, own = diagnosis(error)
        retried, lost = 0, False
        for task in self._ended(trial_id):
            name = task.block.name
            if name in own:
                self._give_up(task, own[name])
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
            tries = f" ({again.losses + 1} of {TRIES} tries)" if lost else ""
            alone = ", alone" if again.alone else ""
            self.listener.say(
                f"{counted(retried, 'block')} of {again.cell.experiment.name} tried again{alone}"
                f"{tries}: {fault.value}: {reason(text)}"
            )
        if lost and node and self.hosts.lost(node, reason(text)):
            self._announce_exclusion(node)

    def _announce_exclusion(self, node: str) -> None:
        others = [other for other in alive_nodes() if other["NodeID"] not in self.hosts.excluded]
        if others:
            host = next(
                (n["NodeManagerHostname"] for n in ray.nodes() if n["NodeID"] == node), node
            )
            self.listener.say(
                f"host {host} has lost its last {HOST_LOSSES} blocks and gets no more: "
                f"{self.hosts.excluded[node]}"
            )

    def _give_up(self, task: Task, error: str) -> None:
        self._fail(task, error)
        for child in self.queue.drop(task):
            parent = task.cell.id
            self._fail(child, f"not tried: the cell {parent} that it builds on has failed")

    def _fail(self, task: Task, error: str) -> None:
        self.store.write_failure(task.cell.id, task.cell.config, error)
        self.listener.failed(task, error)


def diagnosis(error: Exception | None) -> tuple[Fault, str, str, Mapping[str, str]]:
    """Of what Tune says of a failed trial: the fault, the error, the node it happened on (empty
    where that isn't known), and the errors that blocks had of their own."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, TrialFailed):
        return cause.fault, cause.error, cause.node, cause.own
    if isinstance(cause, Evicted):
        return Fault.HOST_MEMORY, str(error), node_of(cause), {}
    if error is None or isinstance(error, RayActorError):
        text = str(error or "its trial ended without a result and without an error")
        return Fault.LOST, text, node_of(cause), {}
    return Fault.OWN, str(error), "", {}


def node_of(error: BaseException | None) -> str:
    """Id of the node of a worker that died, by the address in Ray's message; else empty."""
    found = re.search(r"\bip: (\S+)", str(error))
    for node in ray.nodes() if found else ():
        if found and node["NodeManagerAddress"] == found[1]:
            return str(node["NodeID"])
    return ""


class TrialEvents(tune.Callback):
    """Tells the dispatcher what Tune tells callbacks, and not searchers."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.dispatcher.on_trial_start(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Not `get_pickled_error`, which looks where Tune copies the file to later.
        path = trial.pickled_error_file
        error = ray.cloudpickle.loads(Path(path).read_bytes()) if path else None
        self.dispatcher.on_trial_error(trial.trial_id, error)
