"""The Optuna study of a search, in a database that outlives the driver.

Ray's own `OptunaSearch` starts anew with every run: trials of a dead driver count as running for
ever, and trials stopped early as complete. Here each trial always has Optuna's correct state:
running, complete (its cell is in the store), pruned (stopped early) or failed.
"""

from __future__ import annotations

import math
import re
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from study.errors import BadInput
from study.grid import Cell
from study.search.problems import Problem
from study.store import Store
from study.words import redacted

LOCKED_SECONDS = 60.0
"""Seconds to wait for another process, such as optuna-dashboard, that holds an SQLite file."""


@dataclass(frozen=True)
class Budget:
    """Limits of a search, in total over all commands that continue it."""

    trials: float = math.inf
    """Trials that end by themselves or are stopped early."""
    seconds: float = math.inf
    """Seconds after which no trial begins."""

    def is_spent(self, trials: int, seconds: float) -> bool:
        """True if no further trial may begin."""
        return trials >= self.trials or seconds >= self.seconds


def open_storage(where: str | Path, option: str) -> optuna.storages.RDBStorage:
    """Open the database at a URL or in a file, or create it. Raises `BadInput`, naming `option`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    engine: dict[str, Any] = {}
    try:
        if isinstance(where, Path):
            # This URL only names the dialect: SQLAlchemy 2.0 and 2.1 read `%2F` and `?` in a URL
            # differently.
            shown, url = str(where), "sqlite:///optuna.db"
            engine["creator"] = partial(
                sqlite3.connect, where, timeout=LOCKED_SECONDS, check_same_thread=False
            )
        else:
            shown, url = re.sub(r"(?s).*@", "***@", where), where
            parsed = make_url(url)
            shown = redacted(parsed.render_as_string(hide_password=True))
            if parsed.get_backend_name() == "sqlite":
                engine["connect_args"] = {"timeout": LOCKED_SECONDS}
        template = url.replace("{", "{{").replace("}", "}}")  # Optuna formats it
        return optuna.storages.RDBStorage(template, engine_kwargs=engine)
    except (ArgumentError, ValueError):
        allowed = "sqlite:///FILE, postgresql://… or another URL of SQLAlchemy's"
        raise BadInput(option, shown, f"is not a database's URL; it must be {allowed}") from None
    except (SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise BadInput(option, shown, f"can't be used ({reason})") from error


class Suggestions:
    """The Optuna study of one problem."""

    def __init__(self, problem: Problem, store: Store, storage: Any, option: str) -> None:
        """Open the study, or begin it.

        Mark trials left running by a dead driver as failed, and queue them again. Safe because the
        caller holds the lock of the results folder, and trials name theirs. Raises `BadInput`,
        naming `option`, if the storage has another search of this name.
        """
        self.problem = problem
        self.store = store
        self.distributions = {d.name: d.distribution() for d in problem.dimensions}
        self.running: dict[int, optuna.Trial] = {}
        self.study = optuna.create_study(
            storage=storage,
            study_name=problem.name,
            directions=problem.directions,
            load_if_exists=True,
        )
        self._require_same_search(option)
        earlier = self.study.get_trials(deepcopy=False)
        # Multivariate, as a good learning rate depends on the batch size. Every start has another
        # seed, as the same seed would suggest the same points again.
        seed = int(problem.experiment.fixed.get("seed", 0)) + len(earlier)
        self.study.sampler = optuna.samplers.TPESampler(
            multivariate=True, constant_liar=True, seed=seed
        )
        if not earlier:
            # Optuna draws the settings whose starting value is outside the space.
            starts = ((d, problem.start[d.name]) for d in problem.dimensions)
            self.study.enqueue_trial({d.name: v for d, v in starts if d.contains(v)})
        for trial in earlier:
            # Another driver may run trials of the same search in a shared database.
            owner = trial.user_attrs.get("results", store.address)
            own = owner == store.address or option != "--storage"
            if own and trial.state == TrialState.RUNNING:
                self._try_again(trial)

    def _require_same_search(self, option: str) -> None:
        identity, known = self.problem.identity(), self.study.user_attrs.get("search")
        if known is None:
            self.study.set_user_attr("search", identity)
            with warnings.catch_warnings():
                # optuna-dashboard shows the names beside the plots; the call is experimental.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names(self.problem.columns)
            return
        for name, wanted in identity.items():
            if known.get(name) != wanted:
                difference = f"other {name}: {_difference(known.get(name), wanted)}"
                allowed = f"holds a search with {difference}; use another --out or --storage"
                raise BadInput(option, self.problem.name, allowed)

    # --- running trials ----------------------------------------------------------------------

    def begin(self) -> int:
        """Begin a trial at a new point, and return its number.

        A new point must exist: fewer than `Problem.size` trials are running or have ended.
        """
        known = {self._point(t.params): t.number for t in (*self.ended(), *self.running.values())}
        while True:
            trial = self.study.ask(self.distributions)
            point = self._point(trial.params)
            if point not in known:
                break
            trial.set_user_attr("repeats", known[point])
            self.study.tell(trial, state=TrialState.FAIL)
            # The sampler could repeat itself for ever: queue the most similar point instead.
            missing = (other for other in self.problem.points() if other not in known)
            if similar := min(missing, key=partial(_distance, point), default=None):
                self.study.enqueue_trial(dict(zip(self.distributions, similar, strict=True)))
        self.running[trial.number] = trial
        trial.set_user_attr("cell", self.cell(trial.number).id)
        trial.set_user_attr("results", self.store.address)
        return trial.number

    def cell(self, number: int) -> Cell:
        """The cell of a running trial."""
        return self.problem.cell(self.running[number].params)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the metric after an epoch."""
        trial = self.running[number]
        if len(self.problem.objectives) == 1:
            trial.report(value, epoch)
        else:  # Optuna has no intermediate values for several objectives
            curve = {**trial.user_attrs.get("curve", {}), str(epoch): value}
            trial.set_user_attr("curve", curve)

    def complete(self, number: int) -> list[float]:
        """End a trial whose cell is in the store; return its objectives."""
        cell = self.cell(number)
        rows = self.store.rows({cell.id: cell.replicates})
        values = [float(rows[column].mean()) for column in self.problem.columns]
        trial = self.running[number]
        trial.set_user_attr("parameters", int(rows["parameters"].iloc[0]))
        trial.set_user_attr("seconds", float(rows["train_seconds"].mean()))
        trial.set_user_attr("spread", float(rows[self.problem.experiment.metric].std()))
        trial.set_user_attr("replicates", len(rows))
        self._end(number, TrialState.COMPLETE, values)
        return values

    def prune(self, number: int) -> None:
        """End a trial that was stopped early, after at least one report."""
        self._end(number, TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that has no result and would fail again."""
        self.running[number].set_user_attr("reason", reason)
        self._end(number, TrialState.FAIL)

    def requeue(self, number: int) -> None:
        """End a trial that was interrupted, and queue its point again."""
        self._try_again(self.running.pop(number))

    def _point(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """The point of the space with these values."""
        return tuple(params[name] for name in self.distributions)

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self.study.tell(self.running.pop(number), values, state)

    def _try_again(self, trial: optuna.Trial | FrozenTrial) -> None:
        """End a lost trial as failed without a reason, and queue its point again.

        Its cell goes on from its checkpoint.
        """
        self.study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    # --- state of the search -----------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Seconds spent so far, by all commands that continued the search."""
        return float(self.study.user_attrs.get("seconds", 0.0))

    def is_exhausted(self) -> bool:
        """True if every point of the space has been tried."""
        return len(self.ended()) >= self.problem.size

    def is_spent(self, budget: Budget) -> bool:
        """True if no further trial may begin."""
        return self.is_exhausted() or budget.is_spent(len(self.ended()), self.seconds)

    def ended(self) -> list[FrozenTrial]:
        """The trials that count: complete, stopped early, or failed with a reason."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished() and not is_void(trial)]

    def best(self) -> FrozenTrial | None:
        """The complete trial with the best metric, which is the first objective."""
        complete = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        choose = min if self.problem.directions[0] == "minimize" else max
        return choose(complete, key=lambda trial: trial.values[0], default=None)

    def table(self) -> list[dict[str, Any]]:
        """The trials that count, as JSON. `curve` is a list of [epoch, metric]."""
        return [_as_json(trial) for trial in self.ended()]


def is_void(trial: FrozenTrial) -> bool:
    """True if a trial doesn't count: it was interrupted, or repeats the point of another.

    Such a trial failed without a reason.
    """
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def _distance(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Number of dimensions in which two points differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def _as_json(trial: FrozenTrial) -> dict[str, Any]:
    curve = trial.intermediate_values or trial.user_attrs.get("curve", {})
    return {
        **trial.user_attrs,
        "number": trial.number,
        "state": trial.state.name.lower(),
        "params": trial.params,
        "values": trial.values,
        "curve": sorted([int(epoch), value] for epoch, value in curve.items()),
        "began": trial.datetime_start.timestamp() if trial.datetime_start else None,
    }


def _difference(known: Any, wanted: Any) -> str:
    """`batch_size is 32, asked for is 64`, for each difference."""
    if not (isinstance(known, dict) and isinstance(wanted, dict)):
        return f"{_short(known)}, asked for is {_short(wanted)}"
    return "; ".join(
        f"{name} is {_short(known.get(name))}, asked for is {_short(wanted.get(name))}"
        for name in {**known, **wanted}
        if known.get(name) != wanted.get(name)
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):  # a distribution of Optuna's, as JSON
        attributes = value["attributes"]
        if "choices" in attributes:
            return " or ".join(map(str, attributes["choices"]))
        return f"{attributes['low']} to {attributes['high']}"
    return "not there" if value is None else str(value)
