"""The report, written by a process of its own: what it needs of memory doesn't come on top of what
Ray's driver holds, and is given back when the page is there."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from study.store import StoreError


def write(folder: Path | str) -> str:
    """Write the report of the results in a folder, or on object storage; where its page is.

    Raises what `analysis.report.write` does, and `StoreError` where the process was killed.
    """
    # A fork would have the driver's memory, and the locks of its threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_end_with_the_driver) as processes:
        try:
            return processes.submit(_write, folder).result()
        except BrokenProcessPool as error:
            raise StoreError(
                "the process that writes the report was killed, as for want of memory; "
                f"`study report {folder}` tries again"
            ) from error
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise


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

    return str(report.write(folder))
