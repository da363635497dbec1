"""The report, written by a process of its own: what it takes of memory, torch above all, is given
back when the page is there, and is none of the driver's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path


class Killed(RuntimeError):
    """The process that writes the report has ended before it was done."""


def write(folder: Path | str) -> str:
    """Write the report of the results in a folder, or on object storage; where its page is.

    Raises what `analysis.report.write` does, and `Killed`.
    """
    # A fork would have the driver's memory, and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_end_with_the_driver) as processes:
        try:
            with _deaf_to_interrupts():  # Ctrl-C is the driver's, from the process's first moment
                writing = processes.submit(_write, folder)
            return writing.result()
        except BrokenProcessPool as error:
            raise Killed(
                "the process that writes the report has ended before it was done, as it does for "
                "want of memory"
            ) from error
        except BaseException:  # Ctrl-C, or Ray's handler of SIGTERM
            for process in multiprocessing.active_children():
                process.kill()
            raise


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """In the block SIGINT is ignored, and by processes that are started there for good."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_the_driver() -> None:
    """Let this process not outlive the one that started it, however that is ended."""
    driver = multiprocessing.parent_process()
    assert driver is not None

    def wait() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write(folder: Path | str) -> str:
    from analysis import report  # pandas, torch, matplotlib: only where they are needed
    from trainables.allocator import give_back_freed_memory

    give_back_freed_memory()
    return str(report.write(folder))
