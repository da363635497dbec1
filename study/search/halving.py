"""Which trials of a search go on: successive halving, for one objective and for several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.search.rungs import KEPT, RECENT

EPOCH = "epoch"
"""What `train` calls the epochs it reports."""

SO_FAR = {"train_seconds": "time_total_s"}
"""By column of a finished cell: what Tune reports of it while the cell is computed."""


class Halving(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020).

    At a rung a trial goes on if as few others beat it in everything as beat the best quarter of
    those that were there lately. With one objective that is the best quarter itself. With several,
    the number of those that dominate is Fonseca & Fleming's rank (1993): by the error alone, the
    small and quick networks that a Pareto front is made of would be stopped.
    """

    def __init__(
        self, columns: Sequence[str], directions: Sequence[str], rungs: Sequence[int]
    ) -> None:
        """`columns` and `directions` are the objectives, the error first; `rungs` are epochs.

        Past the last rung nothing stops a trial: at its end it writes its block.
        """
        super().__init__()
        self.signs = {
            SO_FAR.get(column, column): 1.0 if direction == "minimize" else -1.0
            for column, direction in zip(columns, directions, strict=True)
        }
        self.recorded: dict[int, dict[str, tuple[float, ...]]] = {rung: {} for rung in rungs}

    def replay(self, curves: Iterable[Sequence[tuple[int, float]]]) -> None:
        """Compare the next trials with what earlier runs of the same search have seen.

        `curves` are epochs and errors of each trial; with several objectives they say too little.
        """
        (column, *others) = self.signs
        for number, curve in enumerate(() if others else curves):
            for epoch, value in curve:
                self._goes_on(f"earlier-{number}", {EPOCH: epoch, column: value})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self._goes_on(trial.trial_id, result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def _goes_on(self, trial: str, result: Mapping[str, Any]) -> bool:
        reached = [rung for rung in self.recorded if rung <= result.get(EPOCH, 0)]
        if not reached or not set(self.signs) <= set(result):
            return True
        here = self.recorded[max(reached)]
        if trial in here:
            return True
        here[trial] = tuple(sign * result[name] for name, sign in self.signs.items())
        ranks = dominated_by(np.array(list(here.values())[-RECENT - 1 :]))
        return bool(ranks[-1] <= np.percentile(ranks, 100 / KEPT))


def dominated_by(points: np.ndarray) -> np.ndarray:
    """How many of `points` (N, K) are no worse than each in every column, and better in one."""
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    return (no_worse & better).sum(axis=0)
