"""The command line: `study plan | run | search | report | check`, the same as `python -m study`."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from study import reporting
from study.command_line.machine import Voice, check_out, followed, require_gpus, speak_any_language
from study.command_line.options import Selection, as_bad_input, select
from study.command_line.parser import parser
from study.errors import BAD_INPUT, DONE, FAILED, INTERRUPTED, SIGPIPE_EXIT, BadInput
from study.faults.interrupt import interruptible
from study.grid import Cell, check_data, identify, lay_out, record
from study.presets import find
from study.store import State, Store, StoreError
from study.store.lock import alone_in
from study.store.storage import is_uri
from study.words import counted, duration, few
from trainables.contract import ConfigError
from trainables.data import DataError, Dataset, load

LARGE = 10_000
"""Training images from which a dataset takes a preset's `large` settings."""


@contextmanager
def no_garbage() -> Iterator[None]:
    """Leaves the garbage collector alone: it would look through the cells of a large plan again
    and again while they are made, and there is nothing to collect among them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def shown(place: Path | str) -> str:
    """A place without the query of its URI, which a message needn't repeat."""
    return str(place).partition("?")[0] if is_uri(place) else str(place)


@no_garbage()
def prepare(arguments: argparse.Namespace) -> tuple[Dataset, Selection, list[list[Cell]]]:
    """The dataset, what was asked for, and its cells. Raises for whatever can't run."""
    if is_uri(arguments.out):
        Store(arguments.out).place.reach()
    else:
        check_out(Path(arguments.out))
    name = arguments.dataset or find(arguments.preset).dataset
    # Before the data, which may take a download: the settings that are wrong for any data.
    draft = select(arguments, large=False)
    try:
        layout = lay_out(draft.experiments, draft.asked)
        try:
            data = load(name, arguments.data_dir)
        except DataError as error:
            option = "--data-dir" if arguments.data_dir else "--dataset"
            raise BadInput(option, arguments.data_dir or name, str(error)) from error
        selection = select(arguments, large=len(data.train) >= LARGE)
        if selection.experiments != draft.experiments:
            layout = lay_out(selection.experiments, selection.asked)
        check_data(layout, data)
        groups = identify(layout, selection.experiments, data.fingerprint)
    except ConfigError as error:
        raise as_bad_input(error) from error
    return data, selection, groups


def look(store: Store, groups: list[list[Cell]]) -> State:
    """Which cells are done, and whole as far as `Store.state` can tell."""
    return store.state(cell.id for cells in groups for cell in cells)


def show_plan(
    console: Console, store: Store, state: State, selection: Selection, groups: list[list[Cell]]
) -> int:
    """Print how many cells there are, done and missing; return how many are missing."""
    failures = store.failures()
    missing_in_all = 0
    for experiment, cells in zip(selection.experiments, groups, strict=True):
        missing = [cell for cell in cells if cell.id not in state.done]
        failed = sum(cell.id in failures for cell in missing)
        damaged = sum(cell.id in state.damaged for cell in missing)
        replicates = sum(cell.config["replicates"] for cell in cells)
        values = {
            name: dict.fromkeys(cell.config[name] for cell in cells) for name in experiment.axes
        }
        axes = ", ".join(f"{name} {few(list(known))}" for name, known in values.items())
        console.print(
            f"{experiment.name}: {counted(len(cells), 'cell')} "
            f"({counted(replicates, 'replicate')}), "
            f"{len(cells) - len(missing)} done, {len(missing)} missing"
            + (f", {failed} of them failed last time" if failed else "")
            + (f", {damaged} of them damaged" if damaged else ""),
        )
        console.print(f"    {axes}")
        missing_in_all += len(missing)
    return missing_in_all


def command_plan(arguments: argparse.Namespace, console: Console) -> int:
    data, selection, groups = prepare(arguments)
    require_gpus(arguments)
    console.print(f"{selection.name} on {data.name}, results in {shown(arguments.out)}")
    store = Store(arguments.out)
    state = look(store, groups)
    for identity, reason in state.damaged.items():
        console.print(f"{identity} is {reason}; `study run` recomputes it")
    missing = show_plan(console, store, state, selection, groups)
    cpus, asked = counted(arguments.cpus_per_trial, "CPU"), arguments.gpus_per_trial
    gpus = "a share of a GPU where there is one" if asked == "auto" else counted(asked, "GPU")
    trials = counted(missing, "trial")
    console.print(f"{trials} to run, each on {cpus} and {gpus}; address {arguments.address}")
    if asked == "auto":
        console.print(
            "    the share is what an experiment's largest cell takes of a GPU's memory, measured "
            "when it runs"
        )
    without = sum(
        cell.id not in state.done and not experiment.on_gpu(cell.config)
        for experiment, cells in zip(selection.experiments, groups, strict=True)
        for cell in cells
    )
    if asked and without:
        console.print(f"    {counted(without, 'trial')} of them on CPU cores alone")
    return DONE


def command_run(arguments: argparse.Namespace, console: Console) -> int:
    data, selection, groups = prepare(arguments)
    require_gpus(arguments)
    store = Store(arguments.out)
    store.create()
    with alone_in(store.place) as hold:
        try:
            return run(arguments, console, store, data, selection, groups)
        except KeyboardInterrupt:
            stopped, code = "interrupted", INTERRUPTED
            if hold.lost:
                stopped = f"ended: while this host was cut off, {hold.lost} took over"
                code = FAILED
        except Exception:
            # On a full disk whatever writes next fails, and Ray Tune in words of its own.
            trouble = store.place.trouble()
            if trouble is None:
                raise
            stopped, code = f"failed: {trouble}", FAILED
        cells = {cell.id for group in groups for cell in group}
        try:
            with store.place.once():
                count = f"{len(store.done() & cells)} of {len(cells)} cells are done"
        except StoreError:  # that it is out of reach has been said
            count = "what is done is kept"
        console.print(f"\n{stopped}: {count}; the same command goes on from here")
        return code


def run(
    arguments: argparse.Namespace,
    console: Console,
    store: Store,
    data: Dataset,
    selection: Selection,
    groups: list[list[Cell]],
) -> int:
    """Compute what is missing and write the report; return the exit code."""
    store.tidy()
    command = shlex.join(["study", *sys.argv[1:]])
    store.write_plan(
        record(selection.name, command, data, arguments.data_dir, selection.experiments, groups)
    )
    console.print(f"{selection.name} on {data.name}, results in {shown(arguments.out)}")
    state = look(store, groups)
    for identity, reason in state.damaged.items():
        place = store.put_aside(identity)
        console.print(f"{identity} is {reason}; set aside as {place}, it is computed again")
    if show_plan(console, store, state, selection, groups):
        compute(arguments, console, data, selection, groups, store)
    else:
        console.print("nothing to compute: every cell is done")
    return write_report(store, console, groups, only_if_changed=True)


def compute(
    arguments: argparse.Namespace,
    console: Console,
    data: Dataset,
    selection: Selection,
    groups: list[list[Cell]],
    store: Store,
) -> None:
    """Run the missing cells, experiment by experiment, on Ray."""
    from study.cluster.nodes import require_shared
    from study.launch import Resources, cluster, run_experiment, share

    resources = Resources(arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial)
    started = time.monotonic()
    console.print(f"starting Ray ({resources.address}) …")
    with cluster(resources) as resources:
        if arguments.address != "local":
            require_shared(store, console)
        shared = share(data)
        for experiment, cells in zip(selection.experiments, groups, strict=True):
            done = store.done()
            ready = []
            for cell in cells:
                if cell.id in done:
                    continue
                if cell.parent is None or cell.parent in done:
                    ready.append(cell)
                else:
                    reason = f"not tried: the cell {cell.parent} that it builds on has failed"
                    store.write_failure(cell.id, cell.config, reason)
            if ready:
                run_experiment(experiment, ready, shared, store, resources, console)
    console.print(f"computed in {duration(time.monotonic() - started)}")


def write_report(
    store: Store, console: Console, groups: list[list[Cell]], only_if_changed: bool = False
) -> int:
    """Write the report, name the failures, and return the exit code."""
    state, failures = look(store, groups), store.failures()
    done, failed = state.done, False
    unfinished = [cell for cells in groups for cell in cells if cell.id not in done]
    if any(cell.id in done for cells in groups for cell in cells):
        from analysis.stamp import is_current

        if only_if_changed and is_current(store.folder):
            page = store.place.where("report/index.html")
            console.print(f"report: {page}  (up to date)")
        else:
            started = time.monotonic()
            console.print("writing the report …")
            try:
                page = reporting.write(store.folder)
                console.print(f"report: {page}  ({duration(time.monotonic() - started)})")
            except reporting.Killed as error:
                failed = True
                console.print(
                    f"failed: {error}; `study report {shown(store.folder)}` tries again",
                    style="red",
                )
    else:
        console.print("no cell is finished, so there is no report")
    for cell in unfinished:
        reason = state.damaged.get(cell.id) or failures.get(cell.id, {}).get("reason", "missing")
        console.print(
            f"failed: {cell.experiment} {cell.id}: {reason}",
            style="red",
        )
    return FAILED if unfinished or failed else DONE


def command_search(arguments: argparse.Namespace, console: Console) -> int:
    data, selection, _ = prepare(arguments)
    require_gpus(arguments)
    from study.search.command import search

    ended = search(arguments, console, data, selection)
    if isinstance(ended, int):
        return ended
    store, groups = ended
    return write_report(store, console, groups, only_if_changed=True)


def command_report(arguments: argparse.Namespace, console: Console) -> int:
    results = arguments.results
    if not is_uri(results):
        with followed("RESULTS", results):
            if not results.is_dir():
                raise BadInput("RESULTS", results, "is not a folder with a study's results")
    store = Store(results)
    store.place.reach()
    planned = store.plan()["experiments"]
    groups = [
        [Cell(e["name"], "", c["config"], c["parent"], c["id"]) for c in e["cells"]]
        for e in planned
    ]
    try:
        return write_report(store, console, groups)
    except OSError as error:
        reason = f"the report can't be written ({error.strerror})"
        raise BadInput("RESULTS", arguments.results, reason) from error


def command_check(arguments: argparse.Namespace, console: Console) -> int:
    from study.cluster.check import check
    from study.launch import Resources

    require_gpus(arguments)
    resources = Resources(arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial)
    fine = check(console, arguments.dataset, arguments.data_dir, arguments.out, resources)
    return DONE if fine else FAILED


COMMANDS = {
    "plan": command_plan,
    "run": command_run,
    "search": command_search,
    "report": command_report,
    "check": command_check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    speak_any_language()
    arguments = parser().parse_args(argv)
    console = Voice(soft_wrap=True, markup=False)
    try:
        with interruptible():
            return COMMANDS[arguments.command](arguments, console)
    except KeyboardInterrupt:
        print(f"study {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # As of `study plan | head -1`. What is still in the buffer is for nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SIGPIPE_EXIT
    except (BadInput, StoreError) as error:
        print(f"study {arguments.command}: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
