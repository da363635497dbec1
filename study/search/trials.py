"""The trials of a search: Optuna suggests blocks to the queue, and is told how they fare."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from study.grid import gaps
from study.launch import Session, count_workers
from study.queue import Queue, Task
from study.search.halving import EPOCH, Halving
from study.search.rungs import rungs
from study.search.suggestions import Budget, Suggestions
from study.words import duration, reason
from trainables.contract import ConfigError
from trainables.data import Dataset


class SearchTrials:
    """Suggests tasks to a queue, and hears how they fare: a `study.launch.Listener`."""

    def __init__(
        self,
        suggestions: Suggestions,
        data: Dataset,
        budget: Budget,
        gpus: float,
        console: Console,
    ) -> None:
        self.suggestions = suggestions
        self.store = suggestions.store
        self.data = data
        self.budget = budget
        self.gpus = gpus
        self.console = console
        self.metric = suggestions.problem.experiment.metric
        self.finished = self.store.blocks()
        self.numbers: dict[Task, int] = {}
        """Optuna's number of each task's trial."""
        self.epochs: dict[int, int] = {}
        """By number: the last epoch reported."""
        self._started = time.monotonic()
        self._earlier = suggestions.seconds
        self._ended_before = len(suggestions.ended())

    @property
    def seconds(self) -> float:
        """Spent on this search, earlier commands included."""
        return self._earlier + time.monotonic() - self._started

    # --- the queue asks ----------------------------------------------------------------------

    def next(self) -> Task | None:
        """A task for the next trial; None when the budget is spent, or what runs may spend it."""
        suggestions = self.suggestions
        while True:
            begun = len(suggestions.ended()) + len(suggestions.running)
            if self.budget.is_spent(begun, self.seconds):
                return None
            if task := self._task(suggestions.next()):
                return task

    def _task(self, number: int) -> Task | None:
        """What a trial has to compute. Where that is nothing, the trial is told and over."""
        suggestions = self.suggestions
        cell = suggestions.cells[number]
        try:
            cell.settings.check_data(self.data)
        except ConfigError as error:
            suggestions.failed(number, str(error))
            self._event(f"failed  trial {number}: {error}")
            return None
        if any(other.id == cell.id for n, other in suggestions.cells.items() if n != number):
            suggestions.failed(number, f"another trial is computing the same cell {cell.id}")
            return None
        missing = gaps(cell.replicates, self.finished.get(cell.id, ()))
        if not missing:
            for block in self.store.verify([cell.id]):
                self.store.set_aside(block)
                missing = [range(cell.replicates)]
        if missing:
            task = Task(cell, range(missing[0].start, missing[-1].stop), self.gpus)
            self.numbers[task] = number
            return task
        values = suggestions.complete(number)
        self._event(f"reused  trial {number} {self._words(values)}: its cell was there")
        return None

    # --- the queue tells ---------------------------------------------------------------------

    def started(self, task: Task) -> None:
        """A worker has begun with it."""

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """The metric after an epoch."""
        number = self.numbers[task]
        epoch, value = result.get(EPOCH), result.get(self.metric)
        # A trial that is tried again may report epochs for the second time.
        if epoch is not None and value is not None and epoch > self.epochs.get(number, 0):
            self.epochs[number] = epoch
            self.suggestions.report(number, epoch, value)

    def done(self, task: Task, value: float | None) -> None:
        """Its cell is there: the objectives are those on disk."""
        number = self.numbers[task]
        self.finished.setdefault(task.cell.id, []).append(task.replicates)
        values = self.suggestions.complete(number)
        self._event(f"done    trial {number} {self._words(values)}")
        self.save_seconds()

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        """It was not among the best at a rung."""
        number = self.numbers[task]
        if result:
            self.reported(task, result)
            self.suggestions.stopped(number)
            self._event(
                f"stopped trial {number} after epoch {self.epochs.get(number, 0)} "
                f"({self.metric} {result.get(self.metric, float('nan')):.4g})"
            )
        else:
            self.suggestions.lost(number)
        self.store.place.delete(self.store.progress(task.block))
        self.save_seconds()

    def failed(self, task: Task, error: str) -> None:
        """Its settings diverge, say: a finding, as the next try would end so too."""
        number, why = self.numbers[task], reason(error)
        self.suggestions.failed(number, why)
        self._event(f"failed  trial {number}: {why}")
        self.save_seconds()

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(f"{self.suggestions.problem.name}: {text}")

    # --- what the user sees ------------------------------------------------------------------

    def save_seconds(self) -> None:
        """Keep what has been spent."""
        self.suggestions.study.set_user_attr("seconds", self.seconds)

    def _event(self, event: str) -> None:
        self.say(f"{event}  [{self.state()}]")

    def _words(self, values: Sequence[float]) -> str:
        names = zip(self.suggestions.problem.columns, values, strict=True)
        return ", ".join(f"{name} {value:.4g}" for name, value in names)

    def state(self) -> str:
        """`12 done, 20 stopped early, 1 failed, 2 running of 40; best …; about 2 min left`."""
        ended = self.suggestions.ended()
        counts = {state: sum(trial.state == state for trial in ended) for state in TrialState}
        parts = [
            f"{counts[TrialState.COMPLETE]} done, {counts[TrialState.PRUNED]} stopped early, "
            f"{counts[TrialState.FAIL]} failed, {len(self.suggestions.running)} running"
            + (f" of {self.budget.trials}" if self.budget.trials else "")
        ]
        best = self.suggestions.best()
        if best is not None:
            parts.append(f"best {self.metric} {best.values[0]:.4g} (trial {best.number})")
        left = self.left(len(ended))
        if left >= 1:
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)

    def left(self, ended: int) -> float:
        """Seconds until the budget is spent, as far as that can be told; else 0."""
        guesses = []
        if self.budget.seconds is not None:
            guesses.append(self.budget.seconds - self.seconds)
        new = ended - self._ended_before
        if self.budget.trials is not None and new > 0:
            pace = (time.monotonic() - self._started) / new
            guesses.append(pace * (self.budget.trials - ended))
        return max(0.0, min(guesses, default=0.0))


def gpus_of(suggestions: Suggestions, gpus_per_trial: float | str) -> float:
    """GPUs a trial. `auto` is a whole one for what gains from it, as no two trials of a search
    need the same memory; `--gpus-per-trial 0.25` puts four on each."""
    problem = suggestions.problem
    if not problem.experiment.on_gpu(problem.cell(problem.start).config):
        return 0.0
    return 1.0 if gpus_per_trial == "auto" else float(gpus_per_trial)


def run_search(session: Session, suggestions: Suggestions, budget: Budget) -> None:
    """Try what Optuna suggests until the budget is spent."""
    if suggestions.is_spent(budget):
        return
    problem = suggestions.problem
    gpus = gpus_of(suggestions, session.resources.gpus_per_trial)
    trials = SearchTrials(suggestions, session.data, budget, gpus, session.console)
    compared_after = rungs(problem.epochs)
    halving = Halving(problem.columns, problem.directions, compared_after)
    halving.replay(trial["curve"] for trial in suggestions.table())
    workers = count_workers(session.resources.cpus_per_trial, gpus)
    trials.say(f"{workers} trials at once; {trials.state()}")
    try:
        session.run(
            f"search_{problem.name}",
            Queue([], more=trials.next),
            trials,
            scheduler=halving,
            score_after=compared_after,
            workers=workers,
        )
    finally:
        trials.save_seconds()
