"""The progress of a study on the screen: counts, the best so far, the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from study.forecast import Forecast, forecast
from study.queue import Queue, Task
from study.words import describe, duration

FORECASTS = 50
"""The forecast is made anew when one in so many of the tasks left then has ended: each looks at
all of them, and together they must not look at each more than so often."""


BETWEEN_STATES, QUIET = 5.0, 60.0
"""Seconds: states between two events are at least so far apart; and when there was none for so
long, a file gets a line on a trial that runs, and the time left is worked out anew."""


class StudyProgress:
    """A `study.dispatch.Listener` that shows a live bar on a terminal, and one line an event on a
    dumb one or in a file."""

    def __init__(
        self,
        console: Console,
        queue: Queue,
        workers: int,
        gpus: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], object] = lambda state: None,
    ) -> None:
        """`workers` trials run at once, on so many `gpus` in all. `tell` is given every state."""
        self.tell = tell
        self.console = console
        self.queue = queue
        self.workers = workers
        self.gpus = gpus
        self.clock = clock
        self.begun: dict[Task, float] = {}
        """When the trials of running tasks began."""
        self._forecast: Forecast | None = None
        self._made = (-math.inf, -1)
        """When the forecast was made, and with how many tasks ended."""
        self._shown = self._printed = -math.inf
        """When there was a state, and a line, last."""
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
        self.begun[task] = self.clock()
        self._printed = max(self._printed, self.begun[task])
        if self.live is not None:  # a state is worth its time where it is shown
            self._show()

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """An epoch of the task is over."""
        now = self.clock()
        if now - self._shown >= BETWEEN_STATES:
            if self.live is None and now - self._printed >= QUIET:
                epoch = f"epoch {result['epoch']}" if "epoch" in result else "running"
                self._show(task, f"{epoch}  {words(task)}")
            else:
                self._show()

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        """Only searches stop trials."""

    def done(self, task: Task, value: float | None) -> None:
        """The block is in the store."""
        self.ended += 1
        self.begun.pop(task, None)
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
        self.begun.pop(task, None)
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
        left = self.time_left()
        if left and left.seconds >= 1:
            parts.append(f"about {duration(left.seconds)} left")
        return "; ".join(parts)

    def time_left(self) -> Forecast | None:
        """Seconds until all is done; None where nothing like what is left has ended yet."""
        now, (made, ended) = self.clock(), self._made
        some = max(1.0, len(self.queue.left) / FORECASTS) if self._forecast else 1.0
        if self.ended >= ended + some or now - made >= QUIET:
            elapsed = {t: now - self.begun[t] for t in self.queue.running if t in self.begun}
            self._forecast = forecast(
                self.queue.left, self.workers, self.queue.rates, elapsed, self.gpus
            )
            made, _ = self._made = now, self.ended
        return self._forecast and self._forecast.plus(made - now)

    def _show(self, task: Task | None = None, event: str = "") -> None:
        self._shown = self.clock()
        self.latest = task.cell.experiment.name if task else self.latest
        state = self.state()
        self.tell(state)
        if self.live is not None:
            self.live.update(self.bar, completed=self.ended, total=self.queue.total, state=state)
        elif task is not None:
            self._printed = self._shown
            self.console.print(f"{task.cell.experiment.name}: {event}  [{state}]")

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
