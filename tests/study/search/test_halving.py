"""Trials stop at rungs, by a schedule worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from study.search.halving import Halving, dominated_by
from study.search.problems import rungs
from trainables.fewshot.settings import FREEZE, Config


@pytest.mark.parametrize(
    ("epochs", "at"),
    [(1, []), (2, [1]), (3, [1]), (4, [1, 3]), (9, [1, 3]), (10, [1, 3, 9]), (30, [3, 9, 27])],
)
def test_rungs_are_three_times_apart_and_none_is_the_end(epochs, at):
    assert rungs(range(1, epochs + 1)) == at


def test_rungs_follow_scored_epochs():
    """The second stage of `lp-ft`, after a first of 300 epochs; and passes of 50 epochs each."""
    assert rungs(range(301, 401)) == [310, 330, 390]
    assert rungs(range(50, 301, 50)) == [50, 150]
    assert rungs(range(250, 301, 50)) == [250]


@pytest.mark.parametrize("freeze", FREEZE)
@pytest.mark.parametrize("pretraining", ["plain", "augmented"])
def test_no_few_shot_trial_is_compared_at_its_end(freeze, pretraining):
    """A trial stopped there would save nothing and lose its cell."""
    for epochs, views in ((300, 50), (200, 50), (50, 50), (20, 50), (7, 3), (1, 1)):
        config = Config(
            14, 20, freeze, pretraining, epochs=epochs, pseudo_epochs=epochs, views=views
        )
        scored = config.scored_epochs
        assert set(rungs(scored)) <= set(scored[:-1])


def decide(chosen, name, **result):
    return chosen.on_trial_result(None, SimpleNamespace(trial_id=name), result)


def test_trial_outside_the_best_quarter_stops_at_a_rung():
    chosen = Halving(["val_mse"], ["minimize"], [1, 3])
    assert decide(chosen, "a", epoch=1, val_mse=0.2) == "CONTINUE"
    assert decide(chosen, "b", epoch=1, val_mse=0.1) == "CONTINUE"
    assert decide(chosen, "c", epoch=1, val_mse=0.3) == "STOP"
    # Past the last rung nothing stops a trial: at its end it writes its cell.
    for epoch in (4, 8, 9):
        assert decide(chosen, "b", epoch=epoch, val_mse=9.0) == "CONTINUE"
    assert decide(chosen, "b", val_mse=9.0) == "CONTINUE"


def test_second_best_of_three_stops():
    chosen = Halving(["val_mse"], ["minimize"], [1, 3])
    decide(chosen, "a", epoch=1, val_mse=0.2)
    decide(chosen, "b", epoch=1, val_mse=0.1)
    assert decide(chosen, "c", epoch=1, val_mse=0.15) == "STOP"


def test_accuracy_is_better_when_it_is_higher():
    chosen = Halving(["val_accuracy"], ["maximize"], [1, 3])
    assert decide(chosen, "a", epoch=1, val_accuracy=0.8) == "CONTINUE"
    assert decide(chosen, "b", epoch=1, val_accuracy=0.5) == "STOP"


def test_with_one_epoch_nothing_is_stopped():
    chosen = Halving(["val_mse"], ["minimize"], [])
    assert decide(chosen, "a", epoch=1, val_mse=0.1) == "CONTINUE"
    assert decide(chosen, "b", epoch=1, val_mse=0.9) == "CONTINUE"


def test_resumed_search_compares_with_earlier_trials():
    fresh, told = (Halving(["val_mse"], ["minimize"], [1, 3]) for _ in range(2))
    told.replay([[(1, 0.1), (2, 0.09)], [(1, 0.2)], []])
    assert decide(fresh, "new", epoch=1, val_mse=0.3) == "CONTINUE"
    assert decide(told, "new", epoch=1, val_mse=0.3) == "STOP"
    assert decide(told, "newer", epoch=1, val_mse=0.05) == "CONTINUE"


def test_dominated_by_counts_the_points_that_beat_each():
    points = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0], [4.0, 4.0]])
    assert dominated_by(points).tolist() == [0, 0, 2, 0, 4]


def test_several_objectives_keep_small_networks():
    chosen = Halving(["val_mse", "parameters"], ["minimize", "minimize"], [1, 3])
    assert decide(chosen, "large", epoch=1, val_mse=0.1, parameters=100) == "CONTINUE"
    assert decide(chosen, "small", epoch=1, val_mse=0.3, parameters=10) == "CONTINUE"
    assert decide(chosen, "worse", epoch=1, val_mse=0.4, parameters=100) == "STOP"
    assert decide(chosen, "large", epoch=2, val_mse=0.9, parameters=100) == "CONTINUE"
    assert decide(chosen, "small", epoch=1, val_mse=0.9, parameters=900) == "CONTINUE"  # again


@pytest.mark.parametrize("columns", [["val_accuracy"], ["val_accuracy", "parameters"]])
def test_trial_reporting_past_a_rung_is_compared_at_it(columns):
    """Passes over augmented views don't end at rungs."""
    chosen = Halving(columns, ["maximize", "minimize"][: len(columns)], [30, 90])
    point = {"parameters": 100}
    assert decide(chosen, "a", epoch=50, val_accuracy=0.8, **point) == "CONTINUE"
    assert decide(chosen, "b", epoch=25, val_accuracy=0.1, **point) == "CONTINUE"
    assert decide(chosen, "b", epoch=50, val_accuracy=0.7, **point) == "STOP"
    assert decide(chosen, "a", epoch=80, val_accuracy=0.1, **point) == "CONTINUE"
    assert decide(chosen, "a", epoch=90, val_accuracy=0.9, **point) == "CONTINUE"
    assert decide(chosen, "c", epoch=100, val_accuracy=0.1, **point) == "STOP"


def test_seconds_are_compared_by_tunes_count():
    chosen = Halving(["val_mse", "train_seconds"], ["minimize", "minimize"], [1, 3])
    assert decide(chosen, "quick", epoch=1, val_mse=0.3, time_total_s=1.0) == "CONTINUE"
    assert decide(chosen, "slow", epoch=1, val_mse=0.4, time_total_s=2.0) == "STOP"


def test_trials_are_compared_with_the_latest():
    """Ten poor trials, ten good ones: a trial that beats most, but few of the good ones, stops."""
    chosen = Halving(["val_mse"], ["minimize"], [1, 3])
    for number in range(20):
        value = (0.9 if number < 10 else 0.1) + number / 1000
        decide(chosen, f"{number}", epoch=1, val_mse=value)
    assert decide(chosen, "between", epoch=1, val_mse=0.5) == "STOP"
    assert decide(chosen, "good", epoch=1, val_mse=0.05) == "CONTINUE"
