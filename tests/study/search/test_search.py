"""`study search`, as a user runs it: refusals without Ray, and real searches with tiny trials."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from analysis.results import load
from study.__main__ import main
from study.command_line.parser import parser
from study.commands import data_options
from study.presets import read
from study.search.command import run_command
from study.search.suggestions import is_void
from study.signals import Interrupted
from study.store import Store
from study.store.lock import Hold
from tests.names import NASTY_NAMES
from trainables.data import Options

ROOT = Path(__file__).resolve().parents[3]
TINY = ["--dataset", "digits", "--latent-dims", "2", "--depths", "1", "--replicates", "2",
        "--fresh", "2", "--widths", "2", "--fix", "kernel=3"]  # fmt: skip


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--trials is missing: a search needs --trials, --minutes or both"),
        (["--trials", "3", "--batch-sizes", "32", "64"],
         "--batch-sizes 32 64: batch_size is searched: give one value, to exclude it from"),
        (["--trials", "3", "--depths", "2", "3"], "--depths 2 3: depth is not searched, and"),
        (["--trials", "3", "--storage", "nonsense"], "--storage nonsense: is not a database's"),
        (["--trials", "3", "--storage", "sqlite:////nowhere/x.db"],
         "--storage sqlite:////nowhere/x.db: can't be used (unable to open database file)"),
        (["--trials", "3", "--save", "/dev/null/x.toml"],
         "--save /dev/null/x.toml: /dev/null is a file, not a folder"),
        (["--trials", "3", "--save", "/proc/nowhere/x.toml"],
         "--save /proc/nowhere/x.toml: /proc can't be written to"),
        (["--trials", "3", "--fix", "widht=3"], "--fix widht=3: widht: autoencoder has no such"),
        (["--trials", "3", "--fix", "width=many"],
         "--fix width=many: width: 'many' is not of type int"),
        (["--trials", "3", "--fix", "kernel=4"], "kernel 4: must be 3, 5 or 7"),
        (["--trials", "3", "--fix", "batch_size=3601"], "--batch-sizes 3601: must be"),
        (["--trials", "3", "--learning-rate", "0.01", "--batch-sizes", "32", "--fix", "width=8",
          "kernel=3", "activation=relu", "weight_decay=0.1", "warm_up=0.1", "noise=0",
          "augment=0", "optimiser=muon"],
         "--fix width kernel activation weight_decay warm_up noise augment optimiser: leaves"),
    ],
)  # fmt: skip
def test_impossible_search_is_refused_in_one_line(
    options, message, cached_digits, tmp_path, refusal
):
    line = refusal("search", "autoencoder", "--out", tmp_path, *options)
    assert line.startswith(f"study search: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials", "0"], "--trials: 0 is not an integer of at least 1"),
        (["--minutes", "0"], "--minutes: 0 is not a number above 0"),
        (["--minutes", "-1"], "--minutes: -1 is not a number of at least 0"),
        (["--trials", "3", "--against", "beauty"], "'beauty' is not a cost: parameters, seconds"),
        (["--trials", "3", "--fix", "width"], "'width' is not NAME=VALUE"),
        (["--trials", "3", "--save", "best"], "--save: 'best' does not end in .toml"),
        (["--trials", "3", "--fresh", "0"], "--fresh: 0 is not an integer of at least 1"),
    ],
)
def test_options_out_of_bounds_are_refused_in_one_line(options, message, refusal):
    assert message in refusal("search", "autoencoder", *options)


def test_arm_without_settings_is_not_searched(cached_digits, tmp_path, refusal):
    line = refusal("search", "fewshot", "--trials", 3, "--freeze", "svm", "--out", tmp_path)
    assert line == "study search: --freeze svm: leaves nothing to search"


def test_study_of_several_experiments_is_not_searched(refusal):
    line = refusal("search", "assignment", "--trials", 3)
    assert "'assignment' is not an experiment with a search space" in line


def test_help_explains_the_search_and_its_resumption(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("learning_rate", "encoder_learning_rate", "--trials", "--minutes", "--against",
                  "--storage", "optuna-dashboard", "The same command continues", "fresh seeds",
                  "--batch-sizes"):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize("lost", [None, "process 1 on elsewhere since today"])
def test_search_that_loses_its_lease_writes_no_more(
    lost, cached_digits, monkeypatch, tmp_path, capsys
):
    @contextmanager
    def lease(place):
        hold = Hold()
        hold.lost = lost
        yield hold

    def interrupted(asked):
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("study.run.exclusive_lock", lease)
    monkeypatch.setattr("study.search.command.run_searches", interrupted)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "autoencoder-d14.json").write_text("of another version")
    command = ["search", "autoencoder", "--trials", "3", "--out", str(tmp_path)]
    assert main(command) == (1 if lost else 130)
    (line,) = capsys.readouterr().out.split("\n", 1)[1].splitlines()
    why = f"ended: while this host was cut off, {lost} took over" if lost else "interrupted"
    assert line == f"{why}: 0 trials ended and kept; the same command goes on from here"
    content = (tmp_path / "search" / "autoencoder-d14.json").read_text()
    assert (content == "of another version") == bool(lost)


@pytest.mark.parametrize("name", [*NASTY_NAMES, "-x"])
def test_printed_preset_command_can_be_pasted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(name, "best.toml")
    shown = ["sh", "-c", f"printf '%s\\0' {run_command('autoencoder', path)}"]
    typed = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split("\0")
    assert typed == ["study", "run", "autoencoder", "--preset", str(tmp_path / path), ""]


def test_printed_preset_command_has_the_same_data():
    options = Options((32, 40), True, ("cat", "big dog"), 500, "person")
    typed = shlex.split(
        run_command("autoencoder", ROOT / "study/quick.toml", options, Path("/data"))
    )
    arguments = parser().parse_args(typed[1:])
    assert data_options(arguments) == options
    assert arguments.data_dir == Path("/data")


@pytest.mark.parametrize("name", ["job%2Fmain {x}", "what?"])
def test_folder_named_by_its_uri_holds_the_trials(name, cached_digits, monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr("study.search.command.run_searches", found.append)
    out = tmp_path / name
    command = ["search", "autoencoder", "--trials", "3", "--out", out.as_uri()]
    assert main(command) == 1  # no winner
    assert (out / "search" / "optuna.db").is_file()
    assert os.listdir(tmp_path) == [name]


# --- real searches ---------------------------------------------------------------------------


def optuna_study(out, name="autoencoder-d2"):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{out / 'search' / 'optuna.db'}")


def void_trials(out):
    """Numbers of the trials whose driver died."""
    return {trial.number for trial in optuna_study(out).trials if is_void(trial)}


def trial_facts(trial):
    return (
        trial.state,
        trial.params,
        trial.values,
        trial.intermediate_values,
        trial.datetime_complete,
    )


# A driver that is killed in the middle, and the same command again.

COMMAND = ("search", "autoencoder", "--trials", 8, "--epochs", 4, "--no-report", *TINY)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("interrupted") / "results"


@pytest.fixture(scope="module")
def trials_at_kill(out):
    """Trials by number when the driver was killed, after three had ended."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "study", *map(str, COMMAND), "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ended = 0
    for line in driver.stdout:
        ended += any(f": {word}" in line for word in ("done ", "stopped "))
        if ended == 3:
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert ended == 3
    time.sleep(1)
    trials = {trial.number: trial for trial in optuna_study(out).trials}
    assert sum(trial.state.is_finished() for trial in trials.values()) >= 3
    return trials


@pytest.fixture(scope="module")
def finished(out, trials_at_kill, run_study):
    ran = run_study(*COMMAND, "--out", out)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.mark.ray
@pytest.mark.slow
def test_no_finished_trial_is_void_or_run_again(out, trials_at_kill, finished):
    after = {trial.number: trial for trial in optuna_study(out).trials}
    for number, trial in trials_at_kill.items():
        if trial.state.is_finished():
            assert trial_facts(after[number]) == trial_facts(trial)


@pytest.mark.ray
@pytest.mark.slow
def test_trials_running_at_the_kill_are_replaced(out, trials_at_kill, finished):
    after = {trial.number: trial for trial in optuna_study(out).trials}
    running = [n for n, trial in trials_at_kill.items() if trial.state == TrialState.RUNNING]
    again = {trial.user_attrs.get("again"): trial for trial in after.values()}
    for number in running:
        assert after[number].state == TrialState.FAIL
        assert number in void_trials(out)
        assert again[number].params == after[number].params
        assert again[number].state.is_finished()
    counted = [trial for number, trial in after.items() if number not in void_trials(out)]
    assert len(counted) == 8
    assert all(trial.state.is_finished() for trial in counted)


@pytest.mark.ray
@pytest.mark.slow
def test_only_full_trials_leave_cells(out, finished):
    store = Store(out)
    trials = [trial for trial in optuna_study(out).trials if trial.number not in void_trials(out)]
    done = set(store.blocks())
    for trial in trials:
        complete = trial.state == TrialState.COMPLETE
        assert (trial.user_attrs["cell"] in done) == complete
        if complete:
            rows = store.rows({trial.user_attrs["cell"]: 2})
            assert trial.value == pytest.approx(rows["val_mse"].mean())
            assert rows["epochs"].tolist() == [4, 4]
    assert any(trial.state == TrialState.PRUNED for trial in trials)
    assert list((out / "progress").glob("*")) == []
    assert [path for path in (out / "blocks").iterdir() if path.name not in done] == []


@pytest.mark.ray
@pytest.mark.slow
def test_winner_is_judged_on_fresh_seeds(out, finished):
    content = json.loads((out / "search" / "autoencoder-d2.json").read_text())
    best = min(
        (trial for trial in content["trials"] if trial["state"] == "complete"),
        key=lambda trial: trial["values"][0],
    )
    assert content["winner"] == best["number"]
    config = Store(out).config(content["winner_cell"])
    assert config["seed"] == 1
    assert {name: config[name] for name in best["params"]} == best["params"]
    rows = load(out).rows
    assert set(rows["cell"]) == {content["winner_cell"], content["start_cell"]}
    assert f"{best['values'][0]:.5f} on the seeds that chose it" in finished.stdout
    mean = rows[rows["cell"] == content["winner_cell"]]["val_mse"].mean()
    assert f"{mean:.5f} ± " in finished.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_preset_makes_the_winners_cell(out, finished, run_study):
    path = out / "search" / "best-autoencoder.toml"
    preset = read(path)
    content = json.loads((out / "search" / "autoencoder-d2.json").read_text())
    winner = next(t for t in content["trials"] if t["number"] == content["winner"])
    assert preset.recipes["autoencoder"][2].items() >= winner["params"].items()
    planned = run_study("plan", "autoencoder", "--preset", path, "--out", out)
    assert "autoencoder: 1 cell, 1 done, 0 missing; 2 replicates, 0 missing" in planned.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_same_command_again_computes_nothing(out, finished, run_study):
    before = [trial_facts(trial) for trial in optuna_study(out).trials]
    again = run_study(*COMMAND, "--out", out, without=["ray"])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to compute: the budget is spent" in again.stdout
    assert [trial_facts(trial) for trial in optuna_study(out).trials] == before


@pytest.mark.ray
@pytest.mark.slow
def test_another_search_in_the_same_folder_is_refused(out, finished, run_study):
    command = [*COMMAND, "--out", out]
    command[command.index("--epochs") + 1] = 5
    other = run_study(*command, without=["ray"])
    assert other.returncode == 2
    (line,) = other.stderr.splitlines()
    assert "holds a search with other settings: epochs is 4, asked for is 5" in line


@pytest.mark.ray
@pytest.mark.slow
def test_few_shot_trials_share_encoder_and_reuse_cells(tmp_path, run_study):
    """Two runs with one seed suggest the same; the second finds the cells of the first."""
    command = ["search", "fewshot", "--preset", "smoke", "--labels", 20, "--latent-dims", 2,
               "--depths", 2, "--trials", 3, "--fresh", 2, "--against", "parameters",
               "--no-report", "--out", tmp_path]  # fmt: skip
    ran = run_study(*command)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "learning_rate, weight_decay, hidden" in ran.stdout
    study = optuna_study(tmp_path, "fewshot-d2-20-fixed")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    store = Store(tmp_path)
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    rows = store.rows({trial.user_attrs["cell"]: 2 for trial in complete})
    assert rows["encoder_cell"].nunique() == 1
    for trial in complete:
        mine = rows[rows["cell"] == trial.user_attrs["cell"]]
        assert trial.values == [
            pytest.approx(mine["val_accuracy"].mean()),
            mine["parameters"][mine.index[0]],
        ]

    (tmp_path / "search" / "optuna.db").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "blocks").rglob("*")}
    again = run_study(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("its cell was finished") >= 1
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "blocks").rglob("*")}
    assert {path: after[path] for path in before} == before


@pytest.mark.ray
@pytest.mark.slow
def test_few_shot_trials_are_stopped_early_too(tmp_path, run_study):
    """A trial that learns nothing stops at a rung of the classifiers' own epochs."""
    command = ["search", "fewshot", "--preset", "smoke", "--labels", 20, "--latent-dims", 2,
               "--depths", 2, "--freeze", "full", "--epochs", 5, "--trials", 8, "--fresh", 1,
               "--cpus-per-trial", 1, "--no-report", "--out", tmp_path]  # fmt: skip
    ran = run_study(*command)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    content = json.loads((tmp_path / "search" / "fewshot-d2-20-full.json").read_text())
    assert (content["epochs"], content["rungs"]) == (5, [1, 3])
    stopped = [trial for trial in content["trials"] if trial["state"] == "pruned"]
    assert stopped
    store = Store(tmp_path)
    for trial in content["trials"]:
        assert (trial["cell"] in store.blocks()) == (trial["state"] == "complete")
        assert [epoch for epoch, _ in trial["curve"]] == [1, 3][: len(trial["curve"])]
        assert len(trial["curve"]) == 2 or trial in stopped
    spent = sum(t["curve"][-1][0] if t in stopped else 5 for t in content["trials"])
    assert f"{spent} epochs of the 40 that all trials would take in full" in ran.stdout
