"""Reports, exports and comparisons, each made by a process of its own.

Its memory, mostly torch's, is free again when it ends. A report uses two if there are two cores.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pkgutil
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir, contextmanager, suppress
from importlib import import_module
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from study.limits import cores
from study.store import Block
from study.store.places import is_uri
from trainables.allocator import keep_freed_memory

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rich.console import Console

    from analysis.decisions import Question

T = TypeVar("T")

FIRST_PAGE, BETWEEN_PAGES = 30.0, 60.0
"""Seconds until a running study has a page, and the fewest seconds between two pages."""

BETWEEN_PAGES_IN_A_BUCKET = 300.0
"""The fewest in a bucket, where each page requests every block: 10,000 cost 10 ct an hour."""

FAILURES = 3
"""Failed pages in a row after which a bucket gets no more. It may be out of reach for a while."""

PAGES_SHARE = 0.02
"""Largest share of the machine's cores that these pages take."""

AHEAD_SHARE = 0.05
"""Largest share of the machine's cores, since the first page, that is spent on the report in
advance. A quick study's report then takes 20 s instead of 54 (two slow cores)."""


class Killed(RuntimeError):
    """Another process ended before its work was done."""


def write(folder: Path | str, damaged: Mapping[Block, str], data_dir: Path | None = None) -> str:
    """Write the report of the results in a folder or a bucket; return where its page is.

    `damaged` is the result of `Store.verify`: the blocks aren't verified again. `data_dir` is where
    the images are now, if the user says.

    Raises what `analysis.report.write` does, and `Killed`.
    """
    return _elsewhere("writes the report", _write, folder, damaged, data_dir)


@contextmanager
def growing(folder: Path | str, console: Console) -> Iterator[Callable[[str], None]]:
    """Write a page that grows while a study runs; the report replaces it.

    Yields a function that takes the study's progress. A process of its own writes the page, with
    the lowest priority. It starts when the first page is due. If it fails, that is printed at the
    end and stops nothing.
    """
    context = multiprocessing.get_context("spawn")
    process: multiprocessing.process.BaseProcess | None = None
    heard, told = context.Pipe(duplex=False)
    writable = selectors.DefaultSelector()
    writable.register(told, selectors.EVENT_WRITE)
    due = time.monotonic() + FIRST_PAGE

    def tell(progress: str) -> None:
        nonlocal process, due
        if time.monotonic() < due:
            return
        due = time.monotonic() + 1  # an unread pipe is full after 64 kB
        if process is None:
            process = context.Process(target=_grow, args=(str(folder), heard), daemon=True)
            with blocking_interrupts():
                process.start()
        # The process doesn't read while it measures models: a full pipe would hold up the study.
        if process.is_alive() and writable.select(0):
            with suppress(BrokenPipeError):
                told.send(progress)

    try:
        yield tell
    finally:
        if process is not None:
            if process.exitcode == 1:
                console.print("the page that grows while a study runs could not be written")
            process.kill()  # the report replaces its page
            process.join()
        writable.close()
        told.close()
        heard.close()


def _grow(folder: str, heard: Connection) -> None:
    """Rewrite the page with the latest progress, until the pipe is closed or pages fail.

    After each page, what the report will need is computed from what is finished, and kept.
    """
    _configure_process()
    os.nice(19)
    from analysis import report

    between = BETWEEN_PAGES_IN_A_BUCKET if is_uri(folder) else BETWEEN_PAGES
    progress, due, failures = "", 0.0, 0
    started, ahead = time.monotonic(), 0.0
    while True:
        try:
            if heard.poll(max(0.0, due - time.monotonic())):
                progress = heard.recv()
                continue
        except EOFError:
            return
        if progress:
            before = time.process_time()
            try:
                report.grow(folder, progress, between)
                failures = 0
            except Exception:  # the report will meet the same error, and tell it
                failures += 1
                if failures == FAILURES or not is_uri(folder):
                    sys.exit(1)
            spent = time.process_time() - before
            pause = max(between, spent / cores() / PAGES_SHARE)
            due, progress = time.monotonic() + pause, ""
            # In a bucket, it would read the models of every finished cell again after each page.
            if not is_uri(folder) and ahead <= AHEAD_SHARE * cores() * (time.monotonic() - started):
                before = time.process_time()
                with suppress(Exception):  # the report will meet the same error, and tell it
                    report.prepare(folder)
                ahead += time.process_time() - before
        else:
            due = time.monotonic() + 1


def export(folder: Path | str, out: Path, data_dir: Path | None) -> list[str]:
    """Write the best models of the results in a folder or a bucket into the folder `out`.

    Returns a line on each.

    Raises what `analysis.export.write` does, and `Killed`.
    """
    return _elsewhere("exports the models", _call, "analysis.export:write", folder, out, data_dir)


def open_questions(folder: Path | str, matters: float) -> list[Question]:
    """The comparisons of a study that are not decided yet (see `analysis.decisions`).

    Raises what `analysis.results.load` does, and `Killed`.
    """
    questions = "analysis.decisions:open_questions"
    return _elsewhere("reads the results", _call, questions, folder, matters)


def compare(folders: Sequence[Path | str], out: Path) -> Path:
    """Write a page that compares the studies in these folders; return its path.

    Raises what `analysis.compare.write` does, and `Killed`.
    """
    return _elsewhere("compares the studies", _call, "analysis.compare:write", folders, out)


def _elsewhere(task: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in another process, which Ctrl-C doesn't reach. Raises `Killed`."""
    with _another_process() as another:
        try:
            with blocking_interrupts():  # Ctrl-C is for the driver
                called = another.submit(function, *arguments)
            return called.result()
        except BrokenProcessPool as error:
            raise Killed(
                f"the process that {task} has ended before it was done, as it does for want of "
                "memory"
            ) from error


@contextmanager
def _another_process() -> Iterator[ProcessPoolExecutor]:
    """A process that ends with the block or with this process, even if that is killed."""
    # A fork would copy this process's memory, and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_configure_process) as processes:
        try:
            yield processes
        except BaseException:  # Ctrl-C above all
            for process in multiprocessing.active_children():
                process.kill()
            raise


@contextmanager
def blocking_interrupts() -> Iterator[None]:
    """Block SIGINT until the block ends. Processes started inside never get one."""
    resource_tracker.ensure_running()  # its start would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _configure_process() -> None:
    """End this process with its parent, keep the memory of freed tensors, and import matplotlib
    with its default configuration."""
    end_with_parent()
    keep_freed_memory()
    # The import fails for an unknown backend and for a matplotlibrc that isn't text. It reads the
    # matplotlibrc of the current folder before any other: here matplotlib's own.
    os.environ.pop("MPLBACKEND", None)
    # It logs two lines if it can't write to the user's home, and works nevertheless.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    package = importlib.util.find_spec("matplotlib")
    assert package and package.origin
    with chdir(Path(package.origin).parent / "mpl-data"):
        import matplotlib  # noqa: F401


def end_with_parent() -> None:
    """End this process when its parent ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call(function: str, *arguments: object) -> Any:
    """Call a function by its name, `module:function`: the driver doesn't import its module."""
    return pkgutil.resolve_name(function)(*arguments)


def _write(folder: Path | str, damaged: Mapping[Block, str], data_dir: Path | None) -> str:
    if cores() < 2:
        from analysis import report  # pandas, torch, matplotlib: only if they are needed

        return str(report.write(folder, damaged, data_dir=data_dir))
    with _another_process() as executor:
        executor.submit(import_module, "analysis.report")  # 3 s in each process, at the same time
        from analysis import report

        return str(report.write(folder, damaged, executor, data_dir))
