"""Successive halving for one objective or several: which trials of a search go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

EPOCH = "epoch"
"""The key of the epoch in what `train` reports."""

RECENT = 10
"""Number of earlier trials that a trial at a rung is compared with. Optuna's suggestions improve
during a search: compared with all earlier trials, nearly every late one would go on. When the best
third of all trials went on, 40 trials of 9 epochs took 44 % of the epochs."""


class Halving(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020).

    A trial goes on from a rung if its rank is among the best quarter of the recent trials there.
    The rank is the number of trials that dominate it (Fonseca & Fleming 1993). Ranked by the error
    alone, the small and quick networks of a Pareto front would be stopped.

    After the last rung no trial is stopped, so that it writes its block at its end.
    """

    def __init__(
        self, columns: Sequence[str], directions: Sequence[str], rungs: Sequence[int]
    ) -> None:
        """`columns` and `directions` are the objectives, the error first; `rungs` are epochs."""
        super().__init__()
        # While a cell is computed, Tune's `time_total_s` stands for its `train_seconds`.
        names = ["time_total_s" if column == "train_seconds" else column for column in columns]
        signs = [1.0 if direction == "minimize" else -1.0 for direction in directions]
        self.signs = dict(zip(names, signs, strict=True))
        self.recorded: dict[int, dict[str, tuple[float, ...]]] = {rung: {} for rung in rungs}
        """The objectives by rung and trial, with signs such that less is better."""

    def replay(self, curves: Iterable[Sequence[tuple[int, float]]]) -> None:
        """Record the trials of earlier runs of the same search.

        Each curve is a trial's epochs and errors. With several objectives these aren't
        enough, and nothing is recorded.
        """
        if len(self.signs) == 1:
            (column,) = self.signs
            for number, curve in enumerate(curves):
                for epoch, value in curve:
                    self._goes_on(f"earlier-{number}", {EPOCH: epoch, column: value})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self._goes_on(trial.trial_id, result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def _goes_on(self, trial: str, result: Mapping[str, Any]) -> bool:
        """Record the result at the latest rung it has passed; True if the trial goes on."""
        passed = [rung for rung in self.recorded if rung <= result.get(EPOCH, 0)]
        if not passed or not self.signs.keys() <= result.keys():
            return True
        at_rung = self.recorded[max(passed)]
        if trial in at_rung:
            return True
        at_rung[trial] = tuple(sign * result[name] for name, sign in self.signs.items())
        ranks = dominated_by(np.array(list(at_rung.values())[-RECENT - 1 :]))
        return bool(ranks[-1] <= np.percentile(ranks, 25))


def dominated_by(points: np.ndarray) -> np.ndarray:
    """Number of points that dominate each of `points` (N, K).

    A point dominates another if it is no worse in any column and better in one.
    """
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return (no_worse & better).sum(axis=0)
