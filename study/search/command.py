"""Command `study search`: run searches, score their winners on fresh seeds, write a preset."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

from optuna.trial import FrozenTrial

from study import presets
from study.errors import FAILED, BadInput, StoreError, nearest_existing, resolving
from study.experiments import EXPERIMENTS, Experiment, Preset, Selection
from study.grid import Cell
from study.run import Study, run_exclusively
from study.search.problems import Problem, rungs
from study.search.suggestions import Budget, Suggestions, open_storage
from study.store import Store
from study.store.lock import Hold
from study.store.places import Folder
from study.words import counted, mean_and_sd
from trainables.data import WHOLE, Dataset, Options


@dataclass(frozen=True)
class Winner:
    """The result of a search."""

    suggestions: Suggestions
    trial: FrozenTrial
    """The trial with the best metric."""
    fresh: list[list[Cell]]
    """Cells by experiment: winner and starting point on fresh seeds, and what they build on."""
    winner_cell: Cell
    """The winner in `fresh`."""
    start_cell: Cell
    """The starting point in `fresh`; the same cell if nothing better was found."""

    @property
    def problem(self) -> Problem:
        """The problem that was searched."""
        return self.suggestions.problem


@dataclass(frozen=True)
class SearchCommand:
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
        """Cells of the winners so far on fresh seeds, each after the cells that it builds on."""
        return [cell for winner in self.winners() for cells in winner.fresh for cell in cells]

    def starts(self) -> list[list[Cell]]:
        """Cells of the starting points, one list for each experiment."""
        problems = [suggestions.problem for suggestions in self.searches]
        groups = zip(*(problem.groups(problem.start) for problem in problems), strict=True)
        return [[cell for cells in group for cell in cells] for group in groups]


def search(study: Study, problems: list[Problem], arguments: argparse.Namespace) -> int:
    """Search, score the winners on fresh seeds, and report; return the exit code.

    Raises `BadInput` before anything is started.
    """
    store = study.store
    if not (isinstance(store.place, Folder) or arguments.storage):
        allowed = "can't hold the database of the trials; give --storage a URL of one"
        raise BadInput("--out", arguments.out, allowed)
    folder = store.place.path / "search" if isinstance(store.place, Folder) else Path()
    preset = arguments.save or folder / f"best-{study.selection.name}.toml"
    if arguments.save or not isinstance(store.place, Folder):
        check_save(preset)
    given = open_storage(arguments.storage, "--storage") if arguments.storage else None
    budget = Budget(arguments.trials or math.inf, 60 * (arguments.minutes or math.inf))
    command = SearchCommand(study, [], budget, arguments.fresh)

    def work(hold: Hold) -> int:
        store.tidy()
        with store.place.working_folder("search") as folder:
            option = "--storage" if given else "--out"
            storage = given or open_storage(folder / "optuna.db", option)
            command.searches.extend(Suggestions(p, store, storage, option) for p in problems)
            try:
                run_searches(command)
            finally:
                if not hold.lost and store.place.write_problem() is None:
                    for suggestions in command.searches:
                        save_search(command, suggestions)
        winners = command.winners()
        return conclude(command, winners, preset.absolute()) if winners else FAILED

    def summary() -> str:
        ended = sum(len(suggestions.ended()) for suggestions in command.searches)
        return f"{counted(ended, 'trial')} ended and kept"

    return run_exclusively(study, work, summary)


def check_save(path: Path) -> None:
    """Raise `BadInput` if no preset can be written to `path`: better now than after the search."""
    with resolving("--save", path):
        if path.is_dir():
            raise BadInput("--save", path, "is a folder; give the name of a file")
        existing = nearest_existing(path)
        if existing != path and not existing.is_dir():
            raise BadInput("--save", path, f"{existing} is a file, not a folder")
        try:
            # Try to write: root has every permission, even on a read-only file system.
            with existing.open("ab") if existing == path else TemporaryFile(dir=existing):
                pass
        except OSError as error:
            reason = f"{existing} can't be written to ({error.strerror})"
            raise BadInput("--save", path, reason) from error


def run_searches(command: SearchCommand) -> None:
    """Spend the budgets, and compute the winners on fresh seeds, unless both are done."""
    study, store, console = command.study, command.study.store, command.study.console
    name = study.selection.name
    console.print(f"search of {study.title}")
    for suggestions in command.searches:
        dimensions = ", ".join(dimension.name for dimension in suggestions.problem.dimensions)
        console.print(f"{suggestions.problem.name}: over {dimensions}")
    fresh = command.fresh_cells()
    spent = all(suggestions.is_spent(command.budget) for suggestions in command.searches)
    if spent and all(is_done(store, cell) for cell in fresh):
        exhausted = all(suggestions.is_exhausted() for suggestions in command.searches)
        more = "" if exhausted else ": the budget is spent; a larger one extends the search"
        console.print(f"nothing to compute{more}")
    else:
        # The page that grows during the search, and `study report`, need a plan.
        starts = command.starts()
        study.write_plan(f"search {name}", study.selection.experiments, starts)
        study.set_aside_damaged([*starts, fresh])
        compute(command, starts)
    for suggestions in command.searches:
        if suggestions.is_exhausted():
            console.print(f"{suggestions.problem.name}: every point of the space has been tried")
        if suggestions.best() is None:
            reasons = sorted({str(t["reason"]) for t in suggestions.table() if "reason" in t})
            why = "; ".join(reasons) or "none ran in full within the budget"
            console.print(f"{suggestions.problem.name}: no trial has a result: {why}", style="red")


def compute(command: SearchCommand, starts: list[list[Cell]]) -> None:
    """Run the trials on Ray, and the winners on fresh seeds."""
    from study.search.trials import run_search

    store, name = command.study.store, command.study.selection.name
    with command.study.session() as session:
        # First the cells that trials build on, such as a few-shot classifier's encoders.
        needed = [cell for cells in starts[:-1] for cell in cells]
        session.compute(name, needed, store.blocks())
        for suggestions in command.searches:
            run_search(session, suggestions, command.budget)
        finished, fresh = store.blocks(), command.fresh_cells()
        if any(cell.missing(finished) for cell in fresh):
            number = counted(command.fresh_replicates, "replicate")
            command.study.console.print(f"best and starting recipe on fresh seeds, {number} each:")
        session.compute(name, fresh, finished)


def conclude(command: SearchCommand, winners: list[Winner], path: Path) -> int:
    """Print the winners, write preset `path` and the report, and return the exit code."""
    study, store, console = command.study, command.study.store, command.study.console
    selection = study.selection
    plan = study.write_plan(f"search {selection.name}", *report_plan(selection, winners))
    history = [study.command, f"Data: {study.data.name}, fingerprint {study.data.fingerprint}."]
    for winner in winners:
        save_search(command, winner.suggestions, winner)
        name, found = winner.problem.name, sentences(store, winner)
        for sentence in found:
            console.print(f"{name}: {sentence}")
        trials = winner.suggestions.table()
        stopped = sum(trial["state"] == "pruned" for trial in trials)
        history.append(f"{name}: {counted(len(trials), 'trial')}, {stopped} stopped early.")
        history += [f"  {sentence}" for sentence in found]
    write_preset(path, selection, winners, study.data, comment="\n".join(history))
    again = run_command(selection.name, path, study.data_options, study.data_dir)
    console.print(f"preset: {path}; `{again}` takes it")
    return study.write_report(plan)


def run_command(
    name: str, preset: Path, options: Options = WHOLE, data_dir: Path | None = None
) -> str:
    """Shell command that runs `name` with a preset on the same data, from any folder."""
    words = ["study", "run", name, "--preset", str(preset.absolute())]
    if data_dir:
        words += ["--data-dir", str(data_dir.absolute())]
    for option, value in options.record().items():
        words.append(f"--{option.replace('_', '-')}")
        if option == "image_size":
            words.append("x".join(map(str, value)))
        elif option == "classes":
            words += value
        elif option != "grey":
            words.append(str(value))
    return shlex.join(words)


def save_search(
    command: SearchCommand, suggestions: Suggestions, winner: Winner | None = None
) -> None:
    """Write RESULTS/search/NAME.json, from which the report reads a search.

    The database may be on another host. Without a `winner`, the file keeps an earlier one.
    """
    store, problem = command.study.store, suggestions.problem
    if winner is None:
        try:
            known = store.searches().get(problem.name, {})
        except StoreError:  # a damaged file, or one of another version; this one replaces it
            known = {}
        outcome = {name: known.get(name) for name in ("winner", "winner_cell", "start_cell")}
    else:
        cells = {"winner_cell": winner.winner_cell, "start_cell": winner.start_cell}
        outcome = {name: c.id if is_done(store, c) else None for name, c in cells.items()}
        outcome["winner"] = winner.trial.number
    store.write_search(
        problem.name,
        {
            "name": problem.name,
            "dataset": command.study.data.name,
            **problem.identity(),
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


def find_winner(suggestions: Suggestions, replicates: int) -> Winner | None:
    """Winner of a search, with `replicates` on fresh seeds; None if no trial is complete.

    The best of many trials owes part of its score to the seeds that chose it.
    """
    problem, trial = suggestions.problem, suggestions.best()
    if trial is None:
        return None
    seed = int(problem.cell(problem.start).config["seed"])
    fresh = {"seed": seed + 1, "replicates": replicates}
    winner, start = (problem.groups({**p, **fresh}) for p in (trial.params, problem.start))
    groups = [
        list({cell.id: cell for cell in cells}.values())
        for cells in (w + s for w, s in zip(winner, start, strict=True))
    ]
    return Winner(suggestions, trial, groups, winner[-1][0], start[-1][0])


def is_done(store: Store, cell: Cell) -> bool:
    """True if the store has all replicates of a cell."""
    return not cell.missing(store.blocks())


def report_plan(
    selection: Selection, winners: Sequence[Winner]
) -> tuple[list[Experiment], list[list[Cell]]]:
    """Experiments and cells for the report: only those on fresh seeds."""
    experiments, groups = [], []
    for index, experiment in enumerate(selection.experiments):
        cells = {cell.id: cell for winner in winners for cell in winner.fresh[index]}
        axes = {
            axis: tuple(dict.fromkeys(cell.config[axis] for cell in cells.values()))
            for axis in experiment.axes
        }
        experiments.append(replace(experiment, axes=axes))
        groups.append(list(cells.values()))
    return experiments, groups


def sentences(store: Store, winner: Winner) -> list[str]:
    """Sentences on the winner: its recipe, its scores on old and fresh seeds, the epochs used."""
    experiment, trial = winner.problem.experiment, winner.trial
    params = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.params.items()
    )
    scores = [f"{trial.values[0]:.5f} on the seeds that chose it (n = {experiment.replicates})"]
    for name, cell in {
        "fresh seeds": winner.winner_cell,
        "the starting point, fresh seeds": winner.start_cell,
    }.items():
        if is_done(store, cell):
            values = store.rows({cell.id: cell.replicates})[experiment.metric]
            scores.append(f"{mean_and_sd(list(values))} on {name} (n = {len(values)})")
    used, total = epochs_used(winner.suggestions)
    return [
        f"best recipe (trial {trial.number}): {params}",
        f"{experiment.metric}: {'; '.join(scores)}",
        f"{counted(used, 'epoch')} of the {total} that all trials would take in full",
    ]


def epochs_used(suggestions: Suggestions) -> tuple[int, int]:
    """Epochs that the trials ran, and epochs if none had been stopped.

    Both exclude the epochs of an earlier stage, in which trials aren't compared.
    """
    before = suggestions.problem.epochs_before
    epochs = suggestions.problem.epochs[-1] - before
    used, trials = 0, suggestions.table()
    for trial in trials:
        if trial["state"] == "complete":
            used += epochs
        elif trial["curve"]:
            used += trial["curve"][-1][0] - before
    return used, epochs * len(trials)


def write_preset(
    path: Path, selection: Selection, winners: Sequence[Winner], data: Dataset, comment: str
) -> None:
    """Write a preset whose recipes are the winners'."""
    *needed, target = selection.experiments
    searched = [winner.problem.experiment for winner in winners]
    recipes = {}
    for winner in winners:
        config = winner.problem.cell(winner.trial.params).config
        names = dict.fromkeys([*winner.problem.experiment.fixed, *winner.trial.params])
        recipe = {name: config[name] for name in names if name not in ("seed", "latent_dim")}
        recipes[config["latent_dim"]] = recipe
    axes = {
        axis: tuple(dict.fromkeys(experiment.axes[axis][0] for experiment in searched))
        for axis in target.axes
    }
    # An option may have added an axis, such as the kind of network, that a preset doesn't know.
    added = {axis: axes.pop(axis)[0] for axis in axes.keys() - EXPERIMENTS[target.name].axes.keys()}
    dims = ", ".join(map(str, recipes))
    preset = Preset(
        description=f"found by `study search {selection.name}` on {data.name}, d = {dims}",
        dataset=data.name,
        axes={target.name: axes},
        fixed={e.name: {**e.fixed, "replicates": e.replicates} for e in needed}
        | {target.name: {**added, "replicates": searched[0].replicates}},
        recipes={e.name: e.recipes for e in needed if e.recipes} | {target.name: recipes},
    )
    presets.write(path, preset, comment)
