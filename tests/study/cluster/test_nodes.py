"""NodeFacts of a cluster's nodes, and the driver's checks of them."""

import io
from contextlib import nullcontext
from dataclasses import replace

import pytest
import ray
from rich.console import Console

from study import launch
from study.cluster import nodes
from study.cluster.nodes import (
    NodeFacts,
    node_facts,
    node_problems,
    require_shared,
    storage_problem,
)
from study.errors import BadInput
from study.resources import Resources
from study.store import Store
from trainables.data import WHOLE

HERE = NodeFacts(
    packages={"python": "3.12.1", "torch": "2.15.0"},
    code="abc",
    gpus=(),
    token=True,
    token_is_private=True,
    storage="",
    clock=1000.0,
)
WORKER = {"Resources": {"CPU": 8.0, "GPU": 2.0}}


def test_node_like_the_driver_with_its_gpus_is_fine():
    assert node_problems(WORKER, replace(HERE, gpus=("A10G", "A10G"), clock=1020.0), HERE) == []


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"packages": {"python": "3.12.1", "torch": "2.14.0"}},
         "torch 2.14.0, the driver has 2.15.0"),
        ({"packages": {"python": "3.12.1"}}, "torch None, the driver has 2.15.0"),
        ({"code": "abd"}, "other sources than the driver's; `ray up` copies them again"),
        ({"gpus": ("A10G",)}, "torch sees 1 of 2 GPUs; check the NVIDIA driver"),
        ({"storage": "/results is not there"}, "/results is not there"),
        ({"token": False}, "Ray asks for no token there; start it with RAY_AUTH_MODE=token"),
        ({"token_is_private": False},
         "others can read the token there; chmod 600 ~/.ray/auth_token"),
        ({"clock": 1500.0}, "its clock is 500 s ahead"),
        ({"clock": 100.0}, "its clock is 900 s behind"),
    ],
)  # fmt: skip
def test_each_difference_is_named(different, message):
    answer = replace(HERE, **{"gpus": ("A10G", "A10G"), **different})
    assert node_problems(WORKER, answer, HERE) == [message]


def test_node_without_an_answer_is_trouble():
    assert node_problems(WORKER, "no answer within 60 s", HERE) == ["no answer within 60 s"]


def test_results_folder_is_known_by_its_mark(local_store, tmp_path):
    with local_store.place.temporary_file(".mark-") as mark:
        assert storage_problem(Store(tmp_path / "results"), mark) == ""
    message = f"{tmp_path / 'results'} is not there, or another folder than the driver's"
    assert storage_problem(Store(tmp_path / "results"), mark) == message
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "blocks",
        "format.json",
    ]


def test_missing_folder_is_not_made(tmp_path):
    assert "is not there" in storage_problem(Store(tmp_path / "gone"), ".mark.x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "private"), [(0o600, True), (0o640, False), (0o604, False)])
def test_private_file_is_readable_by_its_owner_only(mode, private, tmp_path):
    token = tmp_path / "auth_token"
    assert nodes.is_private(token)  # there is none
    token.touch(mode=mode)
    token.chmod(mode)
    assert nodes.is_private(token) == private


def test_facts_of_this_machine(local_store):
    with local_store.place.temporary_file(".mark-") as mark:
        mine = node_facts(local_store.address, mark, has_gpus=False)
    assert mine.storage == "" and mine.gpus == ()
    assert set(mine.packages) >= {"python", "torch", "ray"}


@pytest.fixture
def answers(monkeypatch):
    """The answers of a cluster's nodes by name, for a test to fill."""
    given = {}
    record = lambda host: {  # noqa: E731
        "NodeManagerHostname": host,
        "NodeManagerAddress": "10.0.0.3",
        "Resources": {"CPU": 2.0},
    }
    monkeypatch.setattr(nodes, "alive_nodes", lambda: [record(host) for host in given])
    monkeypatch.setattr(nodes, "ask_nodes", lambda asked, store: list(given.values()))
    return given


def test_unshared_results_are_refused_with_a_remedy(answers, tmp_path):
    answers |= {
        "head": HERE,
        "worker-1": replace(HERE, storage="is not there"),
        "worker-2": replace(HERE, storage="is not there"),
    }
    with pytest.raises(BadInput) as caught:
        require_shared(Store(tmp_path), Console(quiet=True))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"--out {tmp_path}: is not seen by worker-1 (10.0.0.3), worker-2 (10")
    assert "s3://BUCKET/PATH" in line


def test_shared_results_pass_and_silent_nodes_are_named(answers, tmp_path):
    answers |= {"head": HERE, "worker-1": "no answer within 60 s"}
    output = io.StringIO()
    require_shared(Store(tmp_path), Console(file=output))
    assert output.getvalue().startswith("worker-1 (10.0.0.3): no answer within 60 s")


def test_study_refuses_unshared_results_on_a_cluster(answers, monkeypatch, tmp_path, refusal):
    answers |= {"worker-1": replace(HERE, storage="is not there")}
    monkeypatch.setattr("study.cluster.connect.cluster", nullcontext)
    monkeypatch.setattr(launch.ray, "put", lambda data: None)
    fail = lambda *arguments: pytest.fail("the study was started")  # noqa: E731
    monkeypatch.setattr(launch.Session, "compute", fail)
    command = ["run", "autoencoder", "--preset", "smoke", "--out", tmp_path / "results"]
    line = refusal(*command, "--address", "auto", late=True)
    assert line.startswith(f"study run: --out {tmp_path / 'results'}: is not seen by worker-1")


def test_check_has_a_line_for_each_node(answers, monkeypatch, tmp_path):
    mine = node_facts(str(tmp_path), "", has_gpus=False)
    mine = replace(mine, storage="", token_is_private=True)
    answers |= {"head": replace(mine, token=True), "worker-1": replace(mine, token=False)}
    monkeypatch.setattr(nodes, "cluster", nullcontext)
    output = io.StringIO()
    console = Console(file=output, width=200)
    assert not nodes.check(console, ("mnist-5k", None, WHOLE), tmp_path, Resources("auto", 1, 0))
    lines = output.getvalue().splitlines()
    assert lines[-3] == "ok   ray        auto: 2 nodes, 4 CPUs, 0 GPUs"
    assert lines[-2].startswith(
        "ok   node       head (10.0.0.3): versions, code and results folder as here"
    )
    assert lines[-1].startswith("BAD  node       worker-1 (10.0.0.3): Ray asks for no token there")


@pytest.mark.ray
@pytest.mark.slow
def test_nodes_of_a_real_ray_answer(local_store):
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        (node,) = nodes.alive_nodes()
        answer, same = nodes.ask_nodes([node, node], local_store)  # as two on one host
    finally:
        ray.shutdown()
    mine = node_facts(local_store.address, "", has_gpus=False)
    assert same.packages == answer.packages
    assert (answer.packages, answer.code, answer.storage) == (mine.packages, mine.code, "")
    assert sorted(local_store.place.path.iterdir()) == [
        local_store.place.path / name for name in ("blocks", "format.json")
    ]
