"""The command line: `study plan | run | search | report | check`, the same as `python -m study`."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from study.command_line.machine import check_out, require_machine, resolving
from study.command_line.options import as_bad_input, select
from study.command_line.parser import parser
from study.errors import BAD_INPUT, DONE, FAILED, INTERRUPTED, SIGPIPE_EXIT, BadInput, StoreError
from study.grid import Cell, check_data, identify, lay_out
from study.presets import find
from study.resources import Resources
from study.run import (
    Selection,
    Study,
    Until,
    finished_blocks,
    ids,
    run,
    show_plan,
    shown,
    write_report,
)
from study.signals import interruptible
from study.store import Store
from study.store.places import is_uri
from study.words import counted, redacted
from trainables.contract import ConfigError
from trainables.data import DataError, Dataset, load

LARGE = 10_000
"""Training images from which a dataset takes a preset's `large` settings."""


def prepare(arguments: argparse.Namespace) -> tuple[Study, list[list[Cell]]]:
    """The study that a command asks for, and its cells. Raises for whatever can't run."""
    if is_uri(arguments.out):
        Store(arguments.out).reach()
    else:
        check_out(Path(arguments.out))
    require_machine(arguments)
    # Settings that are wrong for any data are refused before the data are downloaded.
    selection = select(arguments, large=False)
    try:
        groups = lay_out(selection.experiments, selection.asked)
        data = load_data(arguments)
        fitting = select(arguments, large=len(data.train) >= LARGE)
        if fitting.experiments != selection.experiments:
            selection, groups = fitting, lay_out(fitting.experiments, fitting.asked)
        check_data(groups, data)
    except ConfigError as error:
        raise as_bad_input(error) from error
    identify(groups, data.fingerprint)
    return study_of(arguments, data, selection), groups


def load_data(arguments: argparse.Namespace) -> Dataset:
    """The dataset that a command asks for. Raises `BadInput`."""
    name = arguments.dataset or find(arguments.preset).dataset
    try:
        return load(name, arguments.data_dir)
    except DataError as error:
        option = "--data-dir" if arguments.data_dir else "--dataset"
        raise BadInput(option, arguments.data_dir or name, str(error)) from error


def study_of(arguments: argparse.Namespace, data: Dataset, selection: Selection) -> Study:
    """The study that a command computes."""
    until = None
    if getattr(arguments, "until_decided", False):
        until = Until(arguments.matters, arguments.most)
    return Study(
        selection=selection,
        data=data,
        data_dir=arguments.data_dir,
        store=Store(arguments.out),
        resources=Resources(arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial),
        console=arguments.console,
        command=redacted(shlex.join(["study", *sys.argv[1:]])),
        until=until,
        log=arguments.log,
    )


def command_plan(arguments: argparse.Namespace) -> int:
    study, groups = prepare(arguments)
    console, store, selection = study.console, study.store, study.selection
    console.print(f"{selection.name} on {study.data.name}, results in {shown(store.address)}")
    damaged = store.verify(ids(groups))
    for block, reason in damaged.items():
        console.print(f"{block.name} is {reason}; `study run` computes it again")
    finished = finished_blocks(store, damaged)
    missing = show_plan(console, store, finished, damaged, selection.experiments, groups)
    cpus, asked = counted(arguments.cpus_per_trial, "CPU"), arguments.gpus_per_trial
    gpus = "a share of a GPU where there is one" if asked == "auto" else counted(asked, "GPU")
    console.print(
        f"{counted(missing, 'replicate')} to compute, each trial on {cpus} and {gpus}; "
        f"address {arguments.address}"
    )
    return DONE


def command_run(arguments: argparse.Namespace) -> int:
    return run(*prepare(arguments))


def command_search(arguments: argparse.Namespace) -> int:
    study, _ = prepare(arguments)
    from study.command_line.searches import problems
    from study.search.command import search

    return search(study, problems(arguments, study.data, study.selection), arguments)


def command_report(arguments: argparse.Namespace) -> int:
    results = arguments.results
    if not is_uri(results):
        with resolving("RESULTS", results):
            if not results.is_dir():
                raise BadInput("RESULTS", results, "is not a folder with a study's results")
    store = Store(results)
    store.reach()
    plan = store.plan()
    cells = [cell["id"] for planned in plan["experiments"] for cell in planned["cells"]]
    try:
        return write_report(store, arguments.console, plan, store.verify(cells))
    except OSError as error:
        reason = f"the report can't be written ({error.strerror})"
        raise BadInput("RESULTS", results, reason) from error


def command_check(arguments: argparse.Namespace) -> int:
    from study.cluster.check import check

    require_machine(arguments)
    resources = Resources(arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial)
    given = arguments.console, arguments.dataset, arguments.data_dir, arguments.out
    return DONE if check(*given, resources) else FAILED


COMMANDS = {
    "plan": command_plan,
    "run": command_run,
    "search": command_search,
    "report": command_report,
    "check": command_check,
}


class PipeConsole(Console):
    """Console that raises `BrokenPipeError` when stdout is closed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows … as ?
    arguments = parser().parse_args(argv)
    arguments.console = PipeConsole(soft_wrap=True, markup=False)
    try:
        with interruptible():
            return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print(f"study {arguments.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # As of `study plan | head -1`. Python's last flush of stdout must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SIGPIPE_EXIT
    except (BadInput, StoreError) as error:
        print(f"study {arguments.command}: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
