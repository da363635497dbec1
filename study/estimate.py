"""Time and price of the missing blocks, for `study plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import BadInput
from study.forecast import START_SECONDS, Forecast, forecast, learn
from study.grid import Cell, distinct
from study.queue import Task, missing_tasks
from study.rates import Rates
from study.resources import Resources
from study.words import counted
from trainables.limits import cores, gpus

if TYPE_CHECKING:
    from study.run import Study

MAX_MEASURED_CELLS = 10_000
"""Largest number of cells for which a plan measures block times without `--price-per-hour`."""


@dataclass(frozen=True)
class Machine:
    """A machine or cluster to run on."""

    workers: int
    """Trials that run at once."""
    nodes: int
    """Number of machines, each at the price per hour."""
    description: str
    """`2 cores`, for messages."""
    gpus: float = 0.0
    """GPUs of all nodes."""


def machine_of(resources: Resources, configuration: Path | None) -> Machine | None:
    """The machine or cluster of `resources`; None if its nodes are unknown. Raises `BadInput`."""
    cpus_per_trial = resources.cpus_per_trial
    if configuration is None and resources.address == "local":
        usable, found = resources.cpus or cores(), gpus() if resources.gpus_per_trial else 0
        description = counted(usable, "core") + _with_gpus(found)
        return Machine(max(1, int(usable / cpus_per_trial)), 1, description, found)
    import yaml  # not needed by a plan for this machine

    from study.cluster.autoscaling import CONFIGURATION, max_nodes

    path = configuration or Path(CONFIGURATION).expanduser()
    if configuration is None and not path.is_file():
        return None
    try:
        nodes = max_nodes(path)
        cpus = [node.get("CPU", 0.0) for node in nodes]
        if max(cpus, default=0.0) < cpus_per_trial:
            raise ValueError(f"no worker node has {cpus_per_trial:g} CPUs among its resources")
    except OSError as error:
        raise BadInput("--cluster", path, f"can't be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise BadInput("--cluster", path, " ".join(str(error).split())) from error
    workers = sum(int(count / cpus_per_trial) for count in cpus)  # a trial can't span two nodes
    of_all = sum(node.get("GPU", 0.0) for node in nodes) if resources.gpus_per_trial else 0.0
    description = f"{counted(len(nodes), 'worker node')} of {sum(cpus):g} cores{_with_gpus(of_all)}"
    return Machine(workers, len(nodes), f"{description} in total", of_all)


def _with_gpus(number: float) -> str:
    return f" and {counted(number, 'GPU')}" if number else ""


def print_estimate(
    study: Study,
    groups: Sequence[Sequence[Cell]],
    finished: Mapping[str, Sequence[range]],
    configuration: Path | None,
    price: float | None,
) -> None:
    """Print how long the missing blocks take, and their cost if `price` (per hour) is given."""
    console = study.console
    machine = machine_of(study.resources, configuration)
    if machine is None:
        console.print(
            f"how long: unknown, because the nodes of {study.resources.address} are unknown; "
            "give --cluster FILE.yaml"
        )
        return
    rates = Rates(len(study.data.train))
    cells = distinct(groups)
    learn(rates, study.store, cells, finished)
    known = any(rates.knows(group[0]) for group in groups if group)
    if not (known or price or len(cells) <= MAX_MEASURED_CELLS):
        console.print("how long: unknown, as no block is finished; --price-per-hour measures some")
        return
    tasks = missing_tasks(cells, finished, study.store.unfinished_blocks())
    if not tasks:
        console.print("nothing to compute: every replicate is there")
        return
    source = "from finished blocks"
    share = study.resources.gpus_per_trial
    for task in tasks if machine.gpus else ():
        if task.cell.experiment.on_gpu(task.cell.config):
            # Blocks that shared a GPU took longer each, so this may be too long for them.
            task.gpus = 1.0 if share == "auto" else float(share)
    if unknown := [task for task in tasks if not rates.knows(task.cell)]:
        source = measure_unknown(rates, unknown, study, machine)
    estimate = forecast(tasks, machine.workers, rates, gpus=machine.gpus)
    if estimate is None:
        console.print("how long: unknown, as some blocks resemble no finished or measured one")
        return
    estimate = estimate.plus(START_SECONDS)
    console.print(f"{estimate} on {machine.description}, then the report; {source}, 80 % range")
    if price:
        console.print(cost(estimate, price, machine))


def measure_unknown(rates: Rates, tasks: Sequence[Task], study: Study, machine: Machine) -> str:
    """Fit `rates` to short runs of some of `tasks`; return a phrase that names this source."""
    from study.packing.seconds import measure

    study.console.print("measuring a few steps …")
    resources = study.resources
    local_workers = int((resources.cpus or cores()) / resources.cpus_per_trial)
    workers = max(1, min(machine.workers, local_workers))
    count = measure(rates, tasks, study.data, workers, resources.threads)
    return f"from a few steps of {counted(count, 'cell')} on this machine"


def cost(estimate: Forecast, price: float, machine: Machine) -> str:
    """`cost: about 0.42 (0.3 to 0.63) at 1.2 an hour of this machine`."""
    middle, low, high = (
        f"{price * machine.nodes * seconds / 3600:.2g}"
        for seconds in (estimate.seconds, estimate.low, estimate.high)
    )
    machines = "this machine" if machine.nodes == 1 else f"each of {machine.nodes} nodes"
    return f"cost: about {middle} ({low} to {high}) at {price:g} an hour of {machines}"
