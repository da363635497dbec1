"""Run a study from its plan to its report: shared by `study run` and `study search`."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study import reporting
from study.console import print_error
from study.errors import DONE, FAILED, DataMissing, StoreError
from study.experiments import Experiment, Selection
from study.grid import Cell, distinct, record, with_replicates
from study.signals import as_interrupted
from study.store import Block, Store
from study.store.lock import Hold, exclusive_lock
from study.words import brief, counted, duration, without_query
from trainables.data import WHOLE, Dataset, Options
from trainables.limits import cores

if TYPE_CHECKING:  # a driver with nothing to compute imports no Ray
    from study.launch import Session
    from study.resources import Resources


@dataclass(frozen=True)
class Until:
    """When to stop adding replicates."""

    matters: float = 0.5
    """Percentage points of accuracy below which a difference is of no interest."""
    max_replicates: int = 64
    """Largest number of replicates of a cell."""


@dataclass(frozen=True)
class Study:
    """The experiments, data, store and resources of one command."""

    selection: Selection
    """Its experiments."""
    data: Dataset
    """The images."""
    data_dir: Path | None
    """Folder of the images, if the user named one."""
    store: Store
    """Where results are kept."""
    resources: Resources
    """The resources of a trial."""
    console: Console
    """Where messages are printed."""
    command: str
    """The command as it was typed."""
    until: Until | None = None
    """When to stop adding replicates; None adds none."""
    log: str = "auto"
    """When Tune writes TensorBoard files: see `study.launch.Session`."""
    data_options: Options = WHOLE
    """The part and form of the data that are used."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Classes to interpolate between, if the user named any."""
    report: bool = True
    """True if the report is written."""
    process: reporting.ReportProcess = field(default_factory=reporting.ReportProcess)
    """Writes the pages and the report."""

    @property
    def title(self) -> str:
        """A line on the study, its data and the place of its results."""
        place = without_query(self.store.address)
        return f"{self.selection.name} on {self.data.name}, results in {place}"

    def write_plan(
        self, name: str, experiments: Sequence[Experiment], groups: Sequence[Sequence[Cell]]
    ) -> dict[str, Any]:
        """Write the plan to the results folder, and return it."""
        plan = record(name, self.command, self.data, self.data_dir, experiments, groups)
        plan["data"] = self.data_options.record()
        plan["pairs"] = [list(pair) for pair in self.pairs]
        until = self.until
        plan["until_decided"] = until and {"matters": until.matters, "most": until.max_replicates}
        self.store.write_plan(plan)
        return plan

    def show_plan(
        self,
        groups: Sequence[Sequence[Cell]],
        finished: Mapping[str, Sequence[range]],
        damaged: Mapping[Block, str] = {},
    ) -> int:
        """Print each experiment's cells and replicates; return how many replicates are missing."""
        failures = self.store.failures()
        broken = {block.cell for block in damaged}
        for experiment, cells in zip(self.selection.experiments, groups, strict=True):
            if not cells:  # the experiment is only the base of a check
                continue
            missing = {cell.id: cell.missing(finished) for cell in cells}
            missing_here = sum(len(gap) for found in missing.values() for gap in found)
            open_cells = [cell for cell, found in missing.items() if found]
            wanted = sum(cell.replicates for cell in cells)
            failed = sum(cell in failures for cell in open_cells)
            damaged_here = sum(cell in broken for cell in open_cells)
            self.console.print(
                f"{experiment.name}: {counted(len(cells), 'cell')}, "
                f"{len(cells) - len(open_cells)} done, {len(open_cells)} missing; "
                f"{counted(wanted, 'replicate')}, {missing_here} missing"
                + (f"; {counted(failed, 'cell')} failed last time" if failed else "")
                + (f"; {counted(damaged_here, 'cell')} damaged" if damaged_here else "")
            )
            values = {
                name: dict.fromkeys(cell.config[name] for cell in cells) for name in experiment.axes
            }
            self.console.print(
                f"    {', '.join(f'{name} {brief(list(known))}' for name, known in values.items())}"
            )
        return replicates_missing(groups, finished)

    def set_aside_damaged(self, groups: Sequence[Sequence[Cell]]) -> None:
        """Verify these cells' blocks, and move damaged ones out of the way."""
        for block, why in self.store.verify(ids(groups)).items():
            place = self.store.set_aside(block)
            self.console.print(f"{block.name} is {why}; set aside as {place}, it is computed again")

    def write_report(self, plan: Mapping[str, Any]) -> int:
        """Write the report of what was just computed, if it is wanted; return the exit code."""
        process = self.process if self.report else None
        return write_report(self.store, self.console, plan, damaged={}, process=process)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Run Ray during the block, with the growing page; print how long it took."""
        from study.cluster.connect import cluster
        from study.cluster.nodes import require_shared
        from study.launch import Session

        started = time.monotonic()
        asked, usable = self.resources.cpus or 0, cores()
        crowded = f", {asked} CPUs on {counted(usable, 'core')}" if asked > usable else ""
        self.console.print(f"starting Ray ({self.resources.address}{crowded}) …")
        page = reporting.GrowingPage(self.store.address, self.process) if self.report else None
        tell = page.update if page else lambda state: None
        try:
            with cluster(self.resources) as resources:
                if resources.address != "local":
                    require_shared(self.store, self.console)
                yield Session(self.store, self.data, resources, self.console, self.log, tell)
        finally:
            if page and page.has_failed():
                self.console.print("the page that grows while a study runs could not be written")
        self.console.print(f"computed in {duration(time.monotonic() - started)}")


def run_exclusively(study: Study, work: Callable[[Hold], int], summary: Callable[[], str]) -> int:
    """Do the work as the only driver of a study's results; return its exit code.

    An interruption or a storage failure is printed in one line, with a `summary` of what is kept.
    Other errors are raised.
    """
    store = study.store
    store.create()
    with exclusive_lock(store.place) as hold, study.process:
        tell: Callable[[str], object] = study.console.print
        try:
            return work(hold)
        except KeyboardInterrupt as error:
            ending = as_interrupted(error)
            stopped, code = str(ending), ending.exit_code
            if ending.number == signal.SIGPIPE:
                tell = print_error
            if hold.lost:
                stopped = f"ended: while this host was cut off, {hold.lost} took over"
                code = FAILED
        except Exception as error:
            # On a full disk any write may fail first; Ray Tune's raises an error of its own.
            problem = store.place.write_problem()
            if problem is None:  # or the storage has recovered since
                problem = next((str(e) for e in causes(error) if isinstance(e, StoreError)), None)
            if problem is None:
                raise
            stopped, code = f"failed: {problem}", FAILED
        try:
            with store.place.single_attempt():
                kept = summary()
        except (OSError, StoreError):  # the storage is out of reach
            kept = "what is done is kept"
        tell("")
        tell(f"{stopped}: {kept}; the same command goes on from here")
        return code


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it: Tune raises one of its own for a callback's."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def replicates_missing(
    groups: Sequence[Sequence[Cell]], finished: Mapping[str, Sequence[range]]
) -> int:
    """Number of missing replicates, each counted once."""
    return sum(len(gap) for cell in distinct(groups) for gap in cell.missing(finished))


def ids(groups: Sequence[Sequence[Cell]]) -> list[str]:
    """Ids of all cells."""
    return [cell.id for cell in distinct(groups)]


def run(study: Study, groups: Sequence[Sequence[Cell]]) -> int:
    """Compute the missing replicates of these cells and write the report; return the exit code."""

    def work(hold: Hold) -> int:
        store, console, selection = study.store, study.console, study.selection
        store.tidy()
        plan = study.write_plan(selection.name, selection.experiments, groups)
        console.print(study.title)
        study.set_aside_damaged(groups)
        finished = store.blocks()
        missing = study.show_plan(groups, finished)
        if missing or study.until:
            with study.session() as session:
                session.compute(selection.name, distinct(groups), finished)
                if study.until:
                    plan = add_until_decided(study, study.until, session, groups)
        else:
            console.print("nothing to compute: every replicate is there")
        return study.write_report(plan)

    def summary() -> str:
        wanted = sum(cell.replicates for cell in distinct(groups))
        done = wanted - replicates_missing(groups, study.store.blocks())
        return f"{done} of {counted(wanted, 'replicate')} are done"

    return run_exclusively(study, work, summary)


def add_until_decided(
    study: Study, until: Until, session: Session, groups: Sequence[Sequence[Cell]]
) -> dict[str, Any]:
    """Add replicates to the cells of undecided comparisons; return the final plan.

    Ends when all are decided or have the most that `until` allows. Each round adds a quarter, at
    least two: the test stays valid however often it is repeated.
    """
    console, name = study.console, study.selection.name
    cells = {cell.id: cell for cell in distinct(groups)}
    while True:
        plan = study.write_plan(name, study.selection.experiments, groups)
        try:
            questions = reporting.questions(study.store.address, until.matters, study.process)
        except reporting.Killed as error:
            console.print(f"failed: {error}; the same command goes on from here", style="red")
            return plan
        undecided = [question for question in questions if not question.decided]
        growing = [q for q in undecided if q.replicates < until.max_replicates]
        if not growing:
            still = "; ".join(question.text for question in undecided)
            if not questions:
                console.print("no replicates are added: these cells belong to no comparison")
            elif undecided:
                console.print(f"undecided with {until.max_replicates} replicates: {still}")
            else:
                console.print("every comparison is decided")
            return plan
        console.print(f"undecided: {'; '.join(f'{q.text} ({q.replicates})' for q in growing)}")
        before = sum(cell.replicates for cell in cells.values())
        for question in growing:
            more = question.replicates + max(2, question.replicates // 4)
            for cell in question.cells:
                with_replicates(cells[cell], min(until.max_replicates, more))
        if sum(cell.replicates for cell in cells.values()) == before:
            console.print(
                "no more are added: replicates failed, or have no partner in the other arm"
            )
            return plan
        failed = study.store.failures()  # these aren't tried again in this run
        session.compute(
            name, [c for c in cells.values() if c.id not in failed], study.store.blocks()
        )


def write_report(
    store: Store,
    console: Console,
    plan: Mapping[str, Any],
    damaged: Mapping[Block, str],
    process: reporting.ReportProcess | None,
    data_dir: Path | None = None,
) -> int:
    """Write a plan's report, print what is missing, and return the exit code.

    `process` writes the report; None writes none.

    `damaged` is the result of `Store.verify`; blocks aren't verified again. `data_dir` is where the
    images are now, if the user says.
    """
    from analysis.stamp import NOT_COMPUTED, missing_cells

    missing = missing_cells(store, plan, damaged)
    cells = sum(len(planned["cells"]) for planned in plan["experiments"])
    code = FAILED if missing else DONE
    if process is None:
        console.print(
            f"no report is written; `study report {shlex.quote(without_query(store.address))}` does"
        )
    elif len(missing) < cells:
        code = max(code, _report(store, console, damaged, process, data_dir))
    else:
        console.print("no cell is finished, so there is no report")
    failed = [cell for cell in missing if not cell["reason"].startswith(NOT_COMPUTED)]
    if waiting := len(missing) - len(failed):
        again = f"`{plan['command']}` computes them"
        console.print(f"{counted(waiting, 'cell')} not computed yet, or in part; {again}")
    for cell in failed:
        console.print(f"failed: {cell['experiment']} {cell['cell']}: {cell['reason']}", style="red")
    # Damaged cells have no file there.
    if failed and not store.failures().keys().isdisjoint(cell["cell"] for cell in failed):
        console.print(f"the whole errors are in {store.place.where('failed')}")
    return code


def _report(
    store: Store,
    console: Console,
    damaged: Mapping[Block, str],
    process: reporting.ReportProcess,
    data_dir: Path | None,
) -> int:
    """Write the report unless it is up to date, and return the exit code."""
    from analysis.stamp import is_current

    if data_dir is None and is_current(store.address, damaged):
        console.print(f"report: {store.place.where('report/index.html')}  (up to date)")
        return DONE
    started = time.monotonic()
    console.print("writing the report …")
    try:
        page = reporting.write(store.address, damaged, process, data_dir)
    except reporting.Killed as error:
        again = f"`study report {shlex.quote(without_query(store.address))}` tries again"
        console.print(f"failed: {error}; {again}", style="red")
        return FAILED
    except DataMissing as error:
        console.print(f"report: {error}", style="red")
        return FAILED
    console.print(f"report: {page}  ({duration(time.monotonic() - started)})")
    return DONE
