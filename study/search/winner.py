"""The winner of a search: judged on fresh seeds, said in sentences, kept as a preset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

from study.experiments import Experiment, Preset, Selection
from study.grid import Cell, gaps
from study.search.problems import Problem
from study.search.suggestions import Suggestions
from study.store import Store
from trainables.data import Dataset


@dataclass(frozen=True)
class Winner:
    """What a search has found."""

    problem: Problem
    """What was searched."""
    suggestions: Suggestions
    """All its trials."""
    trial: FrozenTrial
    """The one with the best metric."""
    fresh: list[list[Cell]]
    """Cells of the winner and of the starting point on seeds that chose nothing, after those
    that they build on: an experiment each."""
    winner_cell: Cell
    """The winner's among them."""
    start_cell: Cell
    """The starting point's; the same where nothing better was found."""


def find_winners(searches: list[Suggestions], replicates: int) -> list[Winner]:
    """What the searches have found that have found something."""
    return [
        _winner(suggestions, trial, replicates)
        for suggestions in searches
        if (trial := suggestions.best()) is not None
    ]


def _winner(suggestions: Suggestions, trial: FrozenTrial, replicates: int) -> Winner:
    """The winner and the starting point on fresh seeds: the best of many owes part of its score
    to the seeds it was chosen by."""
    problem = suggestions.problem
    seed = int(problem.cell(problem.start).config["seed"])
    fresh = {"seed": seed + 1, "replicates": replicates}
    both = [problem.groups({**params, **fresh}) for params in (trial.params, problem.start)]
    groups = [
        list({cell.id: cell for cell in (*ours, *theirs)}.values())
        for ours, theirs in zip(*both, strict=True)
    ]
    return Winner(problem, suggestions, trial, groups, both[0][-1][0], both[1][-1][0])


def reported(
    selection: Selection, found: list[Winner]
) -> tuple[list[Experiment], list[list[Cell]]]:
    """The experiments and cells that the report is about: those on fresh seeds."""
    experiments, groups = [], []
    for index, experiment in enumerate(selection.experiments):
        cells = {cell.id: cell for one in found for cell in one.fresh[index]}
        axes = {
            axis: tuple(dict.fromkeys(cell.config[axis] for cell in cells.values()))
            for axis in experiment.axes
        }
        experiments.append(replace(experiment, axes=axes))
        groups.append(list(cells.values()))
    return experiments, groups


def is_done(store: Store, cell: Cell) -> bool:
    """Whether all replicates of a cell are there."""
    return not gaps(cell.replicates, store.blocks().get(cell.id, ()))


def scores(store: Store, cell: Cell, metric: str) -> tuple[float, float, int]:
    """Mean, standard deviation and number of the replicates of a cell."""
    values = store.rows({cell.id: cell.replicates})[metric]
    return float(values.mean()), float(values.std()), len(values)


def sentences(store: Store, one: Winner) -> list[str]:
    """What was found, with the score that chose it beside the one that judges it."""
    metric = one.problem.experiment.metric
    selected = one.trial.values[one.problem.objectives.index("error")]
    params = " ".join(f"{k}={_short(v)}" for k, v in one.trial.params.items())
    lines = [f"best recipe (trial {one.trial.number}): {params}"]
    said = [f"{selected:.5f} on the seeds that chose it (n = {_replicates(one)})"]
    for name, cell in (("fresh seeds", one.winner_cell), ("the starting point, fresh seeds",
                                                          one.start_cell)):  # fmt: skip
        if is_done(store, cell):
            mean, deviation, count = scores(store, cell, metric)
            said.append(f"{mean:.5f} ± {deviation:.5f} SD on {name} (n = {count})")
    used, whole = epochs_used(one.suggestions)
    lines.append(f"{metric}: {'; '.join(said)}")
    lines.append(f"{used} epochs of the {whole} that all trials in full would take")
    return lines


def epochs_used(suggestions: Suggestions) -> tuple[int, int]:
    """Epochs that the trials ran, and that they would have run had none been stopped; those of a
    stage before the one in which they are compared not counted."""
    before = suggestions.problem.epochs_before
    epochs = suggestions.problem.epochs[-1] - before
    trials = suggestions.table()
    spent = sum(
        epochs
        if trial["state"] == "complete"
        else max((epoch for epoch, _ in trial["curve"]), default=before) - before
        for trial in trials
    )
    return spent, epochs * len(trials)


def _replicates(one: Winner) -> int:
    return one.problem.experiment.replicates


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def preset_of(selection: Selection, found: list[Winner], data: Dataset) -> Preset:
    """The preset that makes the winners' cells, whatever else there is on the grid."""
    recipes = {}
    for one in found:
        config = one.problem.cell(one.trial.params).config
        dim = config["latent_dim"]
        names = [*one.problem.experiment.fixed, *one.trial.params]
        skipped = ("seed", "latent_dim")
        recipes[dim] = {n: config[n] for n in dict.fromkeys(names) if n not in skipped}
    target = selection.experiments[-1]
    axes = {
        axis: tuple(dict.fromkeys(one.problem.experiment.axes[axis][0] for one in found))
        for axis in target.axes
    }
    fixed = {e.name: {**e.fixed, "replicates": e.replicates} for e in selection.experiments}
    fixed[target.name] = {"replicates": _replicates(found[0])}
    above = {e.name: e.recipes for e in selection.experiments[:-1] if e.recipes}
    return Preset(
        description=f"found by `study search {selection.name}` on {data.name}, d = "
        + ", ".join(map(str, recipes)),
        dataset=data.name,
        axes={target.name: axes},
        fixed=fixed,
        recipes={**above, target.name: recipes},
    )


def comment(found: list[Winner], data: Dataset, store: Store, command: str) -> str:
    """The comment at the top of a preset: how it was found."""
    lines = [command, f"Data: {data.name}, fingerprint {data.fingerprint}."]
    for one in found:
        trials = one.suggestions.table()
        stopped = sum(trial["state"] == "pruned" for trial in trials)
        lines.append(f"{one.problem.name}: {len(trials)} trials, {stopped} stopped early.")
        lines += [f"  {sentence}" for sentence in sentences(store, one)]
    return "\n".join(lines)
