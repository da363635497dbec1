"""The trials of a search in a real database, without Ray."""

import sqlite3
from math import inf

import optuna
import pytest
from optuna.trial import TrialState

from study.errors import BadInput
from study.experiments import AUTOENCODER
from study.grid import override, plan
from study.search.problems import Problem
from study.search.spaces import Choice, Real, Steps
from study.search.suggestions import Budget, Suggestions, open_storage
from study.store import Block, Store
from tests.names import NASTY_NAMES
from trainables.contract import Outcome

DATA = "0123456789abcdef"
DIMENSIONS = (Real("learning_rate", 1e-3, 1e-1), Steps("width", 8, 32, step=8),
              Choice("batch_size", (32, 64)))  # fmt: skip


def problem(dimensions=DIMENSIONS, start=None, **fixed):
    experiment = override(
        AUTOENCODER,
        {"latent_dim": (14,), "depth": (3,), "batch_size": (32,)},
        {"epochs": 4, "replicates": 2, **fixed},
    )
    begin = {"learning_rate": 1e-2, "width": 16, "batch_size": 32} if start is None else start
    return Problem("autoencoder-d14", experiment, dimensions, begin, (), DATA)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def open_suggestions(url, store, asked=None):
    return Suggestions(asked or problem(), store, open_storage(url, "--out"), "--out")


def write_result(store, cell, error=0.1):
    rows = [
        {"replicate": r, "val_mse": error + 0.01 * r, "parameters": 7, "train_seconds": 2.0}
        for r in range(2)
    ]
    store.write_block(Block(cell.id, range(2)), cell.config, None, Outcome(rows), {})


def next_cell(suggestions):
    """The cell of the next trial."""
    return suggestions.cell(suggestions.begin())


def states(suggestions):
    return [trial.state for trial in suggestions.study.get_trials()]


def test_first_suggestion_is_the_existing_recipe(url, local_store):
    config = next_cell(open_suggestions(url, local_store)).config
    assert (config["learning_rate"], config["width"], config["batch_size"]) == (1e-2, 16, 32)
    assert config["epochs"] == 4


def test_suggestion_is_the_cell_of_an_equal_grid(url, local_store):
    suggestions = open_suggestions(url, local_store)
    suggestions.begin()
    for _ in range(5):
        cell = next_cell(suggestions)
        axes = {"latent_dim": (14,), "depth": (3,), "batch_size": (cell.config["batch_size"],)}
        fixed = {name: cell.config[name] for name in ("learning_rate", "width")}
        grid = override(AUTOENCODER, axes, {"epochs": 4, "replicates": 2, **fixed})
        assert [known.id for known in plan([grid], DATA)[0]] == [cell.id]
        assert 1e-3 <= cell.config["learning_rate"] <= 1e-1
        assert cell.config["width"] in (8, 16, 24, 32)


def test_start_values_outside_the_space_are_drawn(url, local_store):
    draft = problem(start={"learning_rate": 5.0, "width": 16, "batch_size": 48})
    config = next_cell(open_suggestions(url, local_store, draft)).config
    assert config["width"] == 16
    assert config["learning_rate"] <= 0.1
    assert config["batch_size"] in (32, 64)


def test_complete_trial_has_the_values_of_its_cell(url, local_store):
    suggestions = open_suggestions(url, local_store)
    number = suggestions.begin()
    cell = suggestions.cell(number)
    suggestions.report(number, 1, 0.5)
    write_result(local_store, cell)
    assert suggestions.complete(number) == [pytest.approx(0.105)]
    (line,) = suggestions.table()
    assert line["state"] == "complete"
    assert line["curve"] == [[1, 0.5]]
    assert line["cell"] == cell.id
    assert (line["parameters"], line["seconds"], line["replicates"]) == (7, 2.0, 2)


def test_several_objectives_have_a_value_each(url, local_store):
    draft = Problem(**{**vars(problem()), "objectives": ("error", "parameters", "seconds")})
    suggestions = open_suggestions(url, local_store, draft)
    number = suggestions.begin()
    cell = suggestions.cell(number)
    suggestions.report(number, 1, 0.5)
    write_result(local_store, cell)
    assert suggestions.complete(number) == [pytest.approx(0.105), 7, 2]
    assert suggestions.table()[0]["curve"] == [[1, 0.5]]
    assert suggestions.best().number == number


def test_best_is_chosen_from_full_trials(url, local_store):
    suggestions = open_suggestions(url, local_store)
    assert suggestions.best() is None
    stopped, good, better, bad = (suggestions.begin() for _ in range(4))
    suggestions.report(stopped, 1, 0.0001)
    suggestions.prune(stopped)
    for number, error in ((good, 0.2), (better, 0.1)):
        write_result(local_store, suggestions.cell(number), error)
        suggestions.complete(number)
    suggestions.fail(bad, "diverged")
    assert suggestions.best().number == better
    assert [line["state"] for line in suggestions.table()] == [
        "pruned",
        "complete",
        "complete",
        "fail",
    ]
    assert suggestions.table()[3]["reason"] == "diverged"


def test_only_a_dead_drivers_running_trial_is_retried(url, local_store):
    before = open_suggestions(url, local_store)
    done, stopped, running = (before.begin() for _ in range(3))
    write_result(local_store, before.cell(done))
    before.complete(done)
    before.report(stopped, 1, 0.5)
    before.prune(stopped)
    before.report(running, 1, 0.4)
    table = before.table()

    after = open_suggestions(url, local_store)
    assert after.table() == table
    assert states(after) == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.WAITING,
    ]
    assert len(after.ended()) == 2  # the budget has one trial more for it
    again = after.begin()
    assert after.cell(again).id == before.cell(running).id
    assert after.study.trials[again].user_attrs["again"] == running
    # When opened a third time, the first failure has no further effect.
    assert len(open_suggestions(url, local_store).ended()) == 2


def test_other_drivers_trials_in_a_shared_database_run_on(url, local_store, tmp_path):
    first = open_suggestions(url, local_store)
    running = first.begin()
    other = Store(tmp_path / "other results")
    other.create()
    Suggestions(problem(), other, open_storage(url, "--storage"), "--storage")
    assert states(first)[running] == TrialState.RUNNING
    first.report(running, 1, 0.5)
    Suggestions(problem(), local_store, open_storage(url, "--storage"), "--storage")
    assert states(first)[running] == TrialState.FAIL  # its own driver has started again


def test_trial_that_died_without_a_point_is_redrawn(url, local_store):
    optuna.create_study(storage=url, study_name="other")
    suggestions = open_suggestions(url, local_store)
    suggestions.study.ask()  # its point was queued, and no value of it was asked for
    assert next_cell(open_suggestions(url, local_store)).config["width"] in (8, 16, 24, 32)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (problem(DIMENSIONS[:2]), "other dimensions: batch_size is 32 or 64, asked for is not"),
        (problem((Real("learning_rate", 1e-3, 1), *DIMENSIONS[1:])),
         "other dimensions: learning_rate is 0.001 to 0.1, asked for is 0.001 to 1"),
        (problem(epochs=5), "other settings: epochs is 4, asked for is 5"),
        (Problem(**{**vars(problem()), "data": "f" * 16}),
         "other data: 0123456789abcdef, asked for is ffffffffffffffff"),
    ],
)  # fmt: skip
def test_another_search_of_the_same_name_is_refused(other, message, url, local_store):
    open_suggestions(url, local_store)
    with pytest.raises(BadInput) as caught:
        open_suggestions(url, local_store, other)
    assert str(caught.value).startswith("--out autoencoder-d14: holds a search with " + message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nonsense", "is not a database's URL"),
        ("nosuch://host/name", "is not a database's URL"),
        ("sqlite:////nowhere/at/all/x.db", "unable to open database file"),
        ("postgresql://host:port/name", "is not a database's URL"),
        ("sqlite:///x.db?timeout=long", "is not a database's URL"),
        ("sqlite:////nowhere/{x}/{", "unable to open database file"),
    ],
)
def test_unusable_storage_is_refused_in_one_line(bad, message):
    with pytest.raises(BadInput, match=message) as caught:
        open_storage(bad, "--storage")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--storage ")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@localhost:1/x",
        "postgresql//me:secret@localhost/x",
        "postgresql://me:secret@localhost:port/x",
        "postgresql://me@localhost:1/x?password=secret",
        "nosuch://me:se{cret@localhost/x",
    ],
)
def test_password_is_not_shown(url):
    with pytest.raises(BadInput) as caught:
        open_storage(url, "--storage")
    assert "cret" not in str(caught.value)
    assert str(caught.value).startswith("--storage ")


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_folder_of_any_name_holds_only_the_database(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "runs" / name / "search" / "optuna.db"
    file.parent.mkdir(parents=True)
    optuna.create_study(storage=open_storage(file, "--out"), study_name="trials")
    assert optuna.get_all_study_names(open_storage(file, "--out")) == ["trials"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    with sqlite3.connect(file) as connection:
        assert connection.execute("select study_name from studies").fetchall() == [("trials",)]


def test_url_is_no_template(tmp_path):
    """Optuna would fill in `{SCHEMA_VERSION}`, and fail for any other name."""
    for name in ("{SCHEMA_VERSION}.db", "{x}.db", "{.db"):
        open_storage(f"sqlite:///{tmp_path / name}", "--storage")
        assert (tmp_path / name).is_file()


def test_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(BadInput, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path / 'x.db'}", "--storage")


def test_optuna_opens_the_database(url, local_store, tmp_path):
    suggestions = open_suggestions(url, local_store)
    suggestions.fail(suggestions.begin(), "why")
    study = optuna.load_study(study_name="autoencoder-d14", storage=url)
    assert study.metric_names == ["val_mse"]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    with sqlite3.connect(tmp_path / "optuna.db") as connection:
        assert connection.execute("select count(*) from trials").fetchone() == (1,)


@pytest.mark.parametrize(
    ("trials", "seconds", "spent"),
    [(10, inf, False), (9, inf, True), (inf, 60, True), (inf, 61, False), (10, 60, True)],
)
def test_budget_ends_with_its_first_spent_part(trials, seconds, spent):
    assert Budget(trials, seconds).is_spent(9, 60.0) == spent
