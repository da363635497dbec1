"""Cells as Ray Tune trials: configuration, results and failures."""

import contextlib
import itertools
import json
import socket
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import ray
import torch
from ray.exceptions import AuthenticationError, RayActorError, RayTaskError

from analysis.results import load
from study import adapter
from study.__main__ import main
from study.adapter import OUTCOMES, Run, run_trial, trial_config
from study.cluster import nodes as cluster_nodes
from study.cluster.connect import cluster, count_gpus, count_workers, resolve
from study.errors import NoResources
from study.experiments import AUTOENCODER, FEWSHOT
from study.faults import Fault, OtherCode, TrialFailed
from study.grid import override, plan
from study.launch import OTHER_HOST_SECONDS, Dispatcher, resources_of
from study.provenance import sources
from study.queue import Queue, Task, missing_tasks
from study.ray_internals import Evicted
from study.resources import Resources
from study.signals import Interrupted
from study.store import Block, Store
from tests.phrases import phrase
from trainables.contract import Outcome

DATA = "0123456789abcdef"


def tiny_experiments(**fixed):
    """Autoencoder and few-shot experiments of one and three cells, for a few images."""
    small = {"width": 2, "replicates": 2} | fixed
    place = {"latent_dim": (2,), "depth": (1,)}
    return [
        override(
            AUTOENCODER,
            {**place, "batch_size": (20,)},
            {"epochs": 2, **small},
        ),
        override(
            FEWSHOT,
            {**place, "labels": (20,), "freeze": ("fixed", "full", "scratch")},
            {"epochs": 5, "encoders": 0, **small},
        ),
    ]


# --- Tune's configuration --------------------------------------------------------------------


def test_tunes_keys_are_the_settings_themselves():
    """Tune's tables and TensorBoard then have columns like `config/latent_dim`."""
    _, few_shot = plan(tiny_experiments(), DATA)
    config = trial_config([Task(few_shot[0], range(4, 6), gpus=0.5)], 1, [])
    assert {name: config[name] for name in few_shot[0].config} == few_shot[0].config
    assert config["blocks"] == [{"block": f"{few_shot[0].id}.4-5", "parent": few_shot[0].parent_id}]
    assert (config["experiment"], config["gpus"], config["avoid"]) == ("fewshot", 0.5, "")


def test_blocks_of_a_trial_hold_the_settings_that_differ():
    _, few_shot = plan(tiny_experiments(), DATA)
    config = trial_config([Task(cell, range(2)) for cell in few_shot], 1, [])
    assert "freeze" not in config
    assert config["latent_dim"] == 2
    assert [block["freeze"] for block in config["blocks"]] == ["fixed", "full", "scratch"]
    for block, cell in zip(config["blocks"], few_shot, strict=True):
        assert {name: {**config, **block}[name] for name in cell.config} == cell.config


def test_trial_avoids_nodes_by_their_ids():
    assert resources_of({"cpus": 1, "gpus": 0.5, "avoid": ""}).bundles == [{"CPU": 1, "GPU": 0.5}]
    factory = resources_of({"cpus": 1, "gpus": 0, "avoid": "abc,def"})
    assert factory._kwargs == {"bundle_label_selector": [{"ray.io/node-id": "!in(abc,def)"}]}


# --- one trial, without Ray ------------------------------------------------------------------


@pytest.fixture
def reports(monkeypatch):
    """What a trial reports to Tune, without Tune."""
    metrics = []
    without_ray = SimpleNamespace(get_context=lambda: None, report=metrics.append)
    monkeypatch.setattr(adapter, "tune", without_ray)
    return metrics


def run_cells(cells, data, store, replicates=range(2), **options):
    store.create()
    tasks = [Task(cell, replicates) for cell in cells]
    settings = {"report_interval": 0.0, "code": sources("study", "trainables")} | options
    run = Run(results=store.address, threads=1, **settings)
    run_trial(trial_config(tasks, 1, []), data=data, run=run)


def test_seconds_of_an_interrupted_try_count(reports, few_digits, tmp_path, monkeypatch):
    """Otherwise the rates, and with them the time left, are those of the last epochs alone."""

    def load(self):
        self.earlier_seconds = 1000.0

    monkeypatch.setattr("study.store.checkpoint.FileCheckpoint.load", load)
    (autoencoder,), _ = plan(tiny_experiments(), few_digits.fingerprint)
    store = Store(tmp_path)
    run_cells([autoencoder], few_digits, store)
    (provenance,) = store.provenance([autoencoder.id])
    ((_, seconds),) = reports[-1]["outcomes"]
    assert 1000 < seconds == provenance["seconds"]


def test_trial_writes_its_block_and_reports_the_means(reports, few_digits, tmp_path):
    store = Store(tmp_path)
    (autoencoder,), few_shot = plan(tiny_experiments(), few_digits.fingerprint)
    run_cells([autoencoder], few_digits, store)
    assert store.blocks() == {autoencoder.id: [range(2)]}
    assert store.config(autoencoder.id) == autoencoder.config
    rows = store.rows({autoencoder.id: 2})
    assert [report.get("epoch") for report in reports] == [1, 2, None]
    assert reports[-1]["test_mse"] == pytest.approx(rows["test_mse"].mean())
    ((value, seconds),) = reports[-1]["outcomes"]
    assert value == pytest.approx(rows["val_mse"].mean())
    assert 0 < seconds < 60
    (provenance,) = store.provenance([autoencoder.id])
    assert provenance["torch"] == torch.__version__
    assert provenance["threads"] == 1
    assert {"code", "device", "host", "started", "seconds"} <= set(provenance)

    fixed = few_shot[0]
    assert fixed.config["freeze"] == "fixed"
    run_cells([fixed], few_digits, store)
    rows = store.rows({fixed.id: 2})
    assert rows["encoder_cell"].tolist() == [autoencoder.id] * 2
    assert rows["freeze"].tolist() == ["fixed"] * 2
    assert store.predictions(fixed.id, range(2)).shape == (2, 50)


def test_more_replicates_make_their_own_block(reports, few_digits, tmp_path):
    """Replicates 2 and 3, computed later, equal those computed with all at once."""
    (cell,), _ = plan(tiny_experiments(), few_digits.fingerprint)
    parts, whole = Store(tmp_path / "parts"), Store(tmp_path / "whole")
    run_cells([cell], few_digits, parts, range(2))
    run_cells([cell], few_digits, parts, range(2, 4))
    run_cells([cell], few_digits, whole, range(4))
    assert parts.blocks() == {cell.id: [range(2), range(2, 4)]}
    tables = [store.rows({cell.id: 4}).drop(columns="train_seconds") for store in (parts, whole)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert tables[0]["replicate"].tolist() == [0, 1, 2, 3]
    weights = [store.weights(cell.id, [3])[3] for store in (parts, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("interval", [0.0, 1.0])
def test_reports_keep_their_interval(interval, reports, few_digits, tmp_path, monkeypatch):
    clock = itertools.count(step=0.4)
    times = SimpleNamespace(time=time.time, monotonic=lambda: next(clock))
    monkeypatch.setattr(adapter, "time", times)
    (autoencoder,), _ = plan(tiny_experiments(epochs=9), few_digits.fingerprint)
    run_cells([autoencoder], few_digits, Store(tmp_path), report_interval=interval)
    *epochs, last = [report.get("epoch") for report in reports]
    assert last is None  # the means at the end are never left out
    assert epochs == ([1, 4, 7] if interval else list(range(1, 10)))


def test_node_without_the_results_folder_makes_none(reports, few_digits, tmp_path):
    """The folder would be the node's own, and results would be lost with it."""
    (cell,) = plan(tiny_experiments()[:1], few_digits.fingerprint)[0]
    gone = Store(tmp_path / "gone")
    gone.create = lambda: None
    message = f"{tmp_path}/gone is not on … storage that all nodes"
    with pytest.raises(TrialFailed, match=phrase(message)) as caught:
        run_cells([cell], few_digits, gone)
    assert caught.value.fault is Fault.LOST  # another host may have it
    assert list(tmp_path.iterdir()) == []


def test_worker_with_other_sources_computes_nothing(reports, few_digits, tmp_path):
    (cell,) = plan(tiny_experiments()[:1], few_digits.fingerprint)[0]
    store = Store(tmp_path)
    with pytest.raises(TrialFailed, match="has other sources than the driver") as caught:
        run_cells([cell], few_digits, store, code="0" * 64)
    assert OtherCode.__name__ in caught.value.error
    assert caught.value.fault is Fault.LOST
    assert store.blocks() == {}


def test_worker_with_another_version_computes_nothing(reports, few_digits, tmp_path):
    (cell,) = plan(tiny_experiments()[:1], few_digits.fingerprint)[0]
    store = Store(tmp_path)
    store.create()
    config = trial_config([Task(cell, range(2))], 1, []) | {"version": 0}
    run = Run(store.address, sources("study", "trainables"), 1, 0.0)
    with pytest.raises(TrialFailed, match="has other sources than the driver"):
        run_trial(config, data=few_digits, run=run)


def test_host_that_cannot_compute_loses_its_blocks(reports, few_digits, tmp_path, monkeypatch):
    """As one where torch can't be imported: another host may compute them."""

    def broken(threads):
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(adapter, "configure_worker", broken)
    (cell,) = plan(tiny_experiments()[:1], few_digits.fingerprint)[0]
    with pytest.raises(TrialFailed, match="libcudart") as caught:
        run_cells([cell], few_digits, Store(tmp_path))
    assert caught.value.fault is Fault.LOST
    assert caught.value.own == {}


def test_diverging_block_writes_and_stops_nothing(reports, few_digits, tmp_path):
    store = Store(tmp_path)
    rates = override(tiny_experiments()[0], {"learning_rate": (1e30, 0.01)}, {})
    ((bad, good),) = plan([rates], few_digits.fingerprint)
    with pytest.raises(TrialFailed) as caught:
        run_cells([bad, good], few_digits, store)
    assert caught.value.fault is Fault.OWN
    assert list(caught.value.own) == [f"{bad.id}.0-1"]
    assert "is not a finite number" in caught.value.own[f"{bad.id}.0-1"]
    assert store.blocks() == {good.id: [range(2)]}


# --- the dispatcher, without Ray -------------------------------------------------------------


class RecordingListener:
    """A `study.queue.Listener` that records its events."""

    def __init__(self):
        self.events = []

    def __getattr__(self, name):
        return lambda *arguments: self.events.append((name, *arguments))

    def named(self, name):
        return [event[1:] for event in self.events if event[0] == name]


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of three hosts with 2 cores each."""
    found = [
        {
            "NodeID": name,
            "NodeManagerHostname": f"host-{name}",
            "NodeManagerAddress": f"10.0.0.{number}",
            "Alive": True,
            "Resources": {"CPU": 2.0},
        }
        for number, name in enumerate("abc")
    ]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    return found


@pytest.fixture
def make_dispatcher(tmp_path, nodes):
    """Makes a dispatcher over the cells of a grid, with one trial at a time by default."""

    def make(cells, workers=1):
        store, heard = Store(tmp_path), RecordingListener()
        store.create()
        queue = Queue(missing_tasks(cells, {}))
        return Dispatcher(queue, heard, store, 1.0, lambda: workers), store, heard

    return make


def autoencoders(*dims):
    grid = {"latent_dim": dims, "depth": (2,), "batch_size": (20,)}
    return plan([override(AUTOENCODER, grid, {"replicates": 2})], DATA)[0]


def lost_error(node, text="Traceback …\nOSError: stale file handle"):
    return RayTaskError("train", text, TrialFailed(Fault.LOST, text, node, {}))


def start_trial(dispatcher, name):
    config = dispatcher.suggest(name)
    dispatcher.on_trial_start(name)
    return config


def test_lost_block_is_tried_again_on_another_node(make_dispatcher):
    dispatcher, store, heard = make_dispatcher(autoencoders(2))
    assert start_trial(dispatcher, "1")["avoid"] == ""
    dispatcher.on_trial_error("1", lost_error("a"))
    assert start_trial(dispatcher, "2")["avoid"] == "a"
    dispatcher.on_trial_error("2", lost_error("b"))
    assert start_trial(dispatcher, "3")["avoid"] == "b"
    assert [text for (text,) in heard.named("say")] == [
        (
            "1 block of autoencoder tried again (try 2 of 4): its worker or host failed: "
            "OSError: stale file handle"
        ),
        (
            "1 block of autoencoder tried again (try 3 of 4): its worker or host failed: "
            "OSError: stale file handle"
        ),
    ]
    assert store.failures() == {}


def test_no_block_starts_while_a_lost_one_awaits_a_node(make_dispatcher, monkeypatch):
    """Tune would give freed cores to the next block, whose actor it can reuse."""
    dispatcher, _, _ = make_dispatcher(autoencoders(*range(2, 12)), workers=4)
    start_trial(dispatcher, "1")
    dispatcher.on_trial_error("1", lost_error("a"))
    assert dispatcher.suggest("2")["avoid"] == "a"
    assert dispatcher.suggest("3") is None
    dispatcher.on_trial_start("2")
    assert dispatcher.suggest("3")["avoid"] == ""
    # A node that never comes doesn't hold up the others for ever.
    dispatcher.on_trial_error("2", lost_error("b"))
    assert dispatcher.suggest("4")["avoid"] == "b"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + OTHER_HOST_SECONDS)
    assert dispatcher.suggest("5")["avoid"] == ""


def test_deadly_block_runs_alone_last_and_then_fails(make_dispatcher):
    (cell,) = autoencoders(2)
    dispatcher, store, heard = make_dispatcher([cell])
    cores = []
    for number in range(4):
        cores.append(start_trial(dispatcher, str(number))["cpus"])
        dispatcher.on_trial_error(str(number), RayActorError(error_msg="died unexpectedly"))
    assert cores == [1.0, 1.0, 1.0, 2.0]  # a whole host
    assert "died unexpectedly" in store.failures()[cell.id]["reason"]
    assert len(heard.named("failed")) == 1
    assert dispatcher.suggest("5") == dispatcher.FINISHED


def test_failed_block_is_not_counted_as_running(make_dispatcher):
    dispatcher, _, heard = make_dispatcher(autoencoders(2))
    running = []
    heard.failed = lambda task, error: running.append(task in dispatcher.queue.running)
    start_trial(dispatcher, "1")
    dispatcher.on_trial_error("1", ValueError("a bug"))
    assert running == [False]


def test_host_losing_three_blocks_in_a_row_gets_no_more(make_dispatcher):
    """If its results folder isn't mounted, it would use up the whole queue's tries."""
    dispatcher, store, heard = make_dispatcher(autoencoders(*range(2, 12)), workers=3)
    for name in ("1", "2", "3"):
        start_trial(dispatcher, name)
        dispatcher.on_trial_error(name, lost_error("a"))
    assert heard.named("say")[-1] == (
        "host host-a has lost its last 3 blocks and gets no more: OSError: stale file handle",
    )
    assert start_trial(dispatcher, "4")["avoid"] == "a"
    assert start_trial(dispatcher, "5")["avoid"] == "a"
    assert store.failures() == {}
    dispatcher.on_trial_error("5", lost_error("a"))  # as one that was running may
    assert sum("gets no more" in text for (text,) in heard.named("say")) == 1


def test_success_between_clears_a_host(make_dispatcher):
    dispatcher, _, heard = make_dispatcher(autoencoders(*range(2, 12)), workers=3)
    for name in ("1", "2", "3", "4"):
        start_trial(dispatcher, name)
        if name == "3":
            done = {"node": "a", "outcomes": ((0.1, 1.0),)}
            dispatcher.on_trial_complete(name, done)
        else:
            dispatcher.on_trial_error(name, lost_error("a"))
    assert not any("gets no more" in text for (text,) in heard.named("say"))
    for name, node in (("5", "b"), ("6", "a"), ("7", "a")):
        start_trial(dispatcher, name)
        dispatcher.on_trial_error(name, lost_error(node))
    assert [text for (text,) in heard.named("say") if "gets no more" in text] == [
        "host host-a has lost its last 3 blocks and gets no more: OSError: stale file handle"
    ]


def test_only_host_is_never_excluded_for_good(make_dispatcher, nodes):
    del nodes[1:]
    dispatcher, _, heard = make_dispatcher(autoencoders(*range(2, 12)))
    for name in ("1", "2", "3"):
        start_trial(dispatcher, name)
        dispatcher.on_trial_error(name, lost_error("a"))
    assert not any("gets no more" in text for (text,) in heard.named("say"))
    assert start_trial(dispatcher, "4")["avoid"] == ""


def test_block_written_before_its_worker_died_is_done(make_dispatcher):
    (cell,) = autoencoders(2)
    dispatcher, store, heard = make_dispatcher([cell])
    start_trial(dispatcher, "1")
    rows = [{"replicate": replicate} for replicate in range(2)]
    store.write_block(Block(cell.id, range(2)), cell.config, None, Outcome(rows), {})
    dispatcher.on_trial_error("1", RayActorError(error_msg="died"))
    assert len(heard.named("done")) == 1
    assert dispatcher.suggest("2") == dispatcher.FINISHED


def test_trial_without_result_and_error_is_lost(make_dispatcher):
    """Tune has neither for a trial whose host died while it started."""
    dispatcher, _, heard = make_dispatcher(autoencoders(2))
    start_trial(dispatcher, "1")
    dispatcher.on_trial_error("1", None)
    assert "try 2 of 4" in heard.named("say")[0][0]


def test_own_error_is_final_and_fails_the_children(make_dispatcher):
    groups = plan(tiny_experiments(), DATA)
    (autoencoder,), (fixed, full, scratch) = groups
    dispatcher, store, heard = make_dispatcher([cell for cells in groups for cell in cells])
    config = start_trial(dispatcher, "1")
    assert config["experiment"] == "autoencoder"
    own = {config["blocks"][0]["block"]: "Traceback …\nDiverged: not a finite number"}
    failed = TrialFailed(Fault.OWN, "", "a", own)
    dispatcher.on_trial_error("1", RayTaskError("train", "…", failed))
    failures = store.failures()
    assert failures[autoencoder.id]["reason"] == "Diverged: not a finite number"
    for child in (fixed, full):
        assert failures[child.id]["reason"] == (
            f"not tried: the cell {autoencoder.id} that it builds on has failed"
        )
    assert start_trial(dispatcher, "2")["freeze"] == "scratch"
    assert scratch.id not in failures
    assert heard.named("say") == []


def test_failure_is_forgotten_when_the_cell_is_tried_again(make_dispatcher, tmp_path):
    store = Store(tmp_path)
    store.create()
    cells = autoencoders(2, 3)
    for cell in cells:
        store.write_failure(cell.id, cell.config, "of an earlier command")
    dispatcher, store, _ = make_dispatcher(cells)
    config = start_trial(dispatcher, "1")
    tried = config["blocks"][0]["block"].partition(".")[0]
    assert set(store.failures()) == {cell.id for cell in cells} - {tried}


def test_failure_outlasts_the_other_blocks_of_its_cell(make_dispatcher):
    (cell,) = autoencoders(2)
    dispatcher, store, _ = make_dispatcher([cell], workers=2)
    dispatcher.queue = Queue([Task(cell, range(1)), Task(cell, range(1, 2))])
    config = start_trial(dispatcher, "1")
    own = {config["blocks"][0]["block"]: "Diverged: not a finite number"}
    dispatcher.on_trial_error("1", RayTaskError("t", "…", TrialFailed(Fault.OWN, "", "a", own)))
    start_trial(dispatcher, "2")
    dispatcher.on_trial_complete("2", {"node": "a", OUTCOMES: ((0.1, 1.0),)})
    assert store.failures()[cell.id]["reason"] == "Diverged: not a finite number"


def test_evicted_workers_run_alone_in_the_end(make_dispatcher):
    (cell,) = autoencoders(2)
    dispatcher, store, _heard = make_dispatcher([cell])
    cores = []
    for number in range(4):
        cores.append(start_trial(dispatcher, str(number))["cpus"])
        dispatcher.on_trial_error(str(number), Evicted(error_msg="killed, memory low"))
    assert cores == [1.0, 1.0, 2.0, 2.0]
    reason = store.failures()[cell.id]["reason"]
    assert reason.startswith("OutOfMemoryError: the host's memory ran out in 4 tries, the last one")


def test_no_more_trials_wait_than_workers_are_free(make_dispatcher):
    dispatcher, _, _ = make_dispatcher(autoencoders(*range(2, 12)), workers=2)
    assert dispatcher.suggest("1")
    assert dispatcher.suggest("2")
    assert dispatcher.suggest("3") is None
    dispatcher.on_trial_start("1")
    assert dispatcher.suggest("3") is None  # one waits, and one worker is free
    dispatcher.on_trial_start("2")
    assert dispatcher.suggest("3")


def test_more_trials_wait_when_the_cluster_has_grown(make_dispatcher, monkeypatch):
    """Otherwise the first worker that is free on the old hosts has no trial."""
    dispatcher, _, heard = make_dispatcher(autoencoders(*range(2, 12)), workers=2)
    for name in "12":
        start_trial(dispatcher, name)
    dispatcher.count = lambda: 4
    assert dispatcher.suggest("3") and dispatcher.suggest("4") is None
    monkeypatch.setattr("study.launch.COUNT_INTERVAL", 0.0)
    assert dispatcher.suggest("4") and dispatcher.suggest("5") is None
    assert heard.named("resized")[-1] == (4,)
    dispatcher.count = lambda: 3  # a host that is away comes back
    assert dispatcher.suggest("5") is None
    dispatcher.on_trial_start("3")
    dispatcher.on_trial_complete("3", {"node": "a", "outcomes": ((0.1, 1.0),)})
    assert dispatcher.suggest("5")


# --- the cluster, without Ray ----------------------------------------------------------------


@pytest.fixture
def fake_ray(monkeypatch, tmp_path):
    """A fake cluster of two nodes with 2 cores each; the value lists the calls."""
    calls = []
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(("init", options)))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append(("shutdown", None)))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    name = {"NodeID": "1", "NodeManagerHostname": "one", "NodeManagerAddress": "10.0.0.1"}
    node = {"Alive": True, "Resources": {"CPU": 2.0}, **name}
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, node, dead])
    context = SimpleNamespace(
        get_temp_dir=lambda: str(tmp_path / "ray"), get_session_name=lambda: "session_1"
    )
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    return calls


def test_local_cluster_is_started_and_ended(fake_ray):
    with cluster(Resources("local", 1, 0)):
        assert [name for name, _ in fake_ray] == ["init"]
    assert [name for name, _ in fake_ray] == ["init", "shutdown"]
    assert fake_ray[0][1]["address"] == "local"


def test_running_cluster_is_joined(fake_ray):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with cluster(Resources(address, 1, 0)):
            assert fake_ray[0][1]["address"] == address
    assert fake_ray[-1][0] == "shutdown"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("Version mismatch: the cluster has Ray 2.9,\nthis process 2.60"),
            "Version mismatch",
        ),
        (AuthenticationError("no token was found"), "no token was found"),
        (ConnectionError("Could not find any running Ray instance"), "Could not find any"),
    ],
)
def test_cluster_refusal_is_told_in_one_line(error, message, fake_ray, monkeypatch):
    def refuse(**options):
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(NoResources, match=message) as caught, cluster(Resources("auto")):
        pytest.fail("the cluster was used")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("error", "kept"), [(None, False), (Interrupted(2), False),
                                            (RuntimeError("a bug"), True)])  # fmt: skip
def test_ray_logs_are_kept_after_an_error(error, kept, fake_ray, tmp_path):
    logs = tmp_path / "ray" / "session_1"
    logs.mkdir(parents=True)
    with contextlib.suppress(RuntimeError, Interrupted), cluster(Resources()):
        if error:
            raise error
    assert logs.exists() is kept


def test_auto_without_gpus_uses_none():
    nodes = [{"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0}]
    assert resolve(Resources(), nodes).gpus_per_trial == "auto"
    assert resolve(Resources(), nodes[:1]).gpus_per_trial == 0
    assert resolve(Resources(gpus_per_trial=0.25), nodes).gpus_per_trial == 0.25
    with pytest.raises(NoResources, match=phrase("--gpus-per-trial 3: … has 2 GPUs")):
        resolve(Resources(gpus_per_trial=3), nodes)


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "count"),
    [(1, 0, {"CPU": 8}, 8), (2, 0, {"CPU": 7}, 3), (1, 1, {"CPU": 8, "GPU": 2}, 2),
     (1, 0.3, {"CPU": 48, "GPU": 4}, 12), (1, 2, {"CPU": 48, "GPU": 5}, 2), (4, 0, {"CPU": 2}, 1)],
)  # fmt: skip
def test_cluster_runs_as_many_trials_as_it_holds(cpus, gpus, node, count, monkeypatch):
    monkeypatch.setattr("study.cluster.connect.startable_nodes", list)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node}])
    assert count_workers(Resources("auto", cpus), gpus) == count


@pytest.mark.parametrize(
    ("cpus", "gpus", "named"),
    [(4, 0, "--cpus-per-trial 4: … 2 CPUs"), (1, 0.5, "--gpus-per-trial 0.5: … 0 GPUs")],
)
def test_trial_that_fits_nowhere_is_refused(cpus, gpus, named, fake_ray):
    """Tune would wait for ever."""
    with pytest.raises(NoResources, match=phrase(named)), cluster(Resources("auto", cpus, gpus)):
        pytest.fail("the cluster was used")
    assert fake_ray[-1][0] == "shutdown"


def test_worker_that_autoscaling_may_start_counts(fake_ray, monkeypatch):
    monkeypatch.setattr(
        "study.cluster.connect.startable_nodes", lambda: [{"CPU": 48.0, "GPU": 4.0}]
    )
    with cluster(Resources("auto", 8)) as resources:
        assert resources == Resources("auto", 8, "auto")
    with pytest.raises(NoResources, match="--cpus-per-trial 8"), cluster(Resources("local", 8)):
        pytest.fail("no machine of its own starts others")
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    counts = [
        (count_workers(Resources(address)), count_gpus(Resources(address)))
        for address in ("auto", "local")
    ]
    assert counts == [(50, 4.0), (2, 0)]


ON_A_CLUSTER = ["run", "autoencoder", "--preset", "smoke", "--address", "auto", "--out"]


def test_cluster_too_small_for_a_trial_is_bad_input(fake_ray, tmp_path, refusal):
    line = refusal(*ON_A_CLUSTER, tmp_path, "--cpus-per-trial", 4, late=True)
    assert "--cpus-per-trial 4" in line


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Could not find any running Ray instance."),
        ValueError("Invalid address format: nonsense"),  # of RAY_ADDRESS
        OSError("AF_UNIX path length cannot exceed 107 bytes: /a/long/RAY_TMPDIR"),
        Exception("The current node timed out during startup."),  # no core was free for 30 s
    ],
)
def test_ray_that_cannot_start_or_join_is_bad_input(error, monkeypatch, tmp_path, refusal):
    def refuse(**options):
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    line = refusal(*ON_A_CLUSTER, tmp_path, late=True)
    assert "--address auto" in line
    assert str(error) in line


def test_programming_error_in_starting_ray_is_raised(monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "init", lambda: None)  # takes none of the arguments
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        main([*ON_A_CLUSTER, str(tmp_path)])


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "127.0.0.1:x", "127.0.0.1:99999999"])
def test_silent_ray_address_variable_is_refused(address, fake_ray, monkeypatch, tmp_path, refusal):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(port=server.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    line = refusal(*ON_A_CLUSTER, tmp_path, late=True)
    assert f"RAY_ADDRESS {address}: no Ray cluster answers there" in line
    assert fake_ray == []


def check_states(shown):
    """`ok` or `BAD` by the name of each check."""
    return {name: state for state, name, *_ in map(str.split, shown.splitlines())}


def test_check_reports_everything_ready(fake_ray, tmp_path, capsys):
    assert main(["check", "--out", str(tmp_path / "results")]) == 0
    shown = capsys.readouterr().out
    names = ("versions", "processor", "GPUs", "data", "storage", "ray")
    assert check_states(shown).items() >= dict.fromkeys(names, "ok").items()
    assert "BAD" not in shown
    assert "3,600 train, 400 val, 1,000 test" in shown


def test_check_reports_what_is_missing(fake_ray, tmp_path, monkeypatch, capsys):
    def unreadable(*source):
        raise cluster_nodes.DataError("no such data")

    monkeypatch.setattr(cluster_nodes, "load", unreadable)
    (tmp_path / "file").touch()
    assert main(["check", "--out", str(tmp_path / "file")]) == 1
    shown = capsys.readouterr().out
    states = check_states(shown)
    assert (states["data"], states["storage"], states["ray"]) == ("BAD", "BAD", "ok")
    assert "no such data" in shown and "is a file" in shown


# --- missing cells and replicates ------------------------------------------------------------


def count_by_experiment(asked, out):
    """How many blocks of each experiment of the latest plan are in a list."""
    cells = {block.cell for block in asked}
    plan = Store(out).plan()["experiments"]
    found = {e["name"]: sum(c["id"] in cells for c in e["cells"]) for e in plan}
    return {name: count for name, count in found.items() if count}


def test_only_missing_cells_are_computed(computed_blocks, tmp_path, capsys):
    command = ["run", "fewshot", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 0
    assert count_by_experiment(computed_blocks, tmp_path) == {"autoencoder": 2, "fewshot": 24}
    first = set(computed_blocks)

    computed_blocks.clear()
    assert "nothing to compute" not in capsys.readouterr().out
    assert main(command) == 0
    assert "nothing to compute" in capsys.readouterr().out
    assert computed_blocks == []

    assert main([*command, "--latent-dims", "2", "3", "8"]) == 0
    assert count_by_experiment(computed_blocks, tmp_path) == {"autoencoder": 1, "fewshot": 12}
    assert not first & set(computed_blocks)


def test_only_missing_replicates_are_computed(computed_blocks, tmp_path, capsys):
    command = ["run", "autoencoder", "--preset", "smoke", "--out", str(tmp_path), "--replicates"]
    assert main([*command, "2"]) == 0
    assert [block.replicates for block in computed_blocks] == [range(2)] * 2
    computed_blocks.clear()
    assert main([*command, "4"]) == 0
    assert [block.replicates for block in computed_blocks] == [range(2, 4)] * 2
    computed_blocks.clear()
    assert main([*command, "3"]) == 0
    assert computed_blocks == []
    assert "nothing to compute: every replicate is there" in capsys.readouterr().out


def test_studies_in_one_folder_share_common_cells(computed_blocks, tmp_path):
    places = ["--preset", "smoke", "--out", str(tmp_path)]
    assert main(["run", "autoencoder", *places]) == 0
    computed_blocks.clear()
    assert main(["run", "fewshot", *places]) == 0
    assert count_by_experiment(computed_blocks, tmp_path) == {"fewshot": 24}


# --- failures --------------------------------------------------------------------------------


def test_study_whose_cells_all_fail_says_so(fake_session, tmp_path, capsys):
    fake_session(error="Traceback …\nMemoryError: too large")
    command = ["run", "fewshot", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert shown.count("MemoryError: too large") == 2 + 24
    assert "no cell is finished, so there is no report" in shown
    assert Store(tmp_path).blocks() == {}
    assert load(tmp_path).rows.empty


FRAGILE = """

EXPERIMENTS["fragile"] = Experiment(
    name="fragile",
    trainable="trainables.autoencoder",
    axes={"learning_rate": (0.01, 1e30), "latent_dim": (2,)},
    fixed={"depth": 1, "width": 2, "epochs": 1},
    replicates=2,
)
EXPERIMENTS["offspring"] = Experiment(
    name="offspring",
    trainable="trainables.fewshot",
    axes={"learning_rate": (0.01, 1e30), "latent_dim": (2,), "labels": (20,),
          "freeze": ("fixed", "scratch")},
    fixed={"depth": 1, "width": 2, "epochs": 5},
    replicates=2,
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
def test_failing_cell_is_reported_and_the_others_finish(copy_packages, run_study, tmp_path):
    packages = copy_packages(tmp_path / "copy")
    registry = packages / "study" / "experiments.py"
    registry.write_text(registry.read_text() + FRAGILE)
    out = tmp_path / "results"
    ran = run_study("run", "offspring", "--out", out, folder=packages)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "tried again" not in ran.stdout  # it would only fail again

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
    assert set(store.blocks()) == good
    failures = store.failures()
    assert set(failures) == set(bad.values())
    reasons = {settings: failures[id]["reason"] for settings, id in bad.items()}
    parent = bad["fragile", 1e30, None]
    diverged = "Diverged: the training loss in epoch 1 of replicate 0, 1 is not a finite number"
    assert reasons["fragile", 1e30, None] == diverged
    scratch = reasons["offspring", 1e30, "scratch"]
    assert scratch.startswith("Diverged: ") and scratch.endswith(" is not a finite number")
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
        assert not (out / "blocks" / identity).exists()
    for table in (out / "report" / "tables").glob("*.csv"):
        if table.name != "missing.csv":
            assert "e+30" not in table.read_text()

    planned_again = run_study("plan", "offspring", "--out", out, folder=packages)
    shown = " ".join(planned_again.stdout.split())
    failed = "2 missing; 1 cell failed last time"
    assert f"fragile: 2 cells, 1 done, 1 missing; 4 replicates, {failed}" in shown
    failed = "4 missing; 2 cells failed last time"
    assert f"offspring: 4 cells, 2 done, 2 missing; 8 replicates, {failed}" in shown
