"""Cells as Ray Tune trials: what a trial is given, does and leaves, and how failures end."""

import io
import itertools
import json
import re
import socket
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import ray
import torch
from rich.console import Console

import study.__main__ as command_line
from analysis.results import load
from study import adapter, launch
from study.cluster import check
from study.experiments import AUTOENCODER, FEWSHOT
from study.faults.retries import Grant
from study.grid import Cell, override, plan
from study.launch import NoResources, Resources, cluster, search_space
from study.store import Store, StoreError
from trainables.contract import Diverged, Outcome

README = Path(__file__).resolve().parents[2] / "README.md"
DATA = "0123456789abcdef"


def tiny(**fixed):
    """Autoencoder and few-shot experiments of one and three cells, for a few images."""
    small = {"width": 2, "replicates": 2} | fixed
    return [
        override(
            AUTOENCODER,
            {"latent_dim": (2,), "depth": (1,), "batch_size": (20,)},
            {"epochs": 2, **small},
        ),
        override(
            FEWSHOT,
            {"latent_dim": (2,), "depth": (1,), "labels": (20,)},
            {"epochs": 5, "encoder_epochs": 2, **small},
        ),
    ]


# --- Tune's parameter space ------------------------------------------------------------------


def test_tunes_keys_are_the_settings_themselves():
    """So that its tables and TensorBoard have columns like `config/latent_dim`."""
    cells = plan(tiny(), DATA)[1]
    space, points = search_space(cells)
    assert set(space) == {*cells[0].config, "cell", "encoder_cell"}
    assert [point["cell"] for point in points] == [cell.id for cell in cells]
    assert [point["encoder_cell"] for point in points] == [cell.parent for cell in cells]
    for point, cell in zip(points, cells, strict=True):
        assert {key: point[key] for key in cell.config} == cell.config
    assert space["freeze"].categories == ["fixed", "full", "scratch"]
    assert space["latent_dim"].categories == [2]


# --- one trial, without Ray ------------------------------------------------------------------


@pytest.fixture
def reports(monkeypatch):
    """What a trial reports to Tune, with no Tune to report to."""
    metrics = []
    without_ray = SimpleNamespace(get_context=lambda: None, report=metrics.append)
    monkeypatch.setattr(adapter, "tune", without_ray)
    return metrics


def test_cells_that_build_on_the_same_one_are_spread_out():
    parents = [None, "a", "a", "a", "b", "b", None, "c"]
    cells = [Cell("fewshot", "", {}, parent, str(n)) for n, parent in enumerate(parents)]
    found = [cell.id for cell in launch.spread(cells)]
    assert found == ["0", "1", "4", "6", "7", "2", "5", "3"]


def test_a_trial_that_died_before_it_was_up_has_an_error_like_any_other(tmp_path, monkeypatch):
    """All that Tune has of it is the folder and the error: no metrics, and no configuration.

    So it was when a host died while a trial started there: its cell was neither tried again nor
    reported as failed.
    """
    store = Store(tmp_path)
    store.create()
    dead = ray.exceptions.ActorDiedError()
    grid = {"latent_dim": (2, 8, 14), "depth": (2,), "batch_size": (20,)}
    ((lost, silent, done),) = plan([override(AUTOENCODER, grid, {})], DATA)
    store.write(done.id, done.config, None, Outcome([{"replicate": 0}]), {})

    class Tuner:
        def __init__(self, *arguments, **options):
            pass

        def fit(self):
            found = ((lost, dead), (silent, None), (done, None))
            return [SimpleNamespace(path=f"/tmp/{c.id}", error=e, config=None) for c, e in found]

    monkeypatch.setattr(launch.tune, "Tuner", Tuner)
    monkeypatch.setattr(launch.tune, "with_parameters", lambda trainable, data: trainable)
    monkeypatch.setattr(launch.tune, "with_resources", lambda trainable, resources: trainable)
    grants = [Grant(cell, 0.0) for cell in (lost, silent, done)]
    console = Console(file=io.StringIO())
    errors = launch.run_trials("name", AUTOENCODER, grants, None, store, Resources(), console)
    assert errors[lost.id] is dead
    assert "the same command tries it again" in str(errors[silent.id])
    assert list(errors) == [lost.id, silent.id]


def run_cell(cell, data, store, **options):
    store.write_plan({})
    adapter.run_cell(
        {**cell.config, "cell": cell.id, "encoder_cell": cell.parent},
        trainable=cell.trainable,
        data=data,
        results=str(store.folder),
        **options,
    )


def test_a_trial_writes_its_cell_and_reports_the_means(reports, few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "PACE", 0.0)
    store = Store(tmp_path)
    (autoencoder,), few_shot = plan(tiny(), few_digits.fingerprint)
    run_cell(autoencoder, few_digits, store)
    assert store.done() == {autoencoder.id}
    assert store.config(autoencoder.id) == autoencoder.config
    rows = store.rows([autoencoder.id])
    assert [report.get("epoch") for report in reports] == [1, 2, None]
    assert reports[-1]["test_mse"] == pytest.approx(rows["test_mse"].mean())
    provenance = store.marker(autoencoder.id)["provenance"]
    assert provenance["torch"] == torch.__version__
    assert provenance["threads"] == 1
    assert {"code", "device", "host", "started", "seconds"} <= set(provenance)

    fixed = few_shot[0]
    assert fixed.config["freeze"] == "fixed"
    run_cell(fixed, few_digits, store)
    rows = store.rows([fixed.id])
    assert rows["encoder_cell"].tolist() == [autoencoder.id] * 2
    assert rows["freeze"].tolist() == ["fixed"] * 2
    assert store.predictions(fixed.id).shape == (2, 50)


@pytest.mark.parametrize("score_after", [None, [], [1]])
def test_reports_that_nobody_can_follow_are_left_out_unless_a_search_compares_them(
    score_after, reports, few_digits, tmp_path, monkeypatch
):
    clock = itertools.count(step=0.4)
    times = SimpleNamespace(time=time.time, monotonic=lambda: next(clock))
    monkeypatch.setattr(adapter, "time", times)
    (autoencoder,), _ = plan(tiny(epochs=9), few_digits.fingerprint)
    run_cell(autoencoder, few_digits, Store(tmp_path), score_after=score_after)
    *epochs, last = [report.get("epoch") for report in reports]
    assert last is None  # the end's means are never left out
    assert epochs == ([1, 4, 7] if score_after is None else list(range(1, 10)))


def test_a_trial_on_a_node_without_the_results_folder_makes_none(reports, few_digits, tmp_path):
    """It would be the node's own, and what is computed lost with it."""
    (cell,) = plan(tiny()[:1], few_digits.fingerprint)[0]
    with pytest.raises(StoreError, match=f"{tmp_path}/gone is not on .*storage that all nodes"):
        adapter.run_cell(
            {**cell.config, "cell": cell.id, "encoder_cell": None},
            trainable=cell.trainable,
            data=few_digits,
            results=str(tmp_path / "gone"),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_diverges_writes_nothing(reports, few_digits, tmp_path):
    store = Store(tmp_path)
    store.create()
    (cell,) = plan(tiny(learning_rate=1e30)[:1], few_digits.fingerprint)[0]
    with pytest.raises(Diverged):
        run_cell(cell, few_digits, store)
    assert store.done() == set()
    assert list(store.cells.iterdir()) == []
    assert reports == []


# --- the cluster, without Ray ----------------------------------------------------------------


@pytest.fixture
def fake_ray(monkeypatch):
    """A cluster of two nodes with 2 cores each that isn't there; the value lists the calls."""
    calls = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(("init", options)))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append(("shutdown", None)))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    name = {"NodeID": "1", "NodeManagerHostname": "one", "NodeManagerAddress": "10.0.0.1"}
    node = {"Alive": True, "Resources": {"CPU": 2.0}, **name}
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, node, dead])
    return calls


def test_a_local_cluster_is_started_and_ended(fake_ray):
    with cluster(Resources("local", 1, 0)):
        assert [name for name, _ in fake_ray] == ["init"]
    assert [name for name, _ in fake_ray] == ["init", "shutdown"]
    assert fake_ray[0][1]["address"] == "local"


def test_a_running_cluster_is_joined(fake_ray):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with cluster(Resources(address, 1, 0)):
            assert fake_ray[0][1]["address"] == address
    assert fake_ray[-1][0] == "shutdown"


def test_an_address_where_nobody_answers_is_refused_before_ray_tries_for_minutes(fake_ray):
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
    with (
        pytest.raises(NoResources, match=f"--address 127.0.0.1:{port}: no Ray cluster answers"),
        cluster(Resources(f"127.0.0.1:{port}", 1, 0)),
    ):
        pytest.fail("the cluster was used")
    assert fake_ray == []


def test_auto_stays_where_there_are_gpus_and_is_none_elsewhere():
    nodes = [{"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0}]
    assert launch.resolved(Resources(), nodes).gpus_per_trial == "auto"
    assert launch.resolved(Resources(), nodes[:1]).gpus_per_trial == 0
    assert launch.resolved(Resources(gpus_per_trial=0.25), nodes).gpus_per_trial == 0.25
    with pytest.raises(NoResources, match=r"--gpus-per-trial 3: the largest node .* has 2 GPUs"):
        launch.resolved(Resources(gpus_per_trial=3), nodes)


@pytest.mark.parametrize(
    ("cpus", "gpus", "named"),
    [(4, 0, "--cpus-per-trial 4: .* 2 CPUs"), (1, 0.5, "--gpus-per-trial 0.5: .* 0 GPUs")],
)
def test_a_trial_that_fits_nowhere_is_refused(cpus, gpus, named, fake_ray):
    """Tune would wait for ever."""
    with pytest.raises(NoResources, match=named), cluster(Resources("auto", cpus, gpus)):
        pytest.fail("the cluster was used")
    assert fake_ray[-1][0] == "shutdown"


def test_a_worker_that_an_autoscaled_cluster_may_start_counts(fake_ray, monkeypatch):
    monkeypatch.setattr(launch, "may_come", lambda: [{"CPU": 48.0, "GPU": 4.0}])
    with cluster(Resources("auto", 8)) as resources:
        assert resources == Resources("auto", 8, "auto")
    with pytest.raises(NoResources, match="--cpus-per-trial 8"), cluster(Resources("local", 8)):
        pytest.fail("no machine of its own starts others")


def run_on_a_cluster(out, *options):
    command = ["run", "autoencoder", "--preset", "smoke", "--out", str(out)]
    return command_line.main([*command, "--address", "auto", *options])


def test_a_cluster_too_small_for_a_trial_is_bad_input(fake_ray, tmp_path, capsys):
    assert run_on_a_cluster(tmp_path, "--cpus-per-trial", "4") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "--cpus-per-trial 4" in lines[0]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Could not find any running Ray instance."),
        ValueError("Invalid address format: nonsense"),  # of RAY_ADDRESS
        OSError("AF_UNIX path length cannot exceed 107 bytes: /a/long/RAY_TMPDIR"),
    ],
)
def test_where_ray_can_not_start_or_join_is_bad_input(error, monkeypatch, tmp_path, capsys):
    def refuse(**options):
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    assert run_on_a_cluster(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--address auto" in line
    assert str(error) in line


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "127.0.0.1:x", "127.0.0.1:99999999"])
def test_an_address_of_nobody_in_the_environment_is_refused(
    address, fake_ray, monkeypatch, tmp_path, capsys
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(port=server.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert run_on_a_cluster(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"RAY_ADDRESS {address}: no Ray cluster answers there" in line
    assert fake_ray == []


def test_the_check_says_what_is_there(fake_ray, tmp_path, capsys):
    assert command_line.main(["check", "--out", str(tmp_path / "results")]) == 0
    shown = capsys.readouterr().out
    for what in ("versions", "processor", "GPUs", "data", "storage", "ray"):
        assert re.search(f"^ok +{what} ", shown, re.MULTILINE)
    assert "BAD" not in shown
    assert "3,600 train, 400 val, 1,000 test" in shown


def test_the_check_says_what_is_missing(fake_ray, tmp_path, monkeypatch, capsys):
    def unreadable(name, folder):
        raise check.DataError("no such data")

    monkeypatch.setattr(check, "load", unreadable)
    (tmp_path / "file").touch()
    assert command_line.main(["check", "--out", str(tmp_path / "file")]) == 1
    shown = capsys.readouterr().out
    assert re.search("BAD +data +no such data", shown)
    assert re.search("BAD +storage +.*is a file", shown)
    assert re.search("ok +ray", shown)


# --- what is launched ------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch):
    """Cells that were launched, by experiment; they are written, and nothing is computed."""
    asked = []

    def pretend(experiment, cells, data, store, resources, console):
        asked.append((experiment.name, {cell.id for cell in cells}))
        for cell in cells:
            store.write(cell.id, cell.config, cell.parent, Outcome([{"replicate": 0}]), {})

    monkeypatch.setattr(launch, "cluster", lambda resources: nullcontext())
    monkeypatch.setattr(launch, "share", lambda data: data)
    monkeypatch.setattr(launch, "run_experiment", pretend)
    monkeypatch.setattr("study.reporting.write", lambda folder: folder)
    return asked


def test_only_missing_cells_are_launched_and_parents_first(launched, tmp_path, capsys):
    command = ["run", "assignment", "--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(command) == 0
    assert [(name, len(cells)) for name, cells in launched] == [("autoencoder", 2), ("fewshot", 12)]
    first = set.union(*(cells for _, cells in launched))

    launched.clear()
    assert "nothing to compute" not in capsys.readouterr().out
    assert command_line.main(command) == 0
    assert "nothing to compute" in capsys.readouterr().out
    assert launched == []

    assert command_line.main([*command, "--latent-dims", "2", "3", "8"]) == 0
    assert [(name, len(cells)) for name, cells in launched] == [("autoencoder", 1), ("fewshot", 6)]
    assert not first & set.union(*(cells for _, cells in launched))


def test_two_studies_in_one_folder_share_what_they_have_in_common(launched, tmp_path):
    places = ["--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(["run", "autoencoder", *places]) == 0
    launched.clear()
    assert command_line.main(["run", "fewshot", *places]) == 0
    assert [name for name, _ in launched] == ["fewshot"]


# --- failures --------------------------------------------------------------------------------


def test_a_study_whose_cells_all_fail_says_so(monkeypatch, tmp_path, capsys):
    def fail(experiment, cells, data, store, resources, console):
        for cell in cells:
            store.write_failure(cell.id, cell.config, "Traceback …\nMemoryError: too large")

    monkeypatch.setattr(launch, "cluster", lambda resources: nullcontext())
    monkeypatch.setattr(launch, "share", lambda data: data)
    monkeypatch.setattr(launch, "run_experiment", fail)
    command = ["run", "assignment", "--preset", "smoke", "--out", str(tmp_path)]
    assert command_line.main(command) == 1
    shown = capsys.readouterr().out
    assert shown.count("MemoryError: too large") == 2 + 4  # autoencoders; few-shot from scratch
    assert shown.count("that it builds on has failed") == 8
    assert Store(tmp_path).done() == set()
    assert load(tmp_path).rows.empty


FRAGILE = """

EXPERIMENTS["fragile"] = Experiment(
    name="fragile",
    trainable="trainables.autoencoder",
    axes={"learning_rate": (0.01, 1e30), "latent_dim": (2,)},
    fixed={"depth": 1, "width": 2, "epochs": 1, "replicates": 2},
)
EXPERIMENTS["offspring"] = Experiment(
    name="offspring",
    trainable="trainables.fewshot",
    axes={"learning_rate": (0.01, 1e30), "latent_dim": (2,), "labels": (20,),
          "freeze": ("fixed", "scratch")},
    fixed={"depth": 1, "width": 2, "epochs": 5, "encoder_epochs": 2, "replicates": 2},
    needs="fragile",
    parent_settings=("latent_dim", "depth", "width", "kernel", "activation", "seed",
                     "learning_rate"),
    builds_on_parent=lambda config: config["freeze"] != "scratch",
    metric="val_accuracy",
    best="max",
)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_failing_cell_is_reported_and_the_others_finish(copied_packages, run_study, tmp_path):
    registry = copied_packages / "study" / "experiments.py"
    registry.write_text(registry.read_text() + FRAGILE)
    out = tmp_path / "results"
    ran = run_study("run", "offspring", "--out", out, folder=copied_packages)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "trying again" not in ran.stdout  # it would only fail again

    planned = json.loads((out / "study.json").read_text())["experiments"]
    by_settings = {
        (group["name"], cell["config"]["learning_rate"], cell["config"].get("freeze")): cell["id"]
        for group in planned
        for cell in group["cells"]
    }
    assert len(by_settings) == 2 + 4
    good = {id for (_, rate, _), id in by_settings.items() if rate == 0.01}
    bad = {settings: id for settings, id in by_settings.items() if settings[1] == 1e30}

    store = Store(out)
    assert store.done() == good
    failures = store.failures()
    assert set(failures) == set(bad.values())
    reasons = {settings: failures[id]["reason"] for settings, id in bad.items()}
    parent = bad["fragile", 1e30, None]
    diverged = "Diverged: the training loss in epoch 1 of replicate 0, 1 is not a finite number"
    assert reasons["fragile", 1e30, None] == diverged
    assert re.match("Diverged: .* is not a finite number$", reasons["offspring", 1e30, "scratch"])
    assert reasons["offspring", 1e30, "fixed"].startswith(f"not tried: the cell {parent} ")

    lines = ran.stdout.splitlines()
    for (experiment, _, _), identity in bad.items():
        reason = failures[identity]["reason"]
        assert f"failed: {experiment} {identity}: {reason}" in lines

    # Its numbers appear nowhere.
    results = load(out)
    assert set(results.rows["cell"]) == good
    assert len(results.rows) == 3 * 2
    assert set(results.missing["cell"]) == set(bad.values())
    for identity in bad.values():
        assert not (out / "cells" / identity).exists()
        for numbers in (out / "tune").rglob(f"{identity}/result.json"):
            assert "_mse" not in numbers.read_text()
            assert "_accuracy" not in numbers.read_text()
    for table in (out / "report" / "tables").glob("*.csv"):
        if table.name != "missing.csv":
            assert "e+30" not in table.read_text()

    planned_again = run_study("plan", "offspring", "--out", out, folder=copied_packages)
    shown = " ".join(planned_again.stdout.split())
    assert "fragile: 2 cells (4 replicates), 1 done, 1 missing, 1 of them failed" in shown
    assert "offspring: 4 cells (8 replicates), 2 done, 2 missing, 2 of them failed" in shown


# --- an experiment of one's own --------------------------------------------------------------


def code_block(name):
    """The Python code after a marker in the README."""
    marker = f"<!-- own-experiment-{name} -->"
    text = README.read_text() if README.is_file() else ""
    if marker not in text:
        pytest.skip(f"README.md has no {marker}")
    return re.search(re.escape(marker) + r"\s*```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.ray
@pytest.mark.slow
def test_an_experiment_of_ones_own_is_a_module_and_an_entry(copied_packages, run_study, tmp_path):
    """With the code of the README, to the letter."""
    module, entry = code_block("module"), code_block("entry")
    path = re.match(r"# (trainables/\w+\.py)\n", module)[1]
    name = re.search(r'EXPERIMENTS\["(\w+)"\]', entry)[1]
    assert not (copied_packages / path).exists()
    (copied_packages / path).write_text(module)
    registry = copied_packages / "study" / "experiments.py"
    registry.write_text(f"{registry.read_text()}\n\n{entry}")

    out = tmp_path / "results"
    ran = run_study("run", name, "--preset", "smoke", "--out", out, folder=copied_packages)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = load(out)
    (planned,) = [group for group in results.plan["experiments"] if group["name"] == name]
    assert len(planned["cells"]) >= 2
    rows = results.of(name)
    assert len(rows) == sum(cell["config"]["replicates"] for cell in planned["cells"])
    assert rows[planned["metric"]].notna().all()
    assert pd.api.types.is_float_dtype(rows["test_accuracy"])
    assert rows["test_accuracy"].mean() > 0.4  # chance is 0.1
    assert results.missing.empty
