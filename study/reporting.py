"""The report, written by a process of its own, with a second one beside it; exported models too.

Its memory, torch's above all, is free again when the page is there.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
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
from typing import TYPE_CHECKING, TypeVar

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
"""Seconds until a study that runs has a page, and between two of them at least."""

BETWEEN_PAGES_IN_A_BUCKET = 300.0
"""The same in a bucket, where each page asks for every block: 10,000 blocks are 10 ct an hour."""

FAILURES = 3
"""Pages in a row that may fail in a bucket, which may be out of reach for a while."""

PAGES_SHARE = 0.02
"""Of the machine's cores: what these pages take at most."""


class Killed(RuntimeError):
    """Another process has ended before it was done."""


def write(folder: Path | str, damaged: Mapping[Block, str], data_dir: Path | None = None) -> str:
    """Write the report of the results in a folder, or on object storage; where its page is.

    `damaged` is what `Store.verify` has just found: neither process verifies the blocks again.
    `data_dir` is where the images are now, if the user says.

    Raises what `analysis.report.write` does, and `Killed`.
    """
    return _elsewhere("writes the report", _write, folder, damaged, data_dir)


@contextmanager
def growing(folder: Path | str, console: Console) -> Iterator[Callable[[str], None]]:
    """A page in the folder or bucket that grows while a study runs, written by a process of its
    own. Yields a function that tells it how far the study is. The report comes in its place.

    The process begins when the first page is due, with the lowest priority. What goes wrong there
    is told at the end and stops nothing.
    """
    context = multiprocessing.get_context("spawn")
    process: multiprocessing.process.BaseProcess | None = None
    heard, told = context.Pipe(duplex=False)
    due = time.monotonic() + FIRST_PAGE

    def tell(progress: str) -> None:
        nonlocal process, due
        if time.monotonic() < due:
            return
        due = time.monotonic() + 1  # a pipe that nobody reads meanwhile is full after 64 kB
        if process is None:
            between = BETWEEN_PAGES_IN_A_BUCKET if is_uri(str(folder)) else BETWEEN_PAGES
            process = context.Process(target=_grow, args=(str(folder), heard, between), daemon=True)
            with blocking_interrupts():
                process.start()
        if process.is_alive():
            with suppress(BrokenPipeError):
                told.send(progress)

    try:
        yield tell
    finally:
        if process is not None:
            if process.exitcode == 1:
                console.print("the page that grows while a study runs could not be written")
            process.kill()  # the report comes in its place
            process.join()
        told.close()
        heard.close()


def _grow(folder: str, heard: Connection, between: float) -> None:
    """Write the page again and again, with the latest of what is heard, until nothing can be."""
    _configure_process()
    os.nice(19)
    from analysis import report

    progress, due, failures = "", 0.0, 0
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
            except Exception:  # the report, which comes in its place, meets the same and says it
                failures += 1
                if failures == FAILURES or not is_uri(folder):
                    sys.exit(1)
            spent = time.process_time() - before
            pause = max(between, spent / cores() / PAGES_SHARE)
            due, progress = time.monotonic() + pause, ""
        else:
            due = time.monotonic() + 1


def export(folder: Path | str, out: Path, data_dir: Path | None) -> list[str]:
    """Write the best models of the results in a folder, or on object storage, into the folder
    `out`; a line on each.

    Raises what `analysis.export.write` does, and `Killed`.
    """
    return _elsewhere("exports the models", _export, folder, out, data_dir)


def open_questions(folder: Path | str, matters: float) -> list[Question]:
    """The comparisons of a study that are not decided yet: `analysis.decisions`.

    Raises what `analysis.results.load` does, and `Killed`.
    """
    return _elsewhere("reads the results", _open_questions, folder, matters)


def compare(folders: Sequence[Path | str], out: Path) -> Path:
    """Write a page that compares the studies in these folders; its path: `analysis.compare`.

    Raises what `analysis.compare.write` does, and `Killed`.
    """
    return _elsewhere("compares the studies", _compare, folders, out)


def _elsewhere(task: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in another process, which Ctrl-C doesn't reach."""
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
    """A process that ends with the block or with this process, however either is ended."""
    # A fork would have this one's memory, and the locks of its threads.
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
    """Deal with SIGINT after the block. Processes started there never get one."""
    resource_tracker.ensure_running()  # which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _configure_process() -> None:
    """End this process with the one that started it, keep the memory of freed tensors, and import
    matplotlib as it is by default."""
    end_with_parent()
    keep_freed_memory()
    # The import fails for an unknown backend and a matplotlibrc that isn't text. It reads one such
    # file, that of the current folder before others: here its own.
    os.environ.pop("MPLBACKEND", None)
    # It logs two lines where it can't write to the user's home, and works all the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    package = importlib.util.find_spec("matplotlib")
    assert package and package.origin
    with chdir(Path(package.origin).parent / "mpl-data"):
        import matplotlib  # noqa: F401


def _export(folder: Path | str, out: Path, data_dir: Path | None) -> list[str]:
    from analysis import export

    return export.write(folder, out, data_dir)


def end_with_parent() -> None:
    """End this process with the one that started it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _open_questions(folder: Path | str, matters: float) -> list[Question]:
    from analysis.decisions import open_questions

    return open_questions(folder, matters)


def _compare(folders: Sequence[Path | str], out: Path) -> Path:
    from analysis import compare

    return compare.write(folders, out)


def _write(folder: Path | str, damaged: Mapping[Block, str], data_dir: Path | None) -> str:
    if cores() < 2:
        from analysis import report  # pandas, torch, matplotlib: only where they are needed

        return str(report.write(folder, damaged, data_dir=data_dir))
    with _another_process() as beside:
        beside.submit(import_module, "analysis.report")  # 3 s each, at the same time
        from analysis import report

        return str(report.write(folder, damaged, beside, data_dir))
