"""Searches of spaces with few points: each point is one trial, and the last one ends the search.

Without Ray: the queue's blocks are written, not computed.
"""

import io
from functools import partial
from math import inf
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from analysis.search import epochs_used as epochs_of_report
from study.experiments import AUTOENCODER
from study.grid import override
from study.queue import Queue
from study.run import Study
from study.search import command
from study.search.command import epochs_used
from study.search.problems import Problem
from study.search.spaces import Choice, Real, Steps
from study.search.suggestions import Budget, Suggestions
from study.search.trials import SearchTrials
from study.store import Store
from trainables.contract import Outcome

KERNELS = (Choice("kernel", (3, 5)),)
WIDTHS = (Steps("width", 8, 24, step=8), *KERNELS)


class Search:
    """A search of some dimensions, with `workers` trials at once."""

    def __init__(self, store, storage, dimensions=KERNELS, workers=2, error=None):
        axes, start = (
            {"latent_dim": (2,), "depth": (1,)},
            {"width": 8, "kernel": 3, "optimiser": "adamw"},
        )
        experiment = override(AUTOENCODER, axes, {"epochs": 4, "replicates": 1, "width": 8})
        start = {dimension.name: start.get(dimension.name, 0.01) for dimension in dimensions}
        self.problem = Problem("autoencoder-d2", experiment, dimensions, start, (), "0" * 16)
        self.store = store
        self.suggestions = Suggestions(self.problem, self.store, storage, "--out")
        self.workers, self.error = workers, error
        self.printed = io.StringIO()
        self.computed = []

    def run(self, trials):
        """Spend the budget."""
        session = SimpleNamespace(
            store=self.store, console=Console(file=self.printed, soft_wrap=True)
        )
        listener = SearchTrials(session, self.suggestions, Budget(trials), 0.0)
        queue, running = Queue([], more=listener.next), []
        while True:
            while len(running) < self.workers and (tasks := queue.take(self.workers)):
                running += tasks
            if not running:
                return self.states()
            task = running.pop(0)
            self.computed.append(task.cell.id)
            if self.error:
                queue.drop(task)
                listener.failed(task, self.error)
                continue
            values = {"val_mse": 0.1, "parameters": 7, "train_seconds": 2.0}
            outcome = Outcome([{"replicate": 0, **values}])
            self.store.write_block(task.block, task.cell.config, None, outcome, {})
            queue.finish(task)
            listener.done(task, 0.1)

    def states(self):
        return [trial.state for trial in self.suggestions.ended()]


@pytest.fixture
def make_search(tmp_path):
    """Opens a search; the second time the same one."""
    store, storage = Store(tmp_path), optuna.storages.InMemoryStorage()
    store.create()
    return partial(Search, store, storage)


REPEATED = {"width": 16, "kernel": 5, "optimiser": "muon"}


class Repeating(optuna.samplers.RandomSampler):
    """A sampler that always suggests the same point."""

    def sample_independent(self, study, trial, name, distribution):
        return REPEATED[name]


def test_search_ends_after_one_trial_per_point(make_search):
    search = make_search()
    assert search.run(trials=100) == [TrialState.COMPLETE] * 2
    assert len(search.computed) == len(set(search.computed)) == 2
    assert search.suggestions.is_exhausted()
    assert "2 done, 0 stopped early, 0 failed, 0 running of 2; best" in search.printed.getvalue()


def test_budget_of_minutes_ends_with_the_last_point(make_search):
    assert len(make_search().run(trials=inf)) == 2


def test_repeated_point_is_no_trial_and_saves_no_epochs(make_search):
    search = make_search()
    search.run(trials=100)
    assert epochs_used(search.suggestions) == (8, 8)
    content = {"columns": ["val_mse"], "epochs": 4, "dimensions": {}}
    assert epochs_of_report({**content, "trials": search.suggestions.table()}) == (8, 8)


def test_smaller_budget_leaves_points_for_a_larger_one(make_search):
    assert len(make_search(WIDTHS).run(trials=4)) == 4
    larger = make_search(WIDTHS)
    assert not larger.suggestions.is_exhausted()
    assert len(larger.run(trials=100)) == 6
    assert len(larger.computed) == 2


def test_exhausted_search_computes_nothing_more(make_search):
    make_search().run(trials=100)
    again = make_search()
    before = len(again.suggestions.study.trials)
    assert again.suggestions.is_spent(Budget(1000))
    assert len(again.run(trials=1000)) == 2
    assert again.computed == []
    assert len(again.suggestions.study.trials) == before


@pytest.mark.parametrize(
    "only", [Choice("kernel", (3,)), Steps("width", 8, 8), Real("alpha", 1, 1)]
)
def test_space_of_one_point_has_a_size(only):
    assert Problem("", AUTOENCODER, (only,), {}, (), "").size == 1


def test_one_point_is_one_trial(make_search):
    assert len(make_search((Choice("kernel", (3,)),)).run(trials=9)) == 1


def test_failed_points_count_as_tried(make_search):
    search = make_search(error="Diverged: the training loss")
    assert search.run(trials=100) == [TrialState.FAIL] * 2
    assert len(search.computed) == 2
    assert {line["reason"] for line in search.suggestions.table()} == {
        "Diverged: the training loss"
    }
    assert make_search().suggestions.is_exhausted()


def test_repeating_sampler_does_not_stall_the_search(make_search):
    """Missing points are enumerated; each repetition is one line of Optuna's table, no more."""
    search = make_search(WIDTHS)
    search.suggestions.study.sampler = Repeating()
    assert len(search.run(trials=100)) == 6
    assert len(search.suggestions.study.trials) <= 2 * 6


def test_repeated_point_is_replaced_by_the_nearest(make_search):
    dimensions = (Choice("optimiser", ("adamw", "muon")), *WIDTHS)
    suggestions = make_search(dimensions).suggestions
    suggestions.study.sampler = Repeating()
    numbers = [suggestions.begin() for _ in range(6)]
    points = [suggestions.running[number].params for number in numbers[1:]]
    differences = [len(point.items() - REPEATED.items()) for point in points]
    assert differences == [0, 1, 1, 1, 1]


def test_interrupted_trial_is_retried_and_counts_once(make_search):
    """Also while all other points have ended or are running."""
    search = make_search()
    first, second = search.suggestions.begin(), search.suggestions.begin()
    cell = search.suggestions.cell(first)
    search.suggestions.requeue(first)
    again = search.suggestions.begin()
    assert search.suggestions.cell(again).id == cell.id
    assert sorted(search.suggestions.running) == [second, again]


def test_point_seen_only_as_repetition_is_tried(make_search):
    """The trial that it repeated was interrupted."""
    old = make_search()
    repetition = optuna.create_trial(
        state=TrialState.FAIL, params={"kernel": 3}, distributions=old.suggestions.distributions
    )
    old.suggestions.study.add_trial(repetition)
    assert len(make_search().run(trials=5)) == 2


def test_space_with_a_continuous_dimension_has_no_end(make_search):
    search = make_search((Real("learning_rate", 1e-3, 1e-1), *KERNELS))
    assert search.problem.size == inf
    assert list(search.problem.points()) == []
    assert len(search.run(trials=5)) == 5
    assert not search.suggestions.is_exhausted()


def find_output(search, monkeypatch):
    """What `find` prints of a search that computes nothing."""
    monkeypatch.setattr(command, "compute", lambda asked, starts: None)
    console = Console(file=io.StringIO(), soft_wrap=True)
    study = SimpleNamespace(
        store=search.store,
        console=console,
        data=SimpleNamespace(name="digits"),
        selection=SimpleNamespace(name="autoencoder", experiments=[]),
        write_plan=lambda *plan: None,
        title="",
    )
    study.set_aside_damaged = lambda groups: Study.set_aside_damaged(study, groups)
    command.run_searches(
        command.SearchCommand(study, [search.suggestions], Budget(100), fresh_replicates=1)
    )
    return console.file.getvalue().splitlines()[2:]


TRIED = "autoencoder-d2: every point of the space has been tried"


def test_exhausted_space_is_reported(make_search, monkeypatch):
    search = make_search(WIDTHS)
    search.run(trials=5)
    assert find_output(search, monkeypatch) == []
    search.run(trials=6)
    assert find_output(search, monkeypatch) == [TRIED]


def test_space_where_all_points_fail_says_why(make_search, monkeypatch):
    search = make_search(error="Diverged: the training loss")
    search.run(trials=100)
    assert find_output(search, monkeypatch) == [
        "nothing to compute",
        TRIED,
        "autoencoder-d2: no trial has a result: Diverged: the training loss",
    ]
    assert search.store.blocks() == {}
