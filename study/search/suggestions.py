"""What to try next, and what is known: Optuna asked and told, in a database that outlives us.

Ray's own `OptunaSearch` begins anew with every run: trials that a dead driver has left count as
running for ever, and those stopped early as complete. Here a trial is one of Optuna's four states
from the first second: running, complete (its cell is on disk), pruned (stopped early), failed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from study.errors import BadInput
from study.grid import Cell
from study.search.problems import Problem
from study.store import Store

LOST = "lost"
"""The study's attribute with the numbers of trials whose driver died: they are tried again."""

STARTUP_TRIALS = 10
"""Trials before Optuna's sampler has enough to model; until then it draws at random."""


@dataclass(frozen=True)
class Budget:
    """How much a search may spend, over all the commands that continue it."""

    trials: int | None
    """Trials that end by themselves or are stopped early; None: no limit."""
    seconds: float | None
    """After so many no trial begins; None: no limit."""

    def is_spent(self, trials: int, seconds: float) -> bool:
        """Whether no further trial may begin after these."""
        enough = self.trials is not None and trials >= self.trials
        return enough or (self.seconds is not None and seconds >= self.seconds)


def open_storage(url: str, option: str) -> optuna.storages.RDBStorage:
    """The database at `url`, made if need be. Raises `BadInput` where that is impossible."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown, allowed = url, "sqlite:///FILE, postgresql://… or another URL of SQLAlchemy's"
    try:
        shown = make_url(url).render_as_string(hide_password=True)
        # A second process, such as optuna-dashboard, may hold the file for a moment.
        patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        return optuna.storages.RDBStorage(url, engine_kwargs=patience)
    except ArgumentError:
        raise BadInput(option, shown, f"is not a database's URL; it must be {allowed}") from None
    except (SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise BadInput(option, shown, f"can't be used ({reason})") from error


class Suggestions:
    """The Optuna study of one search."""

    def __init__(self, problem: Problem, store: Store, storage: Any, option: str) -> None:
        """Open the study, or begin it.

        Mark trials left running by a dead driver as failed, and queue them again. Safe because the
        caller holds the lock of the results folder. Raises `BadInput`, naming `option`, where the
        storage has another search of this name.
        """
        self.problem = problem
        self.store = store
        seed = int(problem.experiment.fixed.get("seed", 0))
        self.study = optuna.create_study(
            storage=storage,
            study_name=problem.name,
            directions=problem.directions,
            load_if_exists=True,
        )
        known = self.study.get_trials(deepcopy=False)
        self._same_search(option)
        # Multivariate: what a good rate is depends on the batch size. Seeded anew at every start,
        # as a sequence that begins again would only suggest what it did before.
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True,
            seed=seed + len(known),
        )  # fmt: skip
        self.distributions = {d.name: d.distribution() for d in problem.dimensions}
        self.running: dict[int, optuna.Trial] = {}
        self.cells: dict[int, Cell] = {}
        if not known:
            self._enqueue_start()
        for trial in known:
            if trial.state == TrialState.RUNNING:
                self._give_back(trial)

    def _same_search(self, option: str) -> None:
        facts, known = self.problem.facts(), self.study.user_attrs.get("search")
        if known is None:
            self.study.set_user_attr("search", facts)
            with warnings.catch_warnings():
                # An experimental call, for optuna-dashboard, which shows these beside the plots.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.set_metric_names(self.problem.columns)
            return
        for what, wanted in facts.items():
            if known.get(what) != wanted:
                raise BadInput(
                    option,
                    self.problem.name,
                    f"holds a search with other {what}: {_difference(known.get(what), wanted)}; "
                    "use another --out or --storage",
                )

    def _enqueue_start(self) -> None:
        """What the start has outside the space is left to Optuna."""
        start, dimensions = self.problem.start, self.problem.dimensions
        inside = {d.name: start[d.name] for d in dimensions if d.holds(start[d.name])}
        self.study.enqueue_trial(inside, user_attrs={"start": True})

    def _give_back(self, trial: FrozenTrial) -> None:
        """Mark a trial that nobody is running as failed, and queue its point again, whose cell
        goes on from its checkpoint."""
        lost = [*self.study.user_attrs.get(LOST, []), trial.number]
        self.study.set_user_attr(LOST, lost)
        self.study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            attributes = {"again": trial.number, **_kept(trial)}
            self.study.enqueue_trial(trial.params, user_attrs=attributes)

    # --- asking ------------------------------------------------------------------------------

    def next(self) -> int:
        """Begin another trial; its number, under which `cells` has what to compute."""
        trial = self.study.ask(self.distributions)
        cell = self.problem.cell(trial.params)
        trial.set_user_attr("cell", cell.id)
        self.running[trial.number], self.cells[trial.number] = trial, cell
        return trial.number

    # --- telling -----------------------------------------------------------------------------

    def report(self, number: int, epoch: int, value: float) -> None:
        """The metric after an epoch of a running trial."""
        trial = self.running[number]
        if len(self.problem.objectives) == 1:
            trial.report(value, epoch)
        else:  # for which Optuna has no intermediate values
            curve = {**trial.user_attrs.get("curve", {}), str(epoch): value}
            trial.set_user_attr("curve", curve)

    def complete(self, number: int) -> list[float]:
        """The trial's cell is done: its objectives are those on disk."""
        cell = self.cells[number]
        rows = self.store.rows({cell.id: cell.replicates})
        values = [float(rows[column].mean()) for column in self.problem.columns]
        trial = self.running[number]
        trial.set_user_attr("parameters", int(rows["parameters"].iloc[0]))
        trial.set_user_attr("seconds", float(rows["train_seconds"].mean()))
        trial.set_user_attr("spread", float(rows[self.problem.experiment.metric].std()))
        trial.set_user_attr("replicates", len(rows))
        self._tell(number, TrialState.COMPLETE, values)
        return values

    def stopped(self, number: int) -> None:
        """The trial was stopped early, having reported at least once."""
        self._tell(number, TrialState.PRUNED)

    def failed(self, number: int, reason: str) -> None:
        """The trial has no result, and wouldn't have one the next time."""
        self.running[number].set_user_attr("reason", reason)
        self._tell(number, TrialState.FAIL)

    def lost(self, number: int) -> None:
        """The trial was not finished, by no fault of its own: it is tried again."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        self.running.pop(number)
        self.cells.pop(number)
        self._give_back(frozen)

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        trial = self.running.pop(number)
        self.cells.pop(number)
        self.study.tell(trial, values, state)

    # --- what is known -----------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Spent on this search so far, by all commands that continued it."""
        return float(self.study.user_attrs.get("seconds", 0.0))

    def is_spent(self, budget: Budget) -> bool:
        """Whether no further trial may begin."""
        return budget.is_spent(len(self.ended()), self.seconds)

    def ended(self) -> list[FrozenTrial]:
        """The trials that count: complete, stopped early, or failed by themselves."""
        lost = set(self.study.user_attrs.get(LOST, []))
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.is_finished() and trial.number not in lost
        ]

    def best(self) -> FrozenTrial | None:
        """The complete trial with the best metric, the first objective; None where there is
        none."""
        complete = [trial for trial in self.ended() if trial.state == TrialState.COMPLETE]
        if "error" not in self.problem.objectives or not complete:
            return None
        at = self.problem.objectives.index("error")
        sign = 1 if self.problem.directions[at] == "minimize" else -1
        return min(complete, key=lambda trial: sign * trial.values[at])

    def table(self) -> list[dict[str, Any]]:
        """The trials that count, as JSON has them: `number`, `state`, `params`, `values`, `cell`,
        `curve` (a list of epoch and metric), and what else is known of a complete one."""
        lines = []
        for trial in self.ended():
            curve = trial.intermediate_values or trial.user_attrs.get("curve", {})
            known = {k: v for k, v in trial.user_attrs.items() if k != "curve"}
            lines.append(
                {
                    "number": trial.number,
                    "state": trial.state.name.lower(),
                    "params": trial.params,
                    "values": trial.values,
                    "curve": sorted([int(epoch), value] for epoch, value in curve.items()),
                    "began": trial.datetime_start.timestamp() if trial.datetime_start else None,
                    **known,
                }
            )
        return lines


def _kept(trial: FrozenTrial) -> dict[str, Any]:
    return {name: True for name in ("start",) if name in trial.user_attrs}


def _difference(known: Any, wanted: Any) -> str:
    """What differs, in a few words: `batch_size 32, not 64`."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        names = [n for n in {**known, **wanted} if known.get(n) != wanted.get(n)]
        parts = [
            f"{name} is {_short(known.get(name))}, asked for is {_short(wanted.get(name))}"
            for name in names
        ]
        return "; ".join(parts)
    return f"{_short(known)}, asked for is {_short(wanted)}"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "attributes" in value:
        attributes = value["attributes"]
        if "choices" in attributes:
            return " or ".join(map(str, attributes["choices"]))
        return f"{attributes['low']} to {attributes['high']}"
    return "not there" if value is None else str(value)
