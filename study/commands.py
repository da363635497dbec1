"""The commands `study plan | run | search | report | compare | export | check`."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from study import reporting
from study.command_line.options import as_bad_input, select
from study.command_line.parser import parser
from study.console import console, print_error
from study.errors import (
    BAD_INPUT,
    DONE,
    FAILED,
    BadInput,
    DataMissing,
    StoreError,
    nearest_existing,
    resolving,
)
from study.estimate import print_estimate
from study.experiments import Selection
from study.grid import Cell, check_data, identify, lay_out
from study.own import register_installed
from study.presets import find
from study.resources import Resources
from study.run import Study, Until, ids, run, write_report
from study.store import Store
from study.store.places import is_uri
from study.words import counted, duration, redacted, without_query
from trainables.contract import ConfigError
from trainables.data import NAMES, DataError, Dataset, Options, load
from trainables.limits import cores
from trainables.own import OwnCodeError


def prepare(arguments: argparse.Namespace) -> tuple[Study, list[list[Cell]]]:
    """The study that a command asks for, and its cells.

    Raises `BadInput` or `StoreError` if it can't run.
    """
    if is_uri(arguments.out):
        Store(arguments.out).place.reach()
    else:
        check_out(Path(arguments.out))
    require_machine(arguments)
    # Settings that are wrong for any data are refused before the data are downloaded.
    selection, data = select(arguments), None
    try:
        groups = lay_out(selection.experiments, selection.asked)
        data = load_data(arguments)
        fitted = select(arguments, data)
        if fitted.experiments != selection.experiments:
            selection, groups = fitted, lay_out(fitted.experiments, fitted.asked)
        check_data(groups, data)
    except ConfigError as error:
        raise as_bad_input(error, arguments, data) from error
    identify(groups, data.fingerprint)
    if selection.left_out:
        names = ", ".join(selection.left_out)
        arguments.console.print(f"left out, as the images have no labels: {names}")
    return study_of(arguments, data, selection), groups


def check_out(out: Path, option: str = "--out") -> None:
    """Raise `BadInput` if `out`, the value of `option`, can't be a folder."""
    with resolving(option, out):
        existing = nearest_existing(out)
        if not existing.is_dir():
            problem = "is a file" if existing == out else f"{existing} is a file"
            raise BadInput(option, out, f"{problem}; it must be a folder, or not exist yet")


def require_machine(arguments: argparse.Namespace) -> None:
    """Raise `BadInput` if a local trial needs more GPUs or cores than this machine has.

    Also for `--cpus` with a running cluster.
    """
    if arguments.address != "local":
        if arguments.cpus:
            reason = "applies only to --address local; a running cluster sets its own CPUs"
            raise BadInput("--cpus", arguments.cpus, reason)
        return
    gpus, cpus = arguments.gpus_per_trial, arguments.cpus_per_trial
    if gpus not in ("auto", 0):
        import torch

        available = torch.cuda.device_count()
        if gpus > available:
            allowed = f"this machine has {available} GPUs; 0 runs on the CPU"
            raise BadInput("--gpus-per-trial", f"{gpus:g}", allowed)
    usable = arguments.cpus or cores()
    if cpus > usable:
        raise BadInput("--cpus-per-trial", f"{cpus:g}", f"{counted(usable, 'core')} can be used")


def load_data(arguments: argparse.Namespace) -> Dataset:
    """The dataset that a command asks for. Raises `BadInput`."""
    name = arguments.dataset or find(arguments.preset).dataset
    try:
        data = load(name, arguments.data_dir, data_options(arguments))
    except DataError as error:
        named = arguments.data_dir and name in NAMES
        option, value = ("--data-dir", arguments.data_dir) if named else ("--dataset", name)
        raise BadInput(option, value, str(error)) from error
    for pair in arguments.pairs:
        if unknown := set(pair) - set(data.classes):
            known = ", ".join(data.classes) or "none, as the images have no labels"
            reason = f"{', '.join(sorted(unknown))} is no class; there are {known}"
            raise BadInput("--pairs", ",".join(pair), reason)
    return data


def data_options(arguments: argparse.Namespace) -> Options:
    """The part and form of the data that a command asks for."""
    return Options(
        arguments.image_size,
        arguments.grey,
        tuple(arguments.classes),
        arguments.limit,
        arguments.group_by,
    )


def study_of(arguments: argparse.Namespace, data: Dataset, selection: Selection) -> Study:
    """The study that a command computes."""
    until = None
    if getattr(arguments, "until_decided", False):
        until = Until(arguments.matters or Until.matters, arguments.most or Until.max_replicates)
    return Study(
        selection=selection,
        data=data,
        data_dir=arguments.data_dir,
        data_options=data_options(arguments),
        pairs=tuple(arguments.pairs),
        store=Store(arguments.out),
        resources=resources_of(arguments),
        console=arguments.console,
        command=redacted(shlex.join(["study", *sys.argv[1:]])),
        until=until,
        log=arguments.log,
        report=arguments.report,
    )


def resources_of(arguments: argparse.Namespace) -> Resources:
    """Where a command computes, and what each of its trials gets."""
    return Resources(
        arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial, arguments.cpus
    )


def command_plan(arguments: argparse.Namespace) -> int:
    """Print done and missing cells, and the time that the missing ones take."""
    study, groups = prepare(arguments)
    console, store = study.console, study.store
    console.print(study.title)
    damaged = store.verify(ids(groups))
    for block, reason in damaged.items():
        console.print(f"{block.name} is {reason}; `study run` computes it again")
    finished = store.blocks()
    for block in damaged:
        finished[block.cell] = [r for r in finished[block.cell] if r != block.replicates]
    missing = study.show_plan(groups, finished, damaged)
    cpus, asked = counted(arguments.cpus_per_trial, "CPU"), arguments.gpus_per_trial
    gpus = "a share of a GPU where there is one" if asked == "auto" else counted(asked, "GPU")
    console.print(
        f"{counted(missing, 'replicate')} to compute, each trial on {cpus} and {gpus}; "
        f"address {arguments.address}"
    )
    print_estimate(study, groups, finished, arguments.cluster, arguments.price_per_hour)
    return DONE


def command_run(arguments: argparse.Namespace) -> int:
    """Compute the missing replicates, and write the report."""
    return run(*prepare(arguments))


def command_search(arguments: argparse.Namespace) -> int:
    """Search for better settings with Optuna, and write the best as a preset."""
    study, _ = prepare(arguments)
    from study.command_line.searches import problems
    from study.search.command import search

    return search(study, problems(arguments, study.data, study.selection), arguments)


def require_results(results: Path | str) -> None:
    """Raise `BadInput` for a path that is not a folder."""
    if not is_uri(results):
        assert isinstance(results, Path)
        with resolving("RESULTS", results):
            if not results.is_dir():
                raise BadInput("RESULTS", results, "is not a folder with a study's results")


def finished_study(arguments: argparse.Namespace) -> Store:
    """The results that a command reads.

    Raises `BadInput` if they or `--data-dir` don't exist, `StoreError` if they can't be read.
    """
    results = arguments.results
    require_results(results)
    data_dir = arguments.data_dir
    with resolving("--data-dir", data_dir or Path()):
        if data_dir and not data_dir.exists():
            raise BadInput("--data-dir", data_dir, "is not there")
    store = Store(results)
    store.place.reach()
    return store


def command_report(arguments: argparse.Namespace) -> int:
    """Write the report of stored results again."""
    store = finished_study(arguments)
    plan = store.plan()
    cells = [cell["id"] for planned in plan["experiments"] for cell in planned["cells"]]
    try:
        damaged = store.verify(cells)
        with reporting.ReportProcess() as process:
            return write_report(
                store, arguments.console, plan, damaged, process, arguments.data_dir
            )
    except OSError as error:
        reason = f"the report can't be written ({error.strerror})"
        raise BadInput("RESULTS", arguments.results, reason) from error


def command_export(arguments: argparse.Namespace) -> int:
    """Export the best models, training classifiers again."""
    store, out, console = finished_study(arguments), arguments.best, arguments.console
    check_out(out, "--best")
    with resolving("--best", out):
        if out.exists() and any(out.iterdir()):
            raise BadInput("--best", out, "is not empty; it must be, or not exist yet")
    store.plan()
    console.print("choosing models by validation images, and training classifiers again …")
    try:
        lines = reporting.once(
            "exports the models",
            "analysis.export:write",
            store.address,
            out.absolute(),
            arguments.data_dir,
        )
    except reporting.Killed as error:
        console.print(f"failed: {error}", style="red")
        return FAILED
    except DataMissing as error:
        raise StoreError(f"{error}; `--data-dir DIR` reads them from DIR") from error
    except OSError as error:
        reason = f"can't be written to ({error.strerror})"
        raise BadInput("--best", out, reason) from error
    for line in lines:
        console.print(line)
    return DONE


def command_compare(arguments: argparse.Namespace) -> int:
    """Write a page that compares studies."""
    compared, out = arguments.results, arguments.out
    for results in compared:
        require_results(results)
    if len(compared) < 2:
        only = without_query(str(compared[0]))
        raise BadInput("RESULTS", only, "is one study; give another one to compare it with")
    addresses = [results if is_uri(results) else Path(results).resolve() for results in compared]
    for results, address in zip(compared, addresses, strict=True):
        if addresses.count(address) > 1:
            shown = without_query(str(results))
            raise BadInput("RESULTS", shown, "is given twice; a study equals itself")
    if is_uri(out):
        raise BadInput("--out", without_query(out), "must be a folder of this machine")
    check_out(out)
    if (out / "study.json").exists():
        raise BadInput("--out", out, "holds a study; give a folder for the comparison alone")
    started = time.monotonic()
    try:
        page = reporting.once(
            "compares the studies", "analysis.compare:write", compared, out.absolute()
        )
    except OSError as error:
        reason = f"the comparison can't be written ({error.strerror})"
        raise BadInput("--out", out, reason) from error
    except reporting.Killed as error:
        arguments.console.print(f"failed: {error}; the same command tries again", style="red")
        return FAILED
    arguments.console.print(f"comparison: {page}  ({duration(time.monotonic() - started)})")
    return DONE


def command_check(arguments: argparse.Namespace) -> int:
    """Check this machine or cluster, the data and the storage."""
    from study.cluster.nodes import check

    require_machine(arguments)
    data = arguments.dataset, arguments.data_dir, data_options(arguments)
    ready = check(arguments.console, data, arguments.out, resources_of(arguments))
    return DONE if ready else FAILED


COMMANDS = {
    "plan": command_plan,
    "run": command_run,
    "search": command_search,
    "report": command_report,
    "export": command_export,
    "compare": command_compare,
    "check": command_check,
}


def require_words(argv: Sequence[str]) -> None:
    """Raise `BadInput` for arguments that aren't valid text: they can't be stored as JSON."""
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            allowed = f"is not {sys.getfilesystemencoding()} text, this system's encoding of names"
            raise BadInput("argument", ascii(word), allowed) from error


def require_folder() -> None:
    """Raise `StoreError` if the current folder has been deleted."""
    try:
        Path.cwd()
    except OSError as error:
        raise StoreError("the current folder has been deleted; `cd` to another one") from error


def run_command(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]  # a terminal of unknown width; rich would print nothing
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows … as ?
    command = "study"
    try:
        require_words(argv)
        require_folder()
        register_installed()
        arguments = parser().parse_args(argv)
        command = f"study {arguments.command}"
        arguments.console = console()
        return COMMANDS[arguments.command](arguments)
    except (OwnCodeError, BadInput, StoreError) as error:
        print_error(f"{command}: {error}")
    return BAD_INPUT
