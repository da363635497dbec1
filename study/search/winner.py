"""The winner of a search: judged on fresh seeds, described in sentences, saved as a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import FrozenTrial

from study import presets
from study.experiments import Experiment, Preset, Selection
from study.grid import Cell
from study.search.problems import Problem
from study.search.suggestions import Suggestions
from study.store import Store
from study.words import counted, mean_and_sd
from trainables.data import Dataset


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
    used, whole = epochs_used(winner.suggestions)
    return [
        f"best recipe (trial {trial.number}): {params}",
        f"{experiment.metric}: {'; '.join(scores)}",
        f"{counted(used, 'epoch')} of the {whole} that all trials in full would take",
    ]


def epochs_used(suggestions: Suggestions) -> tuple[int, int]:
    """Epochs that the trials ran, and would have run if none had been stopped.

    Neither counts the epochs of an earlier stage, in which trials aren't compared.
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
    """Write a preset that makes the winners' cells, whatever else is on the grid."""
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
    dims = ", ".join(map(str, recipes))
    preset = Preset(
        description=f"found by `study search {selection.name}` on {data.name}, d = {dims}",
        dataset=data.name,
        axes={target.name: axes},
        fixed={e.name: {**e.fixed, "replicates": e.replicates} for e in needed}
        | {target.name: {"replicates": searched[0].replicates}},
        recipes={e.name: e.recipes for e in needed if e.recipes} | {target.name: recipes},
    )
    presets.write(path, preset, comment)
