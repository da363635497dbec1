"""Nodes that an autoscaled cluster may still start."""

import copy

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from study.cluster.autoscaling import CONFIGURATION, startable_nodes
from study.errors import NoResources


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_no_startable_nodes_without_configuration(home):
    assert startable_nodes() == []


def test_startable_nodes_are_the_committed_workers(home, request):
    written = yaml.safe_load((request.config.rootpath / "cluster.yaml").read_text())
    prepared = prepare_config(copy.deepcopy(written))
    (home / CONFIGURATION.removeprefix("~/")).write_text(yaml.safe_dump(prepared))
    (workers,) = startable_nodes()
    assert (workers["CPU"], workers["GPU"]) == (48, 4)


def test_fixed_hosts_have_unknown_resources(home):
    config = {"available_node_types": {"local": {"resources": {}, "max_workers": 2}}}
    (home / CONFIGURATION.removeprefix("~/")).write_text(yaml.safe_dump(config))
    assert startable_nodes() == [{}]


@pytest.mark.parametrize("content", ["", "[]", "{", "available_node_types: 3", "a: 1"])
def test_damaged_configuration_is_one_line(content, home):
    (home / CONFIGURATION.removeprefix("~/")).write_text(content)
    with pytest.raises(NoResources, match="is not a configuration for `ray up`"):
        startable_nodes()
