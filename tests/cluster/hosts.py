"""Real hosts on one machine. Each is a namespace with its own address, process tree, home, /tmp,
/dev/shm and sshd. They see the machine's programs and this checkout, and share one folder as over
NFS.

Needs root, and Debian's openssh-server, iproute2 and rsync.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUBNET = "10.231.57"
"""Subnet of the hosts' bridge, which has its own namespace and leads nowhere."""
SWITCH = "latent-study-switch"
PROGRAMS = ("sshd", "ssh", "ssh-keygen", "ip", "rsync", "unshare", "nsenter", "setpriv",
            "make")  # fmt: skip

START = r"""
set -eu
mount --make-rprivate /
# The checkout and its interpreter stay where they are, even where that is below /tmp.
mkdir -p "$HOST/checkout" "$HOST/environment"
mount --bind "$CHECKOUT" "$HOST/checkout"
mount --bind "$ENVIRONMENT" "$HOST/environment"
mount -t proc proc /proc
mount --bind "$HOST/tmp" /tmp
mkdir -p "$CHECKOUT" "$ENVIRONMENT"
mount --bind "$HOST/checkout" "$CHECKOUT"
mount --bind "$HOST/environment" "$ENVIRONMENT"
# No host changes the environment, which is the tests' own.
mount -o remount,bind,ro "$ENVIRONMENT"
mount -t tmpfs -o size=12g tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
# root's home here is the host's: it is where sshd looks, and where ~ leads.
mount --bind "$HOST/passwd" /etc/passwd
# Its own name has an address, and no other is asked for of a server that can't be reached.
mount --bind "$HOST/hosts" /etc/hosts
mount --bind "$HOST/resolv.conf" /etc/resolv.conf
mount --bind "$HOST/home" "$HOME_OF_ROOT"
# The environment as `make setup` would have left it there, its note of the folder included.
mount --bind "$ENVIRONMENT" "$HOME_OF_ROOT/latent-study/.venv"
echo "$HOME_OF_ROOT/latent-study" > "$HOST/installed"
mount --bind "$HOST/installed" "$HOME_OF_ROOT/latent-study/.venv/.installed"
mount --bind "$SHARED" "$SHARED_AT"
hostname "$NAME"
ip link set lo up
# Wait for the cable.
for _ in $(seq 100); do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.1; done
ip addr add "$ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"
"$SSHD" -f "$HOST/sshd_config" -E "$HOST/sshd.log"
touch "$HOST/up"
# Process 1 of the host: reaps what others leave, and its end is the host's.
while :; do sleep 3600 & wait $!; done
"""


def missing_requirement() -> str | None:
    """Why there can be no hosts here, or None."""
    if os.geteuid() != 0:
        return "hosts are namespaces, which need root"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"hosts need {', '.join(absent)} (Debian: openssh-server iproute2 rsync make)"
    if not Path(sys.prefix, ".installed").exists():
        return "hosts need an environment that `make setup` has made"
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


def run_checked(*command: str | Path) -> str:
    """Output of a command; raises with all of it if the command fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}{done.stdout}")
    return done.stdout


@dataclass
class Host:
    """One host: `start` boots it, `kill` pulls its power cord, `cut` and `mend` its network's."""

    network: Network
    name: str
    number: int
    process: subprocess.Popen | None = field(default=None, init=False)
    pid: int = field(default=0, init=False)

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def folder(self) -> Path:
        return self.network.folder / self.name

    @property
    def home(self) -> Path:
        """Its home folder, seen from outside."""
        return self.folder / "home"

    def start(self) -> None:
        """Boot with an empty /tmp and the previous home."""
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        for part in ("tmp", "home/.ssh", "home/latent-study/.venv"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "up").unlink(missing_ok=True)
        self._configure()
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "HOST": str(self.folder),
            "NAME": self.name,
            "ADDRESS": self.address,
            "GATEWAY": f"{SUBNET}.254",
            "CHECKOUT": str(ROOT),
            "ENVIRONMENT": str(self.network.environment),
            "SHARED": str(self.network.shared),
            "SHARED_AT": str(self.network.shared_at),
            "HOME_OF_ROOT": str(self.network.home),
            "SSHD": shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ["PATH"]) or "sshd",
        }
        flags = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        self.process = subprocess.Popen(
            # It dies with the tests, whatever ends them.
            ["setpriv", "--pdeathsig", "KILL", "unshare", *flags, "sh", "-c", START],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "console").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_for(lambda: children.exists() and children.read_text().split(), f"{self.name} boots")
        self.pid = int(children.read_text().split()[0])
        self._plug_in()
        wait_for((self.folder / "up").exists, f"{self.name} is up", self._console)

    def _configure(self) -> None:
        """Write the host's own accounts and SSH settings."""
        lines = Path("/etc/passwd").read_text().splitlines()
        root = f"root:x:0:0:root:{self.network.home}:/bin/bash"
        others = [line for line in lines if not line.startswith("root:")]
        (self.folder / "passwd").write_text("\n".join([root, *others]) + "\n")
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        (self.folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        ssh = self.home / ".ssh"
        shutil.copy(self.network.key, ssh / "id")
        (ssh / "id").chmod(0o600)
        shutil.copy(self.network.key.with_suffix(".pub"), ssh / "authorized_keys")
        for path in (self.home, ssh):
            path.chmod(0o700)
        host_key = self.folder / "host_key"
        if not host_key.exists():
            run_checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key)
        (self.folder / "sshd_config").write_text(
            f"HostKey {host_key}\nPermitRootLogin prohibit-password\nUsePAM no\n"
            "PasswordAuthentication no\nStrictModes no\nPidFile none\n"
            "MaxStartups 100\nMaxSessions 100\nAcceptEnv LC_*\n"
            f"SetEnv PATH={Path(sys.prefix) / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin\n"
        )

    def _plug_in(self) -> None:
        cable = f"ls-{self.number}"
        run_checked(
            "ip",
            "-n",
            SWITCH,
            "link",
            "add",
            cable,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(self.pid),
        )
        run_checked("ip", "-n", SWITCH, "link", "set", cable, "master", "bridge", "up")

    def _console(self) -> str:
        return (self.folder / "console").read_text()

    def run(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess:
        """Run a command in a shell of the host, in this checkout."""
        shell = ["nsenter", "--target", str(self.pid), "--all", "--wd=" + str(ROOT)]
        # `timeout` runs in the host, as a signal to nsenter doesn't reach its children: a `ray up`
        # that hung once kept its cluster's lock, and the tests after it failed as well.
        shell += ["timeout", "--kill-after=5", str(timeout), "bash", "-c"]
        home = str(self.network.home)
        path = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        return subprocess.run(
            [*shell, command],
            env={"HOME": home, "USER": "root", "PATH": path, "LANG": "C.UTF-8"},
            # Ray runs `ssh -tt`, which reads a terminal: it stops for ever if pytest is in the
            # background.
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout + 30,
            check=False,
        )

    def cut(self) -> None:
        """Disconnect from the network; everything on the host keeps running."""
        run_checked("ip", "-n", SWITCH, "link", "set", f"ls-{self.number}", "down")

    def mend(self) -> None:
        """Reconnect to the network."""
        run_checked("ip", "-n", SWITCH, "link", "set", f"ls-{self.number}", "up")

    def kill(self) -> None:
        """Kill every process of the host at once; its memory and /tmp are gone."""
        if self.process is None:
            return
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        self.process = None


class Network:
    """A bridge in its own namespace, and the hosts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Path("/srv")
        """Root's home on every host: Debian has that folder, few use it."""
        self.shared_at = Path("/mnt")
        """Where every host mounts the shared folder."""
        self.environment = Path(sys.prefix)
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        self.key = folder / "key"
        run_checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        subprocess.run(["ip", "netns", "delete", SWITCH], capture_output=True, check=False)
        run_checked("ip", "netns", "add", SWITCH)
        run_checked("ip", "-n", SWITCH, "link", "set", "lo", "up")
        run_checked("ip", "-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        run_checked("ip", "-n", SWITCH, "addr", "add", f"{SUBNET}.254/24", "dev", "bridge")
        run_checked("ip", "-n", SWITCH, "link", "set", "bridge", "up")
        self.hosts: list[Host] = []

    def host(self, name: str) -> Host:
        """Create and boot a host."""
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        host.start()
        return host

    def close(self) -> None:
        """Kill every host and remove the bridge."""
        for host in self.hosts:
            host.kill()
        run_checked("ip", "netns", "delete", SWITCH)


def wait_for(
    condition, what: str, explain=lambda: "", seconds: float = 60, every: float = 0.1
) -> None:
    """Wait until `condition()` holds, checked `every` so many seconds; raise with what `explain()`
    says if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain until {what}; {explain()}")
        time.sleep(every)
