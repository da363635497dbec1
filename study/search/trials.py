"""The trials of a search: Optuna suggests blocks to the queue and is told how they end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from optuna.trial import TrialState

from study.cluster.connect import count_workers
from study.launch import Session
from study.queue import Listener, Queue, Task
from study.search.halving import EPOCH, Halving
from study.search.problems import rungs
from study.search.suggestions import Budget, Suggestions
from study.words import duration, reason


def run_search(session: Session, suggestions: Suggestions, budget: Budget) -> None:
    """Run the trials that Optuna suggests, until the budget is spent or every point is tried."""
    if suggestions.is_spent(budget):
        return
    problem, gpus = suggestions.problem, session.resources.gpus_per_trial
    if not problem.experiment.on_gpu(problem.cell(problem.start).config):
        gpus = 0.0
    elif gpus == "auto":  # a whole one: trials of a search need different amounts of memory
        gpus = 1.0
    trials = SearchTrials(session, suggestions, budget, gpus)
    halving = Halving(problem.columns, problem.directions, rungs(problem.epochs))
    halving.replay(trial["curve"] for trial in suggestions.table())
    count = partial(count_workers, session.resources, gpus)
    trials.say(f"{count()} trials at once; {trials.state()}")
    try:
        session.run(
            f"search_{problem.name}",
            Queue([], more=trials.next),
            trials,
            count,
            scheduler=halving,
            score_after=rungs(problem.epochs),
        )
    finally:
        trials.save_seconds()


class SearchTrials(Listener):
    """Turns suggestions into the tasks of a queue, and records how they end."""

    def __init__(
        self, session: Session, suggestions: Suggestions, budget: Budget, gpus: float
    ) -> None:
        self.session = session
        self.suggestions = suggestions
        self.budget = replace(budget, trials=min(budget.trials, suggestions.problem.size))
        self.gpus = gpus
        self.metric = suggestions.problem.experiment.metric
        self.finished = session.store.blocks()
        self.numbers: dict[Task, int] = {}
        """Optuna's number of each task's trial."""
        self.epochs: dict[int, int] = {}
        """The last epoch reported, by trial number."""
        self._started = time.monotonic()
        self._seconds_before = suggestions.seconds
        self._ended_before = len(suggestions.ended())

    # --- suggesting tasks --------------------------------------------------------------------

    def next(self) -> Task | None:
        """The next trial's task; None if ended and running trials may use up the budget."""
        suggestions = self.suggestions
        while True:
            begun = len(suggestions.ended()) + len(suggestions.running)
            if self.budget.is_spent(begun, self._seconds()):
                return None
            if task := self._task(suggestions.begin()):
                return task

    def _task(self, number: int) -> Task | None:
        """The task of a trial. A trial with nothing to compute ends here."""
        suggestions, store = self.suggestions, self.session.store
        cell = suggestions.cell(number)
        missing = cell.missing(self.finished)
        if not missing:
            for block in store.verify([cell.id]):
                store.set_aside(block)
                missing = [range(cell.replicates)]
        if missing:
            task = Task(cell, range(missing[0].start, missing[-1].stop), self.gpus)
            self.numbers[task] = number
            return task
        self._complete("reused", number, ": its cell was finished")
        return None

    # --- events of the queue -----------------------------------------------------------------

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        number = self.numbers[task]
        epoch, value = result.get(EPOCH), result.get(self.metric)
        # A trial that is tried again may report an epoch a second time.
        if epoch is not None and value is not None and epoch > self.epochs.get(number, 0):
            self.epochs[number] = epoch
            self.suggestions.report(number, epoch, value)

    def done(self, task: Task, value: float | None) -> None:
        self.finished.setdefault(task.cell.id, []).append(task.replicates)
        self._complete("done  ", self.numbers[task])

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        number = self.numbers[task]
        self.session.store.place.delete(self.session.store.progress(task.block))
        if not result:  # it was interrupted, not stopped at a rung
            self.suggestions.requeue(number)
            return
        self.reported(task, result)
        self.suggestions.prune(number)
        epoch, metric = self.epochs.get(number, 0), result.get(self.metric, float("nan"))
        self._event(f"stopped trial {number} after epoch {epoch} ({self.metric} {metric:.4g})")

    def failed(self, task: Task, error: str) -> None:
        number, why = self.numbers[task], reason(error)
        self.suggestions.fail(number, why)
        self._event(f"failed  trial {number}: {why}")

    def say(self, text: str) -> None:
        self.session.console.print(f"{self.suggestions.problem.name}: {text}")

    # --- recording and printing --------------------------------------------------------------

    def _complete(self, word: str, number: int, note: str = "") -> None:
        values = self.suggestions.complete(number)
        columns = zip(self.suggestions.problem.columns, values, strict=True)
        objectives = ", ".join(f"{column} {value:.4g}" for column, value in columns)
        self._event(f"{word}  trial {number} {objectives}{note}")

    def _event(self, event: str) -> None:
        self.say(f"{event}  [{self.state()}]")
        self.save_seconds()

    def _seconds(self) -> float:
        """Seconds spent on the search, including earlier commands."""
        return self._seconds_before + time.monotonic() - self._started

    def save_seconds(self) -> None:
        """Record the seconds spent, for the commands that continue the search."""
        self.suggestions.study.set_user_attr("seconds", self._seconds())

    def state(self) -> str:
        """`12 done, 20 stopped early, 1 failed, 2 running of 40; best …; about 2 min left`."""
        budget, states = self.budget, [trial.state for trial in self.suggestions.ended()]
        parts = [
            f"{states.count(TrialState.COMPLETE)} done, "
            f"{states.count(TrialState.PRUNED)} stopped early, "
            f"{states.count(TrialState.FAIL)} failed, {len(self.suggestions.running)} running"
            + (f" of {budget.trials}" if budget.trials < math.inf else "")
        ]
        if best := self.suggestions.best():
            parts.append(f"best {self.metric} {best.values[0]:.4g} (trial {best.number})")
        left = budget.seconds - self._seconds()
        if new := len(states) - self._ended_before:
            seconds_per_trial = (time.monotonic() - self._started) / new
            left = min(left, seconds_per_trial * (budget.trials - len(states)))
        if 1 <= left < math.inf:
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)
