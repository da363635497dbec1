"""The study on three real hosts, from `ray up` to `ray down`, and through the faults of hosts.

Tests share the cluster; hosts that one left dead or cut off are up again before the next.
"""

import shlex
import time
from pathlib import Path

import pandas as pd
import pytest

from study.store import Store
from tests.cluster.hosts import wait_for
from tests.computing import assert_same_tables, tables

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
core = pytest.mark.cluster_core
"""Marks the tests that continuous integration runs."""

AGENTS = {"ray::DashboardA", "ray::RuntimeEnv"}
"""Ray's agents, by the names of their processes."""

GRID = "autoencoder --latent-dims 4 8 12 --depths 2 --batch-sizes 32 64 --epochs 4 --replicates 2"
"""Six cells of some three to ten seconds of one core each."""

RUN = f"study run {GRID} --no-report --address auto"
"""The report takes as long as all the rest; one of the tests has it."""

SHORT_CELLS = RUN.replace("4 8 12", " ".join(map(str, range(2, 14)))).replace(
    "epochs 4", "epochs 2"
)
"""24 cells of some two to four seconds each: several for every core."""


def verified_tables(folder):
    """Rows and histories of the results in a folder, none of which is damaged."""
    store = Store(folder)
    assert store.verify(store.blocks()) == {}
    return tables(store)


@pytest.fixture(scope="module")
def undisturbed(run_study, tmp_path_factory):
    """The table computed by this machine alone, without a cluster."""
    out = tmp_path_factory.mktemp("alone") / "results"
    done = run_study("run", *GRID.split(), "--no-report", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return verified_tables(out)


@core
def test_check_finds_every_host_ready(cluster):
    output = cluster.on_head("cd ~/latent-study && study check --address auto --out /mnt/checked")
    assert "ok   ray        auto: 3 nodes" in output
    nodes = [line for line in output.splitlines() if " node  " in line]
    assert len(nodes) == 3
    assert all("versions, code and results folder as here, asks for the token" in n for n in nodes)
    assert "BAD" not in output


def test_check_and_run_refuse_results_that_one_host_has(cluster):
    alone = "~/results-of-the-head"
    check = f"cd ~/latent-study && study check --address auto --out {alone}; echo code $?"
    output = cluster.on_head(check)
    assert output.count("is not there, or another folder than the driver's") == 2
    assert "code 1" in output
    output = cluster.on_head(
        f"cd ~/latent-study && study run {GRID} --address auto --out {alone}; echo code $?"
    )
    (line,) = [line for line in output.splitlines() if line.startswith("study run:")]
    assert "is not seen by worker-" in line and "s3://BUCKET/PATH" in line
    assert "code 2" in output


def test_token_is_required(cluster):
    address = f"{cluster.head.address}:6379"
    for environment in ("RAY_AUTH_MODE=disabled", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=" + 64 * "0"):
        done = cluster.laptop.run(f"{environment} timeout 60 ray status --address {address}")
        assert done.returncode != 0
        assert "CPU" not in done.stdout
    with_it = cluster.laptop.run(f"RAY_AUTH_MODE=token ray status --address {address}")
    assert "CPU" in with_it.stdout, with_it.stderr


def test_dashboard_listens_on_loopback_only(cluster):
    ask = "curl --silent --show-error --max-time 5 --output /dev/null http://{}:8265"
    assert "code 0" in cluster.on_head(ask.format("127.0.0.1") + "; echo code $?")
    assert cluster.laptop.run(ask.format(cluster.head.address)).returncode == 7  # refused


@core
def test_three_hosts_give_a_single_machines_results(cluster, undisturbed):
    cluster.submit("whole", f"study run {GRID} --address auto --out /mnt/whole")
    output = cluster.finish("whole")
    assert "6 done, 0 failed" in output
    assert "6 done, 0 failed" in cluster.on_head("ray job logs whole")
    assert_same_tables(verified_tables(cluster.shared / "whole"), undisturbed)
    store = Store(cluster.shared / "whole")
    hosts = {provenance["host"] for provenance in store.provenance(store.blocks())}
    assert len(hosts) >= 2
    # The report, on the laptop.
    cluster.on_laptop("ray rsync-down ~/cluster.yaml /mnt/whole/report/ ~/report/")
    page = (cluster.laptop.home / "report" / "index.html").read_text()
    assert "reconstruction" in page and len(page) > 100_000
    # Submitted again, from the laptop as a user does it, it computes nothing.
    again = f"cd ~/latent-study && study run {GRID} --address auto --out /mnt/whole"
    output = cluster.on_head(f"ray job submit -- bash -c {shlex.quote(again)}")
    assert "nothing to compute" in output and "succeeded" in output


def wait_for_progress(cluster, name, done=0):
    """Wait until so many cells are done, and until one is done or, on a machine too slow for that
    within 10 s, blocks in progress have left checkpoints."""
    store = Store(cluster.shared / name)

    def in_the_middle():
        finished = len(store.blocks())
        return finished >= done and (finished or store.unfinished_blocks())

    wait_for(in_the_middle, f"{name} is in the middle", lambda: cluster.logs(name), seconds=240)
    return store


def write_times(store):
    """When each finished block's marker was written, in nanoseconds, by its path."""
    markers = Path(store.address, "blocks").rglob("*.json")
    return {path: path.stat().st_mtime_ns for path in markers}


def test_study_survives_a_host_cut_off_and_back(cluster, undisturbed):
    cluster.submit("cut", f"{RUN} --out /mnt/cut")
    wait_for_progress(cluster, "cut")
    cluster.workers[0].cut()
    time.sleep(30)
    cluster.workers[0].mend()
    # Less than the 300 s after which Ray, by default, finds a silent connection broken.
    cluster.finish("cut", seconds=240)
    assert_same_tables(verified_tables(cluster.shared / "cut"), undisturbed)


@core
def test_study_survives_a_host_that_dies(cluster, undisturbed):
    cluster.wait_for_hosts(3)
    cluster.submit("death", f"{RUN} --out /mnt/death")
    store = wait_for_progress(cluster, "death")
    cluster.workers[1].kill()
    finished = write_times(store)
    cluster.workers[1].start()  # and the autoscaler brings it back
    cluster.finish("death")
    assert_same_tables(verified_tables(cluster.shared / "death"), undisturbed)
    assert finished.items() <= write_times(store).items()
    cluster.wait_for_hosts(3)


def test_host_without_the_results_folder_gets_no_blocks(cluster):
    cluster.submit("unmounted", f"{SHORT_CELLS} --out /mnt/unmounted")
    wait_for_progress(cluster, "unmounted")
    worker = cluster.workers[0]
    assert worker.run("umount --lazy /mnt").returncode == 0
    try:
        output = cluster.finish("unmounted")
        left = worker.run("ls -A /mnt").stdout
    finally:
        worker.kill()  # it comes back with the folder
    assert "host worker-1 has lost its last 3 blocks and gets no more" in output
    assert "24 done, 0 failed" in output
    store = Store(cluster.shared / "unmounted")
    wanted = dict.fromkeys(store.blocks(), 2)
    assert len(wanted) == 24 and store.verify(wanted) == {}
    assert "unmounted" not in left  # nothing was written below the mount point


def test_same_command_resumes_after_the_head_dies(cluster, undisturbed):
    cluster.submit("head", f"{RUN} --out /mnt/head")
    store = wait_for_progress(cluster, "head", done=1)
    cluster.head.kill()
    finished = write_times(store)
    cluster.head.start()
    cluster.up()
    cluster.submit("head-again", f"{RUN} --out /mnt/head")
    cluster.finish("head-again")
    assert_same_tables(verified_tables(cluster.shared / "head"), undisturbed)
    assert finished.items() <= write_times(store).items()


READ_FROM_S3 = """
import sys
from pathlib import Path
from study.store import Store
store = Store(sys.argv[1])
wanted = dict.fromkeys(sorted(store.blocks()), 2)
store.rows(wanted).to_pickle(Path.home() / "rows.pickle")
store.history(wanted).to_pickle(Path.home() / "history.pickle")
"""


@pytest.fixture
def bucket(cluster):
    """A place on an S3 server that runs on the laptop; every host has the credentials."""
    for host in (cluster.laptop, cluster.head, *cluster.workers):
        folder = host.home / ".aws"
        folder.mkdir(exist_ok=True)
        (folder / "credentials").write_text(
            "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
        )
    server = f"{cluster.laptop.address}:5555"
    cluster.laptop.run("nohup moto_server --host 0.0.0.0 --port 5555 >/tmp/s3 2>&1 &")
    create = f"curl --silent --fail --request PUT http://{server}/results"
    wait_for(
        lambda: cluster.laptop.run(create).returncode == 0,
        "there is an S3 server",
        lambda: cluster.laptop.run("cat /tmp/s3").stdout,
    )
    yield f"s3://results/study?scheme=http&endpoint_override={server}"
    cluster.laptop.run("pkill moto_server")


def test_study_on_object_storage_survives_a_host(cluster, bucket, undisturbed):
    cluster.wait_for_hosts(3)
    cluster.submit("s3", f"{RUN} --out {shlex.quote(bucket)}")
    list_bucket = f"curl --silent {bucket_list(bucket)}"

    def in_the_middle():
        listed = cluster.laptop.run(list_bucket).stdout
        return "progress/" in listed or "blocks/" in listed

    wait_for(in_the_middle, "it is in the middle", lambda: cluster.logs("s3"), 240, every=1)
    cluster.workers[0].kill()
    cluster.workers[0].start()
    cluster.finish("s3")
    read = f"python -c {shlex.quote(READ_FROM_S3)} {shlex.quote(bucket)}"
    done = cluster.laptop.run(read)
    assert done.returncode == 0, done.stderr
    rows, history = (
        pd.read_pickle(cluster.laptop.home / f"{name}.pickle") for name in ("rows", "history")
    )
    assert_same_tables((rows.drop(columns="train_seconds"), history), undisturbed)
    assert not (cluster.head.home / "latent-study" / "results").exists()


def bucket_list(bucket):
    """The address that lists a bucket."""
    server = bucket.rpartition("=")[2]
    return shlex.quote(f"http://{server}/results?list-type=2")


@core
def test_down_leaves_nothing_running(cluster):
    assert "raylet" in cluster.ray_processes(cluster.head)
    cluster.on_laptop("ray down --yes ~/cluster.yaml")
    # The workers of provider local aren't told: they stop once the head has been silent for long.
    for host in cluster.hosts:
        wait_for(
            lambda host=host: cluster.ray_processes(host) <= AGENTS,
            f"{host.name} is free",
            seconds=300,
        )


def test_down_leaves_no_agents_after_a_minute(launched):
    """They try for 60 s to tell the death of their raylet to the head, which is gone."""
    for host in launched.hosts:
        wait_for(
            lambda host=host: not launched.ray_processes(host), f"{host.name} is free", seconds=300
        )
