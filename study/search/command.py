"""`study search`: Optuna suggests, Ray Tune tries, ASHA stops; the winner becomes a preset."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from study import presets
from study.errors import FAILED, BadInput
from study.grid import Cell
from study.run import Study, alone, ids, set_aside_damaged, write_report
from study.search.problems import Problem
from study.search.rungs import rungs
from study.search.suggestions import Budget, Suggestions, open_storage
from study.search.winner import (
    Winner,
    comment,
    find_winners,
    is_done,
    preset_of,
    reported,
    sentences,
)
from study.store.lock import Hold
from study.store.places import is_uri
from study.words import counted


@dataclass(frozen=True)
class Search:
    """What one command searches."""

    study: Study
    """Where, with what data, and with which resources."""
    every: list[Suggestions]
    """The searches, one a latent dimension."""
    budget: Budget
    """Of each of them."""
    fresh: int
    """Replicates of the winner on seeds that chose nothing."""

    def winners(self) -> list[Winner]:
        """What has been found so far."""
        return find_winners(self.every, self.fresh)

    def starts(self) -> list[list[Cell]]:
        """The cells of the starting points, an experiment each."""
        each = [one.problem.groups(one.problem.start) for one in self.every]
        return [[cell for cells in group for cell in cells] for group in zip(*each, strict=True)]


def search(study: Study, problems: list[Problem], arguments: argparse.Namespace) -> int:
    """Search, compute the winners once more, and report; return the exit code.

    Raises `BadInput` before anything is started.
    """
    store, console = study.store, study.console
    minutes = arguments.minutes
    budget = Budget(arguments.trials, None if minutes is None else 60 * minutes)
    if is_uri(arguments.out) and not arguments.storage:
        allowed = "can't hold the database of the trials; give its --storage"
        raise BadInput("--out", arguments.out, allowed)
    every: list[Suggestions] = []

    def work(hold: Hold) -> int:
        store.tidy()
        with store.place.working_folder("search") as folder:
            option = "--storage" if arguments.storage else "--out"
            url = arguments.storage or f"sqlite:///{folder / 'optuna.db'}"
            storage = open_storage(url, option)
            every.extend(Suggestions(problem, store, storage, option) for problem in problems)
            asked = Search(study, every, budget, arguments.fresh)
            try:
                winners = find(asked)
            finally:
                if not hold.lost and store.place.trouble() is None:
                    for suggestions in every:
                        export(asked, suggestions)
        if not winners:
            return FAILED
        return conclude(asked, winners, arguments.save)

    def summary() -> str:
        return f"{counted(sum(len(one.ended()) for one in every), 'trial')} ended and kept"

    return alone(store, console, work, summary)


def find(asked: Search) -> list[Winner]:
    """Spend the budget, and compute the winners on fresh seeds."""
    study, store, console = asked.study, asked.study.store, asked.study.console
    name = study.selection.name
    console.print(f"search of {name} on {study.data.name}, results in {store.address}")
    for suggestions in asked.every:
        names = ", ".join(dimension.name for dimension in suggestions.problem.dimensions)
        console.print(f"{suggestions.problem.name}: over {names}")
    fresh = [cell for winner in asked.winners() for cells in winner.fresh for cell in cells]
    spent = all(suggestions.is_spent(asked.budget) for suggestions in asked.every)
    if spent and all(is_done(store, cell) for cell in fresh):
        console.print("nothing to compute: the budget is spent; a larger one extends the search")
    else:
        # Trials only run where they find a plan, by which they know the driver's own folder.
        starts = asked.starts()
        study.write_plan(f"search {name}", study.selection.experiments, starts)
        set_aside_damaged(store, console, ids([*starts, fresh]))
        compute(asked)
    for suggestions in asked.every:
        if suggestions.best() is None:
            reasons = sorted({str(t["reason"]) for t in suggestions.table() if "reason" in t})
            why = "; ".join(reasons) or "none ran in full within the budget"
            console.print(f"{suggestions.problem.name}: no trial has a result: {why}", style="red")
    return asked.winners()


def compute(asked: Search) -> None:
    """Run the trials, and the winners once more, on Ray."""
    from study.search.trials import run_search

    store, name = asked.study.store, asked.study.selection.name
    with asked.study.session() as session:
        # What the trials build on, such as a few-shot classifier's encoders.
        needed = [cell for cells in asked.starts()[:-1] for cell in cells]
        session.compute(name, needed, store.blocks())
        for suggestions in asked.every:
            run_search(session, suggestions, asked.budget)
        fresh = [cell for winner in asked.winners() for cells in winner.fresh for cell in cells]
        session.compute(name, fresh, store.blocks())


def conclude(asked: Search, winners: list[Winner], path: Path | None) -> int:
    """Say what was found, write the preset and the report, and return the exit code."""
    study, store, console = asked.study, asked.study.store, asked.study.console
    selection = study.selection
    plan = study.write_plan(f"search {selection.name}", *reported(selection, winners))
    for winner in winners:
        export(asked, winner.suggestions, winner)
        for sentence in sentences(store, winner):
            console.print(f"{winner.problem.name}: {sentence}")
    path = path or default_preset(study)
    how = comment(winners, study.data, store, study.command)
    presets.write(path, preset_of(selection, winners, study.data), how)
    console.print(f"preset: {path}; `study run {selection.name} --preset {path}` takes it")
    return write_report(store, console, plan, damaged={}, only_if_changed=True)


def default_preset(study: Study) -> Path:
    """Where a preset goes unless told otherwise: beside the trials, or, where these are on object
    storage, into the current folder."""
    place = str(study.store.place.where("search"))
    return Path("." if is_uri(place) else place) / f"best-{study.selection.name}.toml"


def export(asked: Search, suggestions: Suggestions, winner: Winner | None = None) -> None:
    """Write RESULTS/search/NAME.json, which is all that the report knows of a search: the
    database may be on another host."""
    store, problem = asked.study.store, suggestions.problem
    known = store.searches().get(problem.name, {})
    outcome = {name: known.get(name) for name in ("winner", "winner_cell", "start_cell")}
    if winner is not None:
        cells = {"winner_cell": winner.winner_cell, "start_cell": winner.start_cell}
        outcome = {name: c.id if is_done(store, c) else None for name, c in cells.items()}
        outcome["winner"] = winner.trial.number
    store.write_search(
        problem.name,
        {
            "name": problem.name,
            "dataset": asked.study.data.name,
            **problem.facts(),
            "columns": problem.columns,
            "directions": problem.directions,
            "epochs": problem.epochs[-1],
            "epochs_before": problem.epochs_before,
            "replicates": problem.experiment.replicates,
            "rungs": rungs(problem.epochs),
            "seconds": suggestions.seconds,
            "trials": suggestions.table(),
            **outcome,
        },
    )
