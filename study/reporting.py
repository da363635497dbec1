"""The report, written by a process of its own, with a second one beside it.

Its memory, torch's above all, is free again when the page is there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from study.store import Block
from trainables.allocator import keep_freed_memory

if TYPE_CHECKING:
    from analysis.decisions import Question


class Killed(RuntimeError):
    """The process that writes the report has ended before it was done."""


def write(folder: Path | str, damaged: Mapping[Block, str]) -> str:
    """Write the report of the results in a folder, or on object storage; where its page is.

    `damaged` is what `Store.verify` has just found: neither process verifies the blocks again.

    Raises what `analysis.report.write` does, and `Killed`.
    """
    with _another_process() as another:
        try:
            with _ignoring_interrupts():  # Ctrl-C is for the driver
                writing = another.submit(_write, folder, damaged)
            return writing.result()
        except BrokenProcessPool as error:
            raise Killed(
                "the process that writes the report has ended before it was done, as it does for "
                "want of memory"
            ) from error


def open_questions(folder: Path | str, matters: float) -> list[Question]:
    """The comparisons of a study that are not decided yet: `analysis.decisions`."""
    with _another_process() as another:
        try:
            with _ignoring_interrupts():
                asked = another.submit(_open_questions, folder, matters)
            return asked.result()
        except BrokenProcessPool as error:
            raise Killed("the process that reads the results has ended") from error


@contextmanager
def _another_process() -> Iterator[ProcessPoolExecutor]:
    """A process that ends with the block or with this process, however either is ended."""
    # A fork would have this one's memory, and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_configure_process) as processes:
        try:
            yield processes
        except BaseException:  # Ctrl-C, or Ray's handler of SIGTERM
            for process in multiprocessing.active_children():
                process.kill()
            raise


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT inside the block; processes started there ignore it for good."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _configure_process() -> None:
    """End this process with the one that started it, and keep the memory of freed tensors."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    keep_freed_memory()


def _open_questions(folder: Path | str, matters: float) -> list[Question]:
    from analysis.decisions import open_questions

    return open_questions(folder, matters)


def _write(folder: Path | str, damaged: Mapping[Block, str]) -> str:
    from analysis import report  # pandas, torch, matplotlib: only where they are needed

    if (os.cpu_count() or 1) < 2:
        return str(report.write(folder, damaged))
    with _another_process() as beside:
        return str(report.write(folder, damaged, beside))
