"""`cluster.yaml` as Ray reads it, and the hosts that it starts on AWS (a mock)."""

import copy

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from study.provenance import packages
from tests.cluster.hosts import ROOT


@pytest.fixture
def configuration():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture
def aws(monkeypatch):
    """An AWS account with what docs/cluster.md asks for, and nothing else."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        iam = boto3.client("iam", region_name="us-west-2")
        for name in ("latent-study-head", "latent-study-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        yield


@pytest.fixture
def bootstrapped(configuration, aws, monkeypatch, tmp_path):
    """The configuration as `ray up` hands it to AWS."""
    monkeypatch.setenv("HOME", str(tmp_path))  # for the key pair that Ray makes
    return aws_config.bootstrap_aws(prepare_config(copy.deepcopy(configuration)))


def test_ray_accepts_the_configuration(configuration):
    config = prepare_config(copy.deepcopy(configuration))
    validate_config(config)  # Ray's own schema
    assert config["available_node_types"]["head"]["max_workers"] == 0


def test_workers_are_spot_gpu_hosts_from_none_to_many(configuration):
    workers = configuration["available_node_types"]["workers"]
    assert (workers["min_workers"], workers["max_workers"]) == (0, configuration["max_workers"])
    assert workers["resources"]["GPU"] > 1
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    head = configuration["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]


def test_hosts_have_equal_versions_and_ask_for_the_token(configuration):
    setup = " ".join(configuration["setup_commands"])
    assert "uv venv --seed --python 3.12." in setup  # to the patch level
    assert "make -C ~/latent-study setup" in setup  # which installs requirements.lock
    assert f"ray=={packages()['ray']} " in (ROOT / "requirements.lock").read_text()
    assert "chmod 600 ~/.ray/auth_token" in setup
    starts = [configuration[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all("RAY_AUTH_MODE=token ~/latent-study/.venv/bin/ray start" in s for s in starts)
    assert configuration["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_hosts_get_the_files_an_installation_needs(configuration):
    sent = {
        remote.removeprefix("~/latent-study/"): local
        for remote, local in configuration["file_mounts"].items()
        if remote.startswith("~/latent-study/")
    }
    assert all(remote == local and (ROOT / local).exists() for remote, local in sent.items())
    assert {"study", "trainables", "analysis", "pyproject.toml", "requirements.lock",
            "Makefile", "README.md", "LICENSE"} == set(sent)  # fmt: skip


def test_aws_opens_only_ssh_to_the_world(bootstrapped):
    ec2 = boto3.resource("ec2", region_name="us-west-2")
    ids = {
        identity
        for kind in bootstrapped["available_node_types"].values()
        for identity in kind["node_config"]["SecurityGroupIds"]
    }
    (group,) = (ec2.SecurityGroup(identity) for identity in ids)
    assert group.group_name == "latent-study"
    to_the_world = {
        (rule.get("FromPort"), rule.get("ToPort"))
        for rule in group.ip_permissions
        if rule["IpRanges"] or rule.get("Ipv6Ranges")
    }
    assert to_the_world == {(22, 22)}
    within = [rule for rule in group.ip_permissions if rule["UserIdGroupPairs"]]
    assert [pair["GroupId"] for rule in within for pair in rule["UserIdGroupPairs"]] == [group.id]


def test_aws_starts_the_head_and_gives_workers_as_spot(bootstrapped):
    provider = AWSNodeProvider(bootstrapped["provider"], bootstrapped["cluster_name"])
    image = boto3.client("ec2", region_name="us-west-2").describe_images()["Images"][0]["ImageId"]
    for kind in ("head", "workers"):
        config = copy.deepcopy(bootstrapped["available_node_types"][kind]["node_config"])
        assert config["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/")
        config["ImageId"] = image  # the mock has no such parameter
        provider.create_node(config, {"ray-user-node-type": kind}, 1)
    started = {
        instance.instance_type: instance
        for instance in boto3.resource("ec2", region_name="us-west-2").instances.all()
    }
    wanted = {
        kind["node_config"]["InstanceType"]: kind["node_config"]
        for kind in bootstrapped["available_node_types"].values()
    }
    assert set(started) == set(wanted)
    for kind, instance in started.items():
        profile = wanted[kind]["IamInstanceProfile"]["Name"]
        assert instance.iam_instance_profile["Arn"].endswith(f"/{profile}")
        assert instance.key_name == wanted[kind]["KeyName"]
        spot = "InstanceMarketOptions" in wanted[kind]
        assert (instance.instance_lifecycle == "spot") == spot
    (worker,) = provider.non_terminated_nodes({"ray-user-node-type": "workers"})
    provider.terminate_node(worker)
    assert provider.non_terminated_nodes({"ray-user-node-type": "workers"}) == []
