"""What an autoscaled cluster may still bring."""

import copy

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from study.cluster.autoscaling import CONFIGURATION, may_come


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_elsewhere_than_on_a_head_nothing_comes(home):
    assert may_come() == []


def test_the_workers_of_the_committed_configuration_may_come_and_no_second_head(home, request):
    written = yaml.safe_load((request.config.rootpath / "cluster.yaml").read_text())
    prepared = prepare_config(copy.deepcopy(written))
    (home / CONFIGURATION.removeprefix("~/")).write_text(yaml.safe_dump(prepared))
    (workers,) = may_come()
    assert (workers["CPU"], workers["GPU"]) == (48, 4)


def test_of_a_cluster_of_fixed_hosts_nothing_is_known_beforehand(home):
    config = {"available_node_types": {"local": {"resources": {}, "max_workers": 2}}}
    (home / CONFIGURATION.removeprefix("~/")).write_text(yaml.safe_dump(config))
    assert may_come() == [{}]
