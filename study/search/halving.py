"""Which trials of a search go on: successive halving, for one objective and for several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from study.search.rungs import KEPT, RECENT

EPOCH = "epoch"
"""What `train` calls the epochs it reports."""

SO_FAR = {"train_seconds": "time_total_s"}
"""By column of a finished cell: what Tune reports of it while the cell is computed."""


def scheduler(
    columns: Sequence[str], directions: Sequence[str], at: Sequence[int]
) -> TrialScheduler:
    """What stops trials that report the `columns`, the first of them the error, after the epochs
    `at`, or as soon later as they do."""
    if not at:
        return FIFOScheduler()
    if len(columns) == 1:
        chosen = ASHAScheduler(
            time_attr=EPOCH,
            metric=columns[0],
            mode="min" if directions[0] == "minimize" else "max",
            max_t=at[-1] + 1,
            # A trial past the last rung runs to its end, where it writes its cell.
            stop_last_trials=False,
        )
        chosen._brackets = [RecentBracket(at)]
        return chosen
    signs = [1.0 if direction == "minimize" else -1.0 for direction in directions]
    reported = [SO_FAR.get(column, column) for column in columns]
    return ParetoHalving(dict(zip(reported, signs, strict=True)), at)


class RecentBracket(_Bracket):
    """Ray's, with rungs of our own, and a bar that rises with the suggestions."""

    def __init__(self, at: Sequence[int]) -> None:
        super().__init__(at[0], at[-1], KEPT, 0, stop_last_trials=False)
        self._rungs = [(rung, {}) for rung in reversed(at)]

    def cutoff(self, recorded: dict[str, float]) -> Any:
        return super().cutoff(dict(list(recorded.items())[-RECENT:]))


def replay(
    chosen: TrialScheduler, column: str, curves: Iterable[Sequence[tuple[int, float]]]
) -> None:
    """Tell a new ASHA what earlier runs of the same search have seen at its rungs, so that its
    first trials are compared with theirs: the metric `column` after each epoch of each trial."""
    if isinstance(chosen, ASHAScheduler):
        nobody: Any = None  # ASHA asks nothing of the controller
        for number, curve in enumerate(curves):
            trial: Any = SimpleNamespace(trial_id=f"earlier-{number}")
            chosen.on_trial_add(nobody, trial)
            for epoch, value in curve:
                chosen.on_trial_result(nobody, trial, {EPOCH: epoch, column: value})


class ParetoHalving(FIFOScheduler):
    """Successive halving for several objectives: at a rung, a trial goes on if as few others
    beat it in everything as beat the best quarter of those that were there lately.

    By the error alone, the small and quick networks that a Pareto front is made of would be
    stopped. The number of those that dominate is Fonseca & Fleming's rank (1993).
    """

    def __init__(self, signs: dict[str, float], at: Sequence[int]) -> None:
        """`signs`: by column, +1 where less is better and −1 where more is; the error first."""
        super().__init__()
        self.signs = signs
        self.recorded: dict[int, dict[str, tuple[float, ...]]] = {rung: {} for rung in at}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        reached = [rung for rung in self.recorded if rung <= result.get(EPOCH, 0)]
        if not reached or not set(self.signs) <= set(result):
            return TrialScheduler.CONTINUE
        here = self.recorded[max(reached)]
        if trial.trial_id in here:
            return TrialScheduler.CONTINUE
        point = tuple(sign * result[name] for name, sign in self.signs.items())
        here[trial.trial_id] = point
        ranks = dominated_by(np.array(list(here.values())[-RECENT - 1 :]))
        fine = ranks[-1] <= np.percentile(ranks, 100 / KEPT)
        return TrialScheduler.CONTINUE if fine else TrialScheduler.STOP


def dominated_by(points: np.ndarray) -> np.ndarray:
    """How many of `points` (N, K) are no worse than each in every column, and better in one."""
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return (no_worse & better).sum(axis=0)
