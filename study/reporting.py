"""Reports, exports and comparisons, made by a process of their own.

Its memory, mostly torch's, is free again when it ends. A report uses two processes if there are two
cores. The process that writes the pages of a running study writes its report as well.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir, contextmanager, suppress
from importlib import import_module
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from study.provenance import sources
from study.store import Block
from study.store.places import is_uri
from trainables.allocator import keep_freed_memory
from trainables.limits import cores

if TYPE_CHECKING:
    from analysis.decisions import Question

T = TypeVar("T")

FIRST_PAGE, BETWEEN_PAGES = 30.0, 60.0
"""Seconds until a running study has a page, and the fewest seconds between two pages."""

BETWEEN_PAGES_IN_A_BUCKET = 300.0
"""The fewest in a bucket, where each page requests every block: 10,000 cost 10 ct an hour."""

FAILURES = 3
"""Failed pages in a row after which no more are written: storage may be out of reach for long."""

PAGES_SHARE = 0.02
"""Largest share of the machine's cores that these pages take."""

AHEAD_SHARE = 0.05
"""Largest share of the machine's cores, since the first page, that is spent on the report in
advance. A quick study's report then takes 10 s, not 36 (two slow cores)."""

PATIENCE = 20.0
"""Seconds that a report waits for a page that is being written. What the page prepares is part of
the report, and a new process needs 3 s for its imports, 15 s where the disk is slow."""


class Killed(RuntimeError):
    """Another process ended before its work was done."""


def write(
    folder: Path | str,
    damaged: Mapping[Block, str],
    process: ReportProcess,
    data_dir: Path | None = None,
) -> str:
    """Write the report of the results in a folder or a bucket; return where its page is.

    `damaged` is the result of `Store.verify`: the blocks aren't verified again. A `process` that
    has written pages saves 3 s of imports. `data_dir` is where the images are now, if the user
    says.

    Raises what `analysis.report.write` does, and `Killed`.
    """
    return process.call("writes the report", _write, folder, damaged, data_dir)


class GrowingPage:
    """The page of a running study, rewritten now and then; the report replaces it.

    `process` writes it at the lowest priority. If that fails, the study goes on.
    """

    def __init__(self, folder: Path | str, process: ReportProcess) -> None:
        self.folder, self.process = str(folder), process
        self.interval = BETWEEN_PAGES_IN_A_BUCKET if is_uri(self.folder) else BETWEEN_PAGES
        self.first_due = self.due = time.monotonic() + FIRST_PAGE
        self.submitted = 0.0
        """Time of the latest submission of a page, by the monotonic clock."""
        self.prepare_seconds = 0.0
        """Processor time spent on the report in advance."""
        self.failures = 0
        """Failed pages in a row."""
        self.pending: Future[tuple[float, float]] | None = None
        """The page that is being written."""
        self.imports: Future[Any] | None = None
        """The imports of the process; None before the first update."""

    def update(self, progress: str) -> None:
        """Have the page written with this progress, unless it isn't due or one is being written."""
        now = time.monotonic()
        # Not with the first page: the report of a shorter run would wait 3 s for the imports.
        if not self.imports:
            self.imports = self.process.submit(_at_low_priority, import_module, "analysis.report")
        if self.has_failed() or self.pending or now < self.due:
            return
        # In a bucket, each page would read the models of all finished cells again.
        may_prepare = not is_uri(self.folder) and (
            self.prepare_seconds <= AHEAD_SHARE * cores() * (now - self.first_due)
        )
        arguments = self.folder, progress, self.interval, may_prepare
        self.pending = self.process.submit(_at_low_priority, _grow, *arguments)
        self.submitted = now

    def has_failed(self) -> bool:
        """True if no more pages are written."""
        if self.pending and self.pending.done():
            self._finish(self.pending)
        return self.failures >= FAILURES

    def _finish(self, page: Future[tuple[float, float]]) -> None:
        """Record the cost of a page, or its failure."""
        self.pending, spent = None, 0.0
        try:
            spent, prepare_seconds = page.result()
            self.prepare_seconds += prepare_seconds
            self.failures = 0
        except BrokenProcessPool:  # killed, by `ReportProcess.call` or for want of memory
            pass
        except Exception:  # the report will meet the same error, and tell it
            self.failures += 1
        self.due = self.submitted + max(self.interval, spent / cores() / PAGES_SHARE)


def _at_low_priority(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a thread of the lowest priority.

    On Linux a thread has a priority of its own; elsewhere the process keeps the lowest.
    """
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(19,)) as thread:
        return thread.submit(function, *arguments).result()


def _grow(folder: str, progress: str, interval: float, may_prepare: bool) -> tuple[float, float]:
    """Write the growing page; then, if it `may_prepare`, compute what the report will need.

    Returns the processor time of both, in seconds.
    """
    from analysis import report

    started = time.process_time()
    report.grow(folder, progress, interval)
    written = time.process_time()
    if may_prepare:
        with suppress(Exception):  # the report will meet the same error, and tell it
            report.prepare(folder)
    return written - started, time.process_time() - written


def once(task: str, function: str, *arguments: object) -> Any:
    """Call a function by its name, `module:function`, in a process of its own.

    `task` says what the process does, such as "exports the models", for the message of `Killed`.

    Raises what the function does, and `Killed`.
    """
    with ReportProcess() as process:
        return process.call(task, _call, function, *arguments)


def questions(folder: Path | str, matters: float, process: ReportProcess) -> list[Question]:
    """The comparisons of a study (see `analysis.decisions`).

    Raises what `analysis.results.load` does, and `Killed`.
    """
    function = "analysis.decisions:questions_of"
    return process.call("reads the results", _call, function, folder, matters)


class ReportProcess(Executor):
    """A process for reports, which Ctrl-C doesn't reach.

    Starts at the first call. Starts anew after it was killed, and if the code has changed when
    `call` is called. Ends with the block or with this process, even if that is killed.
    """

    def __init__(self, method: str = "spawn") -> None:
        """`method` is how the process starts, as `multiprocessing` calls it.

        A fork copies the memory of this process, and the locks of its threads.
        """
        self._context = multiprocessing.get_context(method)
        self._executor: ProcessPoolExecutor | None = None
        self._children: set[multiprocessing.process.BaseProcess] = set()
        self._latest: Future[Any] | None = None
        self._code = ""

    def call(self, task: str, function: Callable[..., T], *arguments: object) -> T:
        """Call a function there, after what the process is doing. Raises `Killed`.

        That may be a page, which takes long at the lowest priority: it is ended after `PATIENCE`.
        """
        if self._code != _code_on_disk() or not self._is_idle(PATIENCE):
            self.shutdown()
        try:
            return self.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise Killed(
                f"the process that {task} has ended before it was done, probably for lack of memory"
            ) from error

    def _is_idle(self, timeout: float) -> bool:
        """True if the process has nothing to do, or gets there in so many seconds."""
        return self._latest is None or bool(wait([self._latest], timeout).done)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function there, after those submitted before."""
        with blocking_interrupts():
            if self._executor:
                with suppress(BrokenProcessPool):
                    self._latest = self._executor.submit(function, *args, **kwargs)
                    return self._latest
            self._executor = ProcessPoolExecutor(1, self._context, initializer=_configure_process)
            self._code = _code_on_disk()
            others = set(multiprocessing.active_children())
            try:
                self._latest = self._executor.submit(function, *args, **kwargs)
            finally:  # even if a signal ends the submission
                self._children = set(multiprocessing.active_children()) - others
            return self._latest

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the process at once, whatever it is doing."""
        executor, self._executor = self._executor, None
        if executor:
            for process in self._children:
                process.kill()
            executor.shutdown(wait)


def _code_on_disk() -> str:
    """Hash of the sources as they are now: a user may edit `analysis` while a study runs."""
    return sources.__wrapped__("analysis", "study", "trainables")


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
    from analysis import report  # pandas, torch, matplotlib: only if they are needed

    if cores() < 2:
        return str(report.write(folder, damaged, data_dir=data_dir))
    # A copy shares the memory of what is imported, 0.5 GiB, and needs no 3 s for it. Only on Linux:
    # elsewhere libraries don't allow it.
    with ReportProcess("fork" if sys.platform == "linux" else "spawn") as other:
        return str(report.write(folder, damaged, other, data_dir))
