"""`study search`: Optuna suggests, Ray Tune tries, ASHA stops; the winner becomes a preset."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from study import presets
from study.command_line.options import Selection
from study.errors import FAILED, INTERRUPTED, BadInput
from study.experiments import Experiment
from study.grid import Cell, record
from study.search.problems import groups_of, problems
from study.search.rungs import rungs
from study.search.suggestions import Budget, Suggestions, open_storage
from study.search.winner import Winner, comment, find_winners, preset_of, reported, sentences
from study.store import Store
from study.store.lock import alone_in
from study.store.storage import is_uri
from study.words import counted, duration, redacted
from trainables.data import Dataset


@dataclass(frozen=True)
class Search:
    """What one command searches."""

    arguments: argparse.Namespace
    """The command line's."""
    console: Console
    """Where to tell the user."""
    data: Dataset
    """What trials are computed on."""
    selection: Selection
    """The experiment, the last of its list, and those that it builds on."""
    store: Store
    """Where cells are kept."""
    budget: Budget
    """Of each of `every`."""
    every: list[Suggestions]
    """The searches, one a latent dimension."""

    def winners(self) -> list[Winner]:
        """What has been found so far."""
        return find_winners(self.selection, self.every, self.data, self.arguments.fresh)

    def starts(self) -> list[list[Cell]]:
        """The cells of the starting points, an experiment each."""
        data = self.data.fingerprint
        each = [groups_of(self.selection, one.problem, {}, data) for one in self.every]
        return [[cell for cells in group for cell in cells] for group in zip(*each, strict=True)]


def search(
    arguments: argparse.Namespace, console: Console, data: Dataset, selection: Selection
) -> tuple[Store, list[list[Cell]]] | int:
    """Search, and compute the winners once more; the store and the cells to report, or an exit
    code where there is nothing to report. Raises `BadInput` before anything is started."""
    store = Store(arguments.out)
    drafts = problems(arguments, data, selection)
    minutes = arguments.minutes
    budget = Budget(arguments.trials, None if minutes is None else 60 * minutes)
    if is_uri(arguments.out) and not arguments.storage:
        allowed = "can't hold the database of the trials; give its --storage"
        raise BadInput("--out", arguments.out, allowed)
    store.create()
    with alone_in(store.place), store.place.folder("search") as folder:
        store.tidy()
        option = "--storage" if arguments.storage else "--out"
        storage = open_storage(arguments.storage or f"sqlite:///{folder / 'optuna.db'}", option)
        every = [Suggestions(draft, store, storage, option) for draft in drafts]
        asked = Search(arguments, console, data, selection, store, budget, every)
        try:
            return _search(asked)
        except KeyboardInterrupt:
            ended = sum(len(suggestions.ended()) for suggestions in every)
            console.print(
                f"\ninterrupted: {counted(ended, 'trial')} ended and kept; the same command goes "
                "on from here"
            )
            return INTERRUPTED
        except Exception:
            # On a full disk whatever writes next fails, and each in words of its own.
            trouble = store.place.trouble()
            if trouble is None:
                raise
            console.print(f"\nfailed: {trouble}", style="red")
            return FAILED
        finally:
            if store.place.trouble() is None:
                for suggestions in every:
                    export(store, suggestions, data)


def _search(asked: Search) -> tuple[Store, list[list[Cell]]] | int:
    console, store, selection = asked.console, asked.store, asked.selection
    console.print(
        f"search of {selection.name} on {asked.data.name}, results in {asked.arguments.out}"
    )
    for suggestions in asked.every:
        names = ", ".join(dimension.name for dimension in suggestions.problem.dimensions)
        console.print(f"{suggestions.problem.name}: over {names}")
    again = {cell.id for winner in asked.winners() for cells in winner.fresh for cell in cells}
    spent = all(suggestions.is_spent(asked.budget) for suggestions in asked.every)
    if spent and again <= store.done():
        console.print("nothing to compute: the budget is spent; a larger one extends the search")
    else:
        # Trials only run where they find a plan, by which they know the driver's own folder.
        write_plan(asked, selection.experiments, asked.starts())
        compute(asked)
    for suggestions in asked.every:
        if suggestions.best() is None:
            reasons = sorted({str(t["reason"]) for t in suggestions.table() if "reason" in t})
            why = "; ".join(reasons) or "none ran in full within the budget"
            console.print(f"{suggestions.problem.name}: no trial has a result: {why}", style="red")
    winners = asked.winners()
    if not winners:
        return FAILED
    experiments, groups = reported(selection, winners)
    write_plan(asked, experiments, groups)
    for winner in winners:
        export(store, winner.suggestions, asked.data, winner)
        for sentence in sentences(store, winner):
            console.print(f"{winner.problem.name}: {sentence}")
    path = asked.arguments.save or default_preset(store, selection.name)
    how = comment(winners, asked.data, store, command())
    presets.write(path, preset_of(selection, winners, asked.data), how)
    console.print(f"preset: {path}; `study run {selection.name} --preset {path}` takes it")
    return store, groups


def default_preset(store: Store, name: str) -> Path:
    """Where a preset goes unless told otherwise: beside the trials, or, where these are on object
    storage, into the current folder."""
    place = store.place.where("search")
    return Path("." if is_uri(str(place)) else place) / f"best-{name}.toml"


def command() -> str:
    """What the user typed, without the password of a database."""
    return redacted(shlex.join(["study", *sys.argv[1:]]))


def write_plan(asked: Search, experiments: list[Experiment], groups: list[list[Cell]]) -> None:
    """Leave in the results folder what the report is about."""
    name, data_dir = f"search {asked.selection.name}", asked.arguments.data_dir
    asked.store.write_plan(record(name, command(), asked.data, data_dir, experiments, groups))


def compute(asked: Search) -> None:
    """Run the trials, and the winners once more, on Ray."""
    from study.cluster.nodes import require_shared
    from study.launch import Resources, cluster, share
    from study.search.trials import run_search

    given = asked.arguments
    wanted = Resources(given.address, given.cpus_per_trial, given.gpus_per_trial)
    started = time.monotonic()
    asked.console.print(f"starting Ray ({wanted.address}) …")
    with cluster(wanted) as resources:
        if given.address != "local":
            require_shared(asked.store, asked.console)
        shared = share(asked.data)
        for suggestions in asked.every:
            # What the trials build on, such as a few-shot classifier's encoders.
            start = groups_of(asked.selection, suggestions.problem, {}, asked.data.fingerprint)
            _compute_cells(asked, start[:-1], shared, resources)
            run_search(
                suggestions, asked.budget, shared, asked.data, asked.store, resources, asked.console
            )
        for winner in asked.winners():
            _compute_cells(asked, winner.fresh, shared, resources)
    asked.console.print(f"computed in {duration(time.monotonic() - started)}")


def _compute_cells(asked: Search, groups: list[list[Cell]], shared: Any, resources: Any) -> None:
    """Compute those of these cells that are missing, by experiment."""
    from study.launch import run_experiment

    store = asked.store
    for experiment, cells in zip(asked.selection.experiments, groups, strict=False):
        missing = [cell for cell in cells if cell.id not in store.done()]
        ready = [cell for cell in missing if cell.parent is None or cell.parent in store.done()]
        if ready:
            run_experiment(experiment, ready, shared, store, resources, asked.console)


def export(
    store: Store, suggestions: Suggestions, data: Dataset, winner: Winner | None = None
) -> None:
    """Write RESULTS/search/NAME.json, which is all that the report knows of a search: the
    database may be on another host."""
    problem, done = suggestions.problem, store.done()
    config = problem.cell(problem.start).config
    known = store.searches().get(problem.name, {})
    outcome = {name: known.get(name) for name in ("winner", "winner_cell", "start_cell")}
    if winner is not None:
        cells = {"winner_cell": winner.winner_cell, "start_cell": winner.start_cell}
        outcome = {name: cell if cell in done else None for name, cell in cells.items()}
        outcome["winner"] = winner.trial.number
    store.write_search(
        problem.name,
        {
            "name": problem.name,
            "dataset": data.name,
            **problem.facts(),
            "columns": problem.columns,
            "directions": problem.directions,
            "epochs": problem.epochs[-1],
            "epochs_before": problem.epochs_before,
            "replicates": config["replicates"],
            "rungs": rungs(problem.epochs),
            "seconds": suggestions.seconds,
            "trials": suggestions.table(),
            **outcome,
        },
    )
