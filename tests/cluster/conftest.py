"""A cluster of three hosts, and the laptop that launches it by the committed cluster.yaml."""

import shlex
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from study.words import plain
from tests.cluster.hosts import ROOT, Network, missing_requirement, wait_for

CONFIG = "~/cluster.yaml"


class Cluster:
    """What a user has: a laptop with this checkout, and `ray up`, `exec`, `rsync-down`, `down`."""

    def __init__(self, network):
        self.network = network
        self.laptop = network.host("laptop")
        self.head, *self.workers = (network.host(n) for n in ("head", "worker-1", "worker-2"))
        self.shared = network.shared
        (self.laptop.home / "cluster.yaml").write_text(yaml.safe_dump(self.configuration()))

    def configuration(self):
        """The committed one, with the provider, authentication and node types of these hosts."""
        config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
        del config["available_node_types"], config["head_node_type"]
        config["provider"] = {
            "type": "local",
            "head_ip": self.head.address,
            "worker_ips": [worker.address for worker in self.workers],
        }
        config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id"}
        config["max_workers"] = len(self.workers)
        # By default a worker stops a minute after it has lost the head, which is most of the time
        # that the test of `ray down` waits.
        config["worker_start_ray_commands"] = [
            f"export RAY_gcs_rpc_server_reconnect_timeout_s=15; {command}"
            for command in config["worker_start_ray_commands"]
        ]
        return config

    def on_laptop(self, command, seconds=180):
        """Output of a command on the laptop; fails with it if the command fails."""
        done = self.laptop.run(f"RAY_UP_enable_autoscaler_v2=0 {command}", seconds)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return plain(done.stdout + done.stderr)

    @property
    def hosts(self):
        return [self.head, *self.workers]

    def up(self):
        # The laptop forgets a head that has died: connections that SSH keeps for later commands
        # (ControlPersist), and the address of its network card.
        self.laptop.run("pkill -x ssh; rm -rf /tmp/ray_ssh_*; ip neigh flush all")
        self.on_laptop(f"ray up --yes --no-config-cache {CONFIG}")
        self.wait_for_hosts(len(self.hosts))

    def restore(self):
        """Bring the cluster up again if an earlier test left a host dead or cut off."""
        whole = all(host.process for host in self.hosts)
        for host in self.hosts:
            if host.process is None:
                host.start()
            host.mend()
        if not whole or self.count_hosts() != len(self.hosts):
            self.up()
        self.head.run("pkill -f '[s]tudy run'")  # left by a failed test

    def wait_for_hosts(self, count, seconds=120):
        """Wait until Ray counts so many live nodes. `ray status` would take seconds of a core."""
        wait_for(
            lambda: self.count_hosts() == count,
            f"{count} hosts are up",
            lambda: f"{self.count_hosts()} are",
            seconds,
            every=1,
        )

    def count_hosts(self):
        """Number of live nodes by Ray's count."""
        ask = (
            'curl --silent --header "Authorization: Bearer $(cat ~/.ray/auth_token)" '
            "http://127.0.0.1:8265/api/v0/nodes"
        )
        return self.head.run(ask).stdout.count('"state": "ALIVE"')

    def on_head(self, command, seconds=180):
        """Output of a command on the head, through SSH as a user would."""
        return self.on_laptop(f"ray exec {CONFIG} {shlex.quote(command)}", seconds)

    def submit(self, name, command):
        """Start a job on the cluster and return without waiting for it."""
        # Output and exit code go to the shared folder, where reading them costs the machine's two
        # cores nothing.
        line = (
            f"cd ~/latent-study && {command} 2>&1 | tee /mnt/{name}.said; "
            f"echo ${{PIPESTATUS[0]}} > /mnt/{name}.exit"
        )
        job = f"ray job submit --no-wait --submission-id {name} -- bash -c {shlex.quote(line)}"
        done = self.head.run(f"cd ~ && RAY_AUTH_MODE=token {job}")
        assert done.returncode == 0, done.stdout + done.stderr

    def logs(self, name):
        """Output of a job so far; `ray job logs` has it too, but takes seconds of a core."""
        output = self.shared / f"{name}.said"
        return plain(output.read_text()) if output.exists() else ""

    def finish(self, name, seconds=300):
        """Wait for a job's end and return what it printed."""
        code = self.shared / f"{name}.exit"
        wait_for(
            lambda: code.exists() and code.read_text(),
            f"{name} ends",
            lambda: self.logs(name),
            seconds,
        )
        output = self.logs(name)
        assert code.read_text() == "0\n", output
        return output

    def ray_processes(self, host):
        """Names of the Ray processes on a host, cut off after 15 letters."""
        listed = host.run("pgrep --list-name 'raylet|gcs_server|ray::' || true").stdout
        return {line.partition(" ")[2] for line in listed.splitlines()}


@pytest.fixture(scope="session")
def network():
    missing = missing_requirement()
    if missing:
        pytest.skip(missing)
    # Not below /tmp: every host has its own.
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="latent-study-hosts-"))
    network = Network(folder)
    yield network
    network.close()
    time.sleep(0.5)  # for the last mounts of the hosts to go
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def launched(network):
    """The cluster of all tests."""
    cluster = Cluster(network)
    cluster.on_laptop("ray get-auth-token --generate")
    return cluster


@pytest.fixture
def cluster(launched):
    """The running cluster: three hosts with the machine's cores each, whatever happened before."""
    launched.restore()
    return launched
