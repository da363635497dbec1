"""Time and price of the missing blocks, for `study plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import BadInput
from study.forecast import START_SECONDS, Forecast, forecast, learn
from study.grid import Cell, distinct
from study.limits import cores
from study.queue import Task, missing_tasks
from study.rates import Rates
from study.resources import Resources
from study.words import counted

if TYPE_CHECKING:
    from study.run import Study

MOST_MEASURED = 10_000
"""Largest number of cells for which a plan measures block times without being asked."""


@dataclass(frozen=True)
class Machine:
    """A machine or cluster to run on."""

    workers: int
    """Trials that run at once."""
    nodes: int
    """Machines that are paid for."""
    words: str
    """Its description: `2 cores`."""


def machine_of(resources: Resources, configuration: Path | None) -> Machine | None:
    """The machine or cluster of `resources`; None if its nodes are unknown. Raises `BadInput`."""
    each = resources.cpus_per_trial
    if configuration is None and resources.address == "local":
        there = resources.cpus or cores()
        return Machine(max(1, int(there / each)), 1, counted(there, "core"))
    import yaml  # not needed by a plan for this machine

    from study.cluster.autoscaling import CONFIGURATION, nodes_at_most

    path = configuration or Path(CONFIGURATION).expanduser()
    if configuration is None and not path.is_file():
        return None
    try:
        nodes = nodes_at_most(path)
        cpus = [node.get("CPU", 0.0) for node in nodes]
        if max(cpus, default=0.0) < each:
            raise ValueError(f"no worker node has {each:g} CPUs among its resources")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadInput("--cluster", path, str(error)) from error
    workers = sum(int(there / each) for there in cpus)  # a trial can't span two
    words = f"{counted(len(nodes), 'worker node')} of {sum(cpus):g} cores in all"
    return Machine(workers, len(nodes), words)


def print_estimate(
    study: Study,
    groups: Sequence[Sequence[Cell]],
    finished: Mapping[str, Sequence[range]],
    configuration: Path | None,
    price: float | None,
) -> None:
    """Print how long the missing blocks take, and their cost if `price` (per hour) is given."""
    tell = study.console.print
    machine = machine_of(study.resources, configuration)
    if machine is None:
        tell(f"how long: unknown without the nodes of {study.resources.address}; give --cluster")
        return
    rates = Rates(len(study.data.train))
    cells = distinct(groups)
    learn(rates, study.store, cells, finished)
    seen = any(rates.knows(group[0]) for group in groups if group)
    if not (seen or price or len(cells) <= MOST_MEASURED):
        tell("how long: unknown, as no block is finished; --price-per-hour measures some")
        return
    tasks = missing_tasks(cells, finished, study.store.begun())
    if not tasks:
        tell("nothing to compute: every replicate is there")
        return
    source = "from finished blocks"
    if unknown := [task for task in tasks if not rates.knows(task.cell)]:
        source = measured(rates, unknown, study, machine)
    found = forecast(tasks, machine.workers, rates)
    if found is None:
        tell("how long: unknown, as some blocks resemble none that is finished or measured")
        return
    found = found.plus(START_SECONDS)
    tell(f"{found} on {machine.words}, then the report; {source}, 80 % range")
    if price:
        tell(cost(found, price, machine))


def measured(rates: Rates, tasks: Sequence[Task], study: Study, machine: Machine) -> str:
    """Measure some of `tasks` for `rates`; return a phrase that names the source."""
    from study.packing.seconds import measure

    study.console.print("measuring a few steps …")
    resources = study.resources
    here = int((resources.cpus or cores()) / resources.cpus_per_trial)
    at_once = max(1, min(machine.workers, here))
    count = measure(rates, tasks, study.data, at_once, resources.threads)
    return f"from a few steps of {counted(count, 'cell')} on this machine"


def cost(found: Forecast, price: float, machine: Machine) -> str:
    """`cost: about 0.42 (0.3 to 0.63) at 1.2 an hour of this machine`."""
    middle, low, high = (
        f"{price * machine.nodes * seconds / 3600:.2g}"
        for seconds in (found.seconds, found.low, found.high)
    )
    what = "this machine" if machine.nodes == 1 else f"each of {machine.nodes} nodes"
    return f"cost: about {middle} ({low} to {high}) at {price:g} an hour of {what}"
