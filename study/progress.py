"""What the user sees while a study runs: counts, the best so far, the time left."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from study.experiments import Experiment
from study.words import describe, duration


class ProgressCallback(Callback):
    """Follows the trials of one experiment: a live bar on a terminal, else one line an event."""

    def __init__(self, console: Console, experiment: Experiment, total: int) -> None:
        self.console = console
        self.experiment = experiment
        self.total = total
        self.done = self.failed = 0
        self.running: set[str] = set()
        """Ids of trials. One whose host dies while it starts fails without having run."""
        self.started = time.monotonic()
        self.best: tuple[float, str] | None = None
        self.live: Progress | None = None
        self.task: TaskID | None = None
        if console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=console,
            )
            self.task = self.live.add_task(experiment.name, total=total, state="starting")
            self.live.start()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves callbacks; this one holds a terminal and nothing worth keeping

    # --- Tune's events -----------------------------------------------------------------------

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.running.add(trial.trial_id)
        self._show()

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self.done += 1
        value = (trial.last_result or {}).get(self.experiment.metric)
        cell = describe(trial.config, self.experiment.axes)
        text = ""
        if value is not None:
            text = f"{self.experiment.metric} {value:.4g}"
            less = self.experiment.best == "min"
            if self.best is None or (value < self.best[0] if less else value > self.best[0]):
                self.best = (value, cell)
        self._show(f"done    {cell}  {text}")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self.failed += 1
        # Tune knows the reason only after this; it is printed when all is over.
        self._show(f"FAILED  {describe(trial.config, self.experiment.axes)}")

    # --- drawing -----------------------------------------------------------------------------

    def state(self) -> str:
        """`7 done, 0 failed, 2 running of 28; best val_mse 0.0119 (…); about 2 min left`."""
        counts = f"{self.done} done, {self.failed} failed, {len(self.running)} running"
        parts = [f"{counts} of {self.total}"]
        if self.best:
            parts.append(f"best {self.experiment.metric} {self.best[0]:.4g} ({self.best[1]})")
        ended = self.done + self.failed
        if 0 < ended < self.total:
            left = (time.monotonic() - self.started) / ended * (self.total - ended)
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)

    def _show(self, event: str = "") -> None:
        if self.live is not None and self.task is not None:
            self.live.update(self.task, completed=self.done + self.failed, state=self.state())
        elif event:
            self.console.print(f"{self.experiment.name}: {event}  [{self.state()}]")

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self.live is not None:
            self.live.stop()
