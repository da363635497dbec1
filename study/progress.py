"""The progress of a study on the screen: counts, best values, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from study.forecast import Forecast, forecast
from study.queue import Listener, Queue, Task
from study.words import describe, duration

FORECASTS = 50
"""The forecast is repeated when 1 in `FORECASTS` of the remaining tasks has ended.

A forecast visits all remaining tasks, so each is visited about `FORECASTS` times on average.
"""

STATE_INTERVAL = 5.0
"""Minimum seconds between two states of running trials."""

QUIET_SECONDS = 60.0
"""Seconds without a line after which a file gets one on a running trial. A forecast is repeated
after as many seconds."""


class StudyProgress(Listener):
    """Shows a live bar on a terminal; on a dumb terminal or in a file, one line per event."""

    def __init__(
        self,
        console: Console,
        queue: Queue,
        workers: int,
        tell: Callable[[str], object] = lambda state: None,
    ) -> None:
        """`workers` trials run at once. `tell` is called with each state."""
        self.tell = tell
        self.console = console
        self.queue = queue
        self.workers = workers
        self.clock = time.monotonic
        self.started_at: dict[Task, float] = {}
        """When the trial of each running task started, by `clock`."""
        self._forecast: Forecast | None = None
        self._made = (-math.inf, -1)
        """When the forecast was made, and how many tasks had ended then."""
        self._shown = self._printed = -math.inf
        """Times of the latest state and of the latest line."""
        self.ended = self.failures = 0
        self.best: dict[str, tuple[float, str]] = {}
        """Best value of each experiment's metric, and its block in words."""
        self.latest = ""
        """The experiment of the latest event."""
        self.live: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self.live = Progress(*columns, "{task.fields[state]}", console=console)
            self.bar = self.live.add_task("blocks", total=queue.total, state="starting")
            self.live.start()

    # --- events ------------------------------------------------------------------------------

    def resized(self, workers: int) -> None:
        """Count and forecast with so many workers."""
        self.workers = workers

    def started(self, task: Task) -> None:
        """Record when a worker started the task."""
        self.started_at[task] = self.clock()
        self._printed = max(self._printed, self.started_at[task])
        if self.live is not None:  # a state takes time to compute, and a file wouldn't show it
            self._show()

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """Show the state, at most once per `STATE_INTERVAL`."""
        now = self.clock()
        if now - self._shown >= STATE_INTERVAL:
            if self.live is None and now - self._printed >= QUIET_SECONDS:
                epoch = f"epoch {result['epoch']}" if "epoch" in result else "running"
                self._show(task, f"{epoch}  {describe_task(task)}")
            else:
                self._show()

    def done(self, task: Task, value: float | None) -> None:
        """Count a finished block, and show it with its value."""
        self.ended += 1
        self.started_at.pop(task, None)
        experiment, text = task.cell.experiment, ""
        if value is not None:
            text = f"  {experiment.metric} {value:.4g}"
            sign = 1 if experiment.best == "min" else -1
            known = self.best.get(experiment.name)
            if known is None or sign * value < sign * known[0]:
                self.best[experiment.name] = (value, describe_task(task))
        self._show(task, f"done    {describe_task(task)}{text}")

    def failed(self, task: Task, error: str) -> None:
        """Count a block that failed for good; its reason is printed at the end."""
        self.ended += 1
        self.failures += 1
        self.started_at.pop(task, None)
        self._show(task, f"FAILED  {describe_task(task)}")

    def say(self, text: str) -> None:
        self.console.print(text)

    # --- drawing -----------------------------------------------------------------------------

    def state(self) -> str:
        """`7 done, 0 failed, 2 running of 28; best val_mse 0.0119 (…); about 2 min left`."""
        done = self.ended - self.failures
        # Tune gets one block more than there are workers, so that none waits for the driver.
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
        """Forecast of the time left; None while the rates are too uncertain."""
        now, (made, ended) = self.clock(), self._made
        interval = max(1.0, len(self.queue.left) / FORECASTS) if self._forecast else 1.0
        if self.ended >= ended + interval or now - made >= QUIET_SECONDS:
            running = self.started_at.keys() & self.queue.running
            elapsed = {task: now - self.started_at[task] for task in running}
            self._forecast = forecast(
                self.queue.left, self.workers, self.queue.rates, elapsed, self.queue.gpus
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
        """Stop the live bar; its last state stays on the screen."""
        if self.live is not None:
            self.live.stop()


def describe_task(task: Task) -> str:
    """`latent_dim=14 depth=3, replicates 4-19`; replicates only if not all of the cell's.

    Of one, `replicate 4`.
    """
    experiment = task.cell.experiment
    cell = describe(task.cell.config, experiment.axes)
    if len(task.replicates) == task.cell.replicates:
        return cell
    first, last = task.replicates[0], task.replicates[-1]
    return f"{cell}, " + (f"replicates {first}-{last}" if first < last else f"replicate {first}")
