"""Command `study search`: run the searches, judge the winners on fresh seeds, write a preset."""

from __future__ import annotations

import argparse
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from study.errors import FAILED, BadInput, resolving
from study.grid import Cell
from study.run import Study, run_exclusively
from study.search.problems import Problem, rungs
from study.search.suggestions import Budget, Suggestions, open_storage
from study.search.winner import Winner, find_winner, is_done, report_plan, sentences, write_preset
from study.store.lock import Hold
from study.store.places import Folder
from study.words import counted


@dataclass(frozen=True)
class Search:
    """All searches of one command."""

    study: Study
    """The command's data, store, resources and console."""
    searches: list[Suggestions]
    """The searches, one for each latent dimension."""
    budget: Budget
    """Budget of each search."""
    fresh_replicates: int
    """Number of replicates of each winner on fresh seeds."""

    def winners(self) -> list[Winner]:
        """Winners so far, of the searches that have a complete trial."""
        found = (find_winner(suggestions, self.fresh_replicates) for suggestions in self.searches)
        return [winner for winner in found if winner]

    def fresh_cells(self) -> list[Cell]:
        """Cells that judge the winners so far, each after the cells that it builds on."""
        return [cell for winner in self.winners() for cells in winner.fresh for cell in cells]

    def starts(self) -> list[list[Cell]]:
        """Cells of the starting points, one list for each experiment."""
        each = [one.problem.groups(one.problem.start) for one in self.searches]
        return [[cell for cells in group for cell in cells] for group in zip(*each, strict=True)]


def search(study: Study, problems: list[Problem], arguments: argparse.Namespace) -> int:
    """Search, judge the winners on fresh seeds, and report; return the exit code.

    Raises `BadInput` before anything is started.
    """
    store = study.store
    if not (isinstance(store.place, Folder) or arguments.storage):
        allowed = "can't hold the database of the trials; give its --storage"
        raise BadInput("--out", arguments.out, allowed)
    if arguments.save:
        check_save(arguments.save)
    given = open_storage(arguments.storage, "--storage") if arguments.storage else None
    budget = Budget(arguments.trials or math.inf, 60 * (arguments.minutes or math.inf))
    asked = Search(study, [], budget, arguments.fresh)

    def work(hold: Hold) -> int:
        store.tidy()
        with store.place.working_folder("search") as folder:
            option = "--storage" if given else "--out"
            storage = given or open_storage(folder / "optuna.db", option)
            asked.searches.extend(Suggestions(each, store, storage, option) for each in problems)
            try:
                find(asked)
            finally:
                if not hold.lost and store.place.trouble() is None:
                    for suggestions in asked.searches:
                        export(asked, suggestions)
        winners = asked.winners()
        return conclude(asked, winners, arguments.save) if winners else FAILED

    def summary() -> str:
        ended = sum(len(suggestions.ended()) for suggestions in asked.searches)
        return f"{counted(ended, 'trial')} ended and kept"

    return run_exclusively(study, work, summary)


def check_save(path: Path) -> None:
    """Raise `BadInput` if no preset file can be written to `path`, hours before it is written."""
    with resolving("--save", path):
        if path.is_dir():
            raise BadInput("--save", path, "is a folder; give the name of a file")
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        if existing != path and not existing.is_dir():
            raise BadInput("--save", path, f"{existing} is a file, not a folder")
        try:
            # Try to write: root has every permission, even on a read-only file system.
            with existing.open("ab") if existing == path else TemporaryFile(dir=existing):
                pass
        except OSError as error:
            reason = f"{existing} can't be written to ({error.strerror})"
            raise BadInput("--save", path, reason) from error


def find(asked: Search) -> None:
    """Spend the budgets, and compute the winners on fresh seeds."""
    study, store, console = asked.study, asked.study.store, asked.study.console
    name = study.selection.name
    console.print(f"search of {study.title}")
    for suggestions in asked.searches:
        dimensions = ", ".join(dimension.name for dimension in suggestions.problem.dimensions)
        console.print(f"{suggestions.problem.name}: over {dimensions}")
    fresh = asked.fresh_cells()
    spent = all(suggestions.is_spent(asked.budget) for suggestions in asked.searches)
    if spent and all(is_done(store, cell) for cell in fresh):
        exhausted = all(suggestions.is_exhausted() for suggestions in asked.searches)
        more = "" if exhausted else ": the budget is spent; a larger one extends the search"
        console.print(f"nothing to compute{more}")
    else:
        # The page that grows during the search, and `study report`, need a plan.
        starts = asked.starts()
        study.write_plan(f"search {name}", study.selection.experiments, starts)
        study.set_aside_damaged([*starts, fresh])
        compute(asked, starts)
    for suggestions in asked.searches:
        if suggestions.is_exhausted():
            console.print(f"{suggestions.problem.name}: every point of the space has been tried")
        if suggestions.best() is None:
            reasons = sorted({str(t["reason"]) for t in suggestions.table() if "reason" in t})
            why = "; ".join(reasons) or "none ran in full within the budget"
            console.print(f"{suggestions.problem.name}: no trial has a result: {why}", style="red")


def compute(asked: Search, starts: list[list[Cell]]) -> None:
    """Run the trials on Ray, and the winners on fresh seeds."""
    from study.search.trials import run_search

    store, name = asked.study.store, asked.study.selection.name
    with asked.study.session() as session:
        # First the cells that trials build on, such as a few-shot classifier's encoders.
        needed = [cell for cells in starts[:-1] for cell in cells]
        session.compute(name, needed, store.blocks())
        for suggestions in asked.searches:
            run_search(session, suggestions, asked.budget)
        session.compute(name, asked.fresh_cells(), store.blocks())


def conclude(asked: Search, winners: list[Winner], path: Path | None) -> int:
    """Print what was found, write the preset and the report, and return the exit code."""
    study, store, console = asked.study, asked.study.store, asked.study.console
    selection = study.selection
    plan = study.write_plan(f"search {selection.name}", *report_plan(selection, winners))
    history = [study.command, f"Data: {study.data.name}, fingerprint {study.data.fingerprint}."]
    for winner in winners:
        export(asked, winner.suggestions, winner)
        name, found = winner.problem.name, sentences(store, winner)
        for sentence in found:
            console.print(f"{name}: {sentence}")
        trials = winner.suggestions.table()
        stopped = sum(trial["state"] == "pruned" for trial in trials)
        history.append(f"{name}: {counted(len(trials), 'trial')}, {stopped} stopped early.")
        history += [f"  {sentence}" for sentence in found]
    if path is None:
        folder = store.place.path / "search" if isinstance(store.place, Folder) else Path()
        path = folder / f"best-{selection.name}.toml"
    write_preset(path, selection, winners, study.data, comment="\n".join(history))
    console.print(f"preset: {path}; `{run_command(selection.name, path)}` takes it")
    return study.write_report(plan)


def run_command(name: str, preset: Path) -> str:
    """Shell command that runs `name` with a preset, from any folder."""
    return shlex.join(["study", "run", name, "--preset", str(preset.absolute())])


def export(asked: Search, suggestions: Suggestions, winner: Winner | None = None) -> None:
    """Write RESULTS/search/NAME.json, all that the report reads of a search.

    The database may be on another host. Without a `winner`, an earlier command's is kept.
    """
    store, problem = asked.study.store, suggestions.problem
    if winner is None:
        known = store.searches().get(problem.name, {})
        outcome = {name: known.get(name) for name in ("winner", "winner_cell", "start_cell")}
    else:
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
