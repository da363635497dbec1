"""What the user sees while a study runs: counts, the best so far, the time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from study.queue import Queue, Task
from study.words import describe, duration


class StudyProgress:
    """A `study.launch.Listener` that shows a live bar on a terminal, and one line an event on a
    dumb one or in a file."""

    def __init__(self, console: Console, queue: Queue, workers: int) -> None:
        self.console = console
        self.queue = queue
        self.workers = workers
        self.ended = self.failures = 0
        self.best: dict[str, tuple[float, str]] = {}
        """By experiment: the best value of its metric, and whose it is."""
        self.latest = ""
        """The experiment of the latest event."""
        self.live: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=console,
            )
            self.bar = self.live.add_task("blocks", total=queue.total, state="starting")
            self.live.start()

    # --- events ------------------------------------------------------------------------------

    def started(self, task: Task) -> None:
        """A worker has begun with the task."""
        self._show()

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """Nothing to show."""

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        """Only searches stop trials."""

    def done(self, task: Task, value: float | None) -> None:
        """The block is in the store."""
        self.ended += 1
        experiment, text = task.cell.experiment, ""
        if value is not None:
            text = f"  {experiment.metric} {value:.4g}"
            sign = 1 if experiment.best == "min" else -1
            known = self.best.get(experiment.name)
            if known is None or sign * value < sign * known[0]:
                self.best[experiment.name] = (value, words(task))
        self._show(task, f"done    {words(task)}{text}")

    def failed(self, task: Task, error: str) -> None:
        """The block has failed for good; its reason is printed when all is over."""
        self.ended += 1
        self.failures += 1
        self._show(task, f"FAILED  {words(task)}")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text)

    # --- drawing -----------------------------------------------------------------------------

    def state(self) -> str:
        """`7 done, 0 failed, 2 running of 28; best val_mse 0.0119 (…); about 2 min left`."""
        done = self.ended - self.failures
        # Tune is given a block more than there are workers, so that none waits for the driver.
        running = min(len(self.queue.running), self.workers)
        parts = [f"{done} done, {self.failures} failed, {running} running of {self.queue.total}"]
        if self.latest in self.best:
            value, cell = self.best[self.latest]
            parts.append(f"best {self.latest} {value:.4g} ({cell})")
        left = self.queue.seconds_left(self.workers)
        if left is not None and left >= 1:
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)

    def _show(self, task: Task | None = None, event: str = "") -> None:
        self.latest = task.cell.experiment.name if task else self.latest
        if self.live is not None:
            self.live.update(
                self.bar, completed=self.ended, total=self.queue.total, state=self.state()
            )
        elif task is not None:
            self.console.print(f"{task.cell.experiment.name}: {event}  [{self.state()}]")

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self.live is not None:
            self.live.stop()


def words(task: Task) -> str:
    """`latent_dim=14 depth=3, replicates 4-19`; the replicates only where they aren't all."""
    experiment = task.cell.experiment
    cell = describe(task.cell.config, experiment.axes)
    if len(task.replicates) == task.cell.replicates:
        return cell
    return f"{cell}, replicates {task.replicates.start}-{task.replicates.stop - 1}"
