"""The trials of a search on Ray Tune: Optuna suggests, ASHA stops, cells are kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from study.launch import Resources  # first: it sets what Ray reads when it is imported

# isort: split
import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from study.adapter import CELL, PARENT, driver_code, run_cell
from study.experiments import Experiment
from study.faults.eviction import evictions_fail_their_trial
from study.search.halving import EPOCH, Halving
from study.search.rungs import rungs
from study.search.suggestions import Budget, Suggestions
from study.store import Store
from study.words import duration, reason
from trainables.contract import ConfigError, Diverged
from trainables.data import Dataset

DIVERGED = "diverged"
"""What a trial reports instead of a result where its settings make none."""

TRIES = 4
"""How often a trial is tried whose worker dies, or that fails by anything but its settings."""


def try_cell(config: Mapping[str, Any], **options: Any) -> None:
    """`run_cell`, for which settings that diverge are a finding and no failure."""
    try:
        run_cell(config, **options)
    except Diverged as error:
        tune.report({DIVERGED: str(error)})


class SearchProgress:
    """What the user sees: one line a trial, with the best so far and the time left."""

    def __init__(self, console: Console, suggestions: Suggestions, budget: Budget) -> None:
        self.console = console
        self.suggestions = suggestions
        self.budget = budget
        self.started = time.monotonic()
        self.earlier = suggestions.seconds
        self.ended_before = len(suggestions.ended())

    @property
    def seconds(self) -> float:
        """Spent on this search, earlier commands included."""
        return self.earlier + time.monotonic() - self.started

    def say(self, event: str) -> None:
        """One line: what happened, and the state of the search."""
        self.console.print(f"{self.suggestions.problem.name}: {event}  [{self.state()}]")

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
            metric = self.suggestions.problem.experiment.metric
            parts.append(f"best {metric} {best.values[0]:.4g} (trial {best.number})")
        left = self.left(len(ended))
        if left:
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)

    def left(self, ended: int) -> float:
        """Seconds until the budget is spent, as far as that can be told; else 0."""
        guesses = []
        if self.budget.seconds is not None:
            guesses.append(self.budget.seconds - self.seconds)
        new = ended - self.ended_before
        if self.budget.trials is not None and new > 0:
            pace = (time.monotonic() - self.started) / new
            guesses.append(pace * (self.budget.trials - ended))
        return max(0.0, min(guesses, default=0.0))


class AskTell(Searcher):
    """Between Tune, which runs trials, and Optuna, which suggests them and remembers."""

    def __init__(
        self, suggestions: Suggestions, data: Dataset, budget: Budget, follow: SearchProgress
    ) -> None:
        problem = suggestions.problem
        super().__init__(metric=problem.experiment.metric, mode=problem.experiment.best)
        self.suggestions = suggestions
        self.data = data
        self.budget = budget
        self.follow = follow
        self.numbers: dict[str, int] = {}
        self.epochs: dict[int, int] = {}
        """By trial: the last epoch it has reported."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves it; all that is worth keeping is in Optuna's database

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `__getstate__`."""

    # --- Tune asks ---------------------------------------------------------------------------

    def suggest(self, trial_id: str) -> Any:
        running = self.suggestions.running
        while True:
            begun = len(self.suggestions.ended()) + len(running)
            if self.budget.is_spent(begun, self.follow.seconds):
                # One that is running may yet be lost, and would have to be replaced.
                return None if running else Searcher.FINISHED
            suggestion = self.suggestions.next()
            if self._is_news(suggestion.number):
                self.numbers[trial_id] = suggestion.number
                cell = suggestion.cell
                return {**cell.config, CELL: cell.id, PARENT: cell.parent}

    def _is_news(self, number: int) -> bool:
        """Whether a trial has something to compute; if not, it is told and over."""
        suggestions = self.suggestions
        cell, store = suggestions.cells[number], suggestions.store
        module = suggestions.problem.experiment.settings_module()
        try:
            module.Config(**cell.config).check_data(self.data)
        except ConfigError as error:
            suggestions.failed(number, str(error))
            self.follow.say(f"failed  trial {number}: {error}")
            return False
        if any(other.id == cell.id for n, other in suggestions.cells.items() if n != number):
            suggestions.failed(number, f"another trial is computing the same cell {cell.id}")
            return False
        if cell.id not in store.done():
            return True
        if store.damaged([cell.id]):
            store.put_aside(cell.id)
            return True
        values = suggestions.complete(number)
        self.follow.say(f"reused  trial {number} {self._words(values)}: its cell was there")
        return False

    # --- Tune tells --------------------------------------------------------------------------

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._note(self.numbers[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error:  # else `Reasons` has more to say
            self._end(self.numbers[trial_id], result or {})

    def _note(self, number: int, result: Mapping[str, Any]) -> None:
        epoch, value = result.get(EPOCH), result.get(self.metric)
        # A trial that is tried again may report epochs for the second time.
        if epoch is not None and value is not None and epoch > self.epochs.get(number, 0):
            self.epochs[number] = epoch
            self.suggestions.report(number, epoch, value)

    def _end(self, number: int, result: Mapping[str, Any]) -> None:
        suggestions, store = self.suggestions, self.suggestions.store
        cell = suggestions.cells[number]
        if DIVERGED in result:
            suggestions.failed(number, str(result[DIVERGED]))
            self.follow.say(f"failed  trial {number}: {result[DIVERGED]}")
        elif cell.id in store.done():
            values = suggestions.complete(number)
            self.follow.say(f"done    trial {number} {self._words(values)}")
        elif result:
            self._note(number, result)
            suggestions.stopped(number)
            epoch = self.epochs.get(number, 0)
            self.follow.say(
                f"stopped trial {number} after epoch {epoch} "
                f"({self.metric} {result.get(self.metric, float('nan')):.4g})"
            )
        else:
            suggestions.lost(number)
        store.place.delete(store.progress(cell.id))
        suggestions.study.set_user_attr("seconds", self.follow.seconds)

    def fail(self, trial_id: str, error: str) -> None:
        """The trial has failed for the last time, by this error."""
        number = self.numbers[trial_id]
        why = reason(error)
        cell = self.suggestions.cells[number]
        self.suggestions.store.write_failure(cell.id, cell.config, error)
        self.suggestions.failed(number, why)
        self.follow.say(f"FAILED  trial {number}: {why}")

    def _words(self, values: list[float]) -> str:
        names = zip(self.suggestions.problem.columns, values, strict=True)
        return ", ".join(f"{name} {value:.4g}" for name, value in names)


class Reasons(Callback):
    """Tells Optuna why trials fail, which Tune tells callbacks and not searchers."""

    def __init__(self, ask_tell: AskTell) -> None:
        self.ask_tell = ask_tell

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.ask_tell.fail(trial.trial_id, str(trial.get_error() or "unknown"))


def gpus_of(experiment: Experiment, config: Mapping[str, Any], asked: float | str) -> float:
    """GPUs a trial. `auto` is a whole one for what gains from it, as no two trials of a search
    need the same memory; `--gpus-per-trial 0.25` puts four on each."""
    if not experiment.on_gpu(config):
        return 0.0
    return 1.0 if asked == "auto" else float(asked)


def at_once(resources: Resources, there: Mapping[str, float]) -> int:
    """How many trials fit into what the cluster has, so that nothing of it waits."""
    fits = [there.get("CPU", 1) / resources.cpus_per_trial]
    gpus = float(resources.gpus_per_trial)
    if gpus > 0:
        whole = there.get("GPU", 0)
        fits.append(whole // gpus if gpus >= 1 else whole * (1 / gpus // 1))
    return max(1, int(min(fits)))


def run_search(
    suggestions: Suggestions,
    budget: Budget,
    shared: ray.ObjectRef,
    data: Dataset,
    store: Store,
    resources: Resources,
    console: Console,
) -> None:
    """Try what Optuna suggests until the budget is spent. `shared` is `data` in Ray's store."""
    problem = suggestions.problem
    follow = SearchProgress(console, suggestions, budget)
    if suggestions.is_spent(budget):
        return
    config = problem.cell(problem.start).config
    gpus = gpus_of(problem.experiment, config, resources.gpus_per_trial)
    resources = replace(resources, gpus_per_trial=gpus)
    at = rungs(problem.epochs)
    chosen = Halving(problem.columns, problem.directions, at)
    chosen.replay(trial["curve"] for trial in suggestions.table())
    ask_tell = AskTell(suggestions, data, budget, follow)
    trainable = tune.with_resources(
        tune.with_parameters(
            partial(
                try_cell,
                trainable=problem.experiment.trainable,
                version=problem.experiment.settings_module().VERSION,
                code=driver_code(),
                results=str(store.folder),
                score_after=at,
            ),
            data=shared,
        ),
        {"cpu": resources.cpus_per_trial, "gpu": gpus},
    )
    count = at_once(resources, ray.cluster_resources())
    console.print(f"{problem.name}: {count} trials at once; {follow.state()}")
    # Tune writes its tables on the driver alone, so they need no shared storage while they grow.
    with store.place.folder("tune") as tables:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=ask_tell,
                scheduler=chosen,
                num_samples=-1,  # the budget ends it
                max_concurrent_trials=count,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"{problem.name}_{trial.config[CELL]}",
                trial_dirname_creator=lambda trial: trial.config[CELL],
            ),
            run_config=tune.RunConfig(
                name=f"search_{problem.name}_{time.strftime('%Y-%m-%d_%H-%M-%S')}",
                storage_path=str(tables),
                callbacks=[Reasons(ask_tell)],
                failure_config=tune.FailureConfig(max_failures=TRIES - 1),
                verbose=0,
            ),
        )
        try:
            with evictions_fail_their_trial():
                tuner.fit()
        finally:
            suggestions.study.set_user_attr("seconds", follow.seconds)
