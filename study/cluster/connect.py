"""The Ray that computes: one on this machine, or a running cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from study.cluster.autoscaling import may_come
from study.errors import NoResources
from study.limits import cores, memory
from study.ray_internals import get_default_ray_temp_dir, signals_kept
from study.resources import Resources

SOURCES = Path(__file__).resolve().parents[2]
"""Where the packages are. Workers look for modules in the folder that Ray is started in, first."""

OBJECT_STORE = 0.3
"""Part of the memory that Ray's object store may take, as by Ray's own default."""

LONGEST_FOLDER = 40
"""Bytes of the path of Ray's temporary folder from which on its sockets' paths, 65 bytes longer,
pass the system's limit of 107."""


def require_reachable(address: str, option: str = "--address") -> None:
    """Raise `NoResources` where nobody answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise NoResources(option, address, f"no Ray cluster answers there ({error})") from error


@contextmanager
def cluster(resources: Resources) -> Iterator[Resources]:
    """A Ray on this machine, or the running one at `resources.address`, for the block.

    Yields the resources, with no GPUs where `auto` finds none. Raises `NoResources` where the
    cluster can't be reached, or no node of it, nor any that it may start, can hold a trial.
    """
    if resources.address not in ("local", "auto"):
        require_reachable(resources.address)
    elif resources.address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")  # which Ray looks at first
        if ":" in address and "//" not in address:
            require_reachable(address, "RAY_ADDRESS")
    logs: Path | None = None
    try:
        connect(resources)
        if resources.address == "local":
            context = ray.get_runtime_context()
            logs = Path(context.get_temp_dir(), context.get_session_name())
        nodes = [node["Resources"] for node in alive_nodes()]
        yield resolved(resources, nodes if resources.address == "local" else nodes + may_come())
    except Exception:
        logs = None  # they may explain it
        raise
    finally:
        ray.shutdown()
        if logs:  # 12 MB a run, which Ray leaves
            remove_logs(logs)


def connect(resources: Resources) -> None:
    """Start a Ray on this machine, or join the one at `resources.address`. Raises `NoResources`."""
    address = resources.address
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= local_options(resources)
    # A failed trial's traceback goes to the store, and its reason to the user, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), signals_kept(), contextlib.chdir(SOURCES):
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        # No cluster, no token for it or another Ray there, an address that is none.
        raise NoResources("--address", address, " ".join(str(error).split())) from error


def local_options(resources: Resources) -> dict[str, Any]:
    """Arguments of `ray.init` for a Ray on this machine."""
    options: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": resources.cpus or cores(),
    }
    if limit := memory():  # Ray's own default is a share of what the machine has
        options["object_store_memory"] = int(OBJECT_STORE * limit)
    if not os.access(os.path.expanduser("~"), os.W_OK):  # where Ray would keep its token
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    python = shlex.quote(sys.executable)
    if python != sys.executable:  # Ray starts Tune's workers by a shell, without quotes
        options["runtime_env"] = {"py_executable": python}
    folder = get_default_ray_temp_dir()
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        options["_temp_dir"] = "/tmp/ray"
    return options


def remove_logs(folder: Path) -> None:
    """Remove a session's folder, and the link to it."""
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.parent / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's record of each node that is up."""
    return [node for node in ray.nodes() if node["Alive"]]


def resources_of_nodes() -> list[dict[str, float]]:
    """Resources of each node that is up, and of each that may come."""
    return [node["Resources"] for node in alive_nodes()] + may_come()


def resolved(resources: Resources, nodes: list[dict[str, float]]) -> Resources:
    """`resources` given what each node has: `auto` stays where there are GPUs, for each
    experiment to find its own number, and is 0 where there are none.

    Raises `NoResources` where no single node has enough: a trial can't span two.
    """
    asked = resources.gpus_per_trial
    least = float(any(node.get("GPU", 0) >= 1 for node in nodes)) if asked == "auto" else asked
    for option, kind, wanted in (
        ("--cpus-per-trial", "CPU", resources.cpus_per_trial),
        ("--gpus-per-trial", "GPU", least),
    ):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > most:
            allowed = f"the largest node of the cluster has {most:g} {kind}s"
            raise NoResources(option, f"{wanted:g}", allowed)
    return resources if least else replace(resources, gpus_per_trial=0.0)


def count_workers(cpus: float, gpus: float = 0.0) -> int:
    """How many trials with these resources run at once, on nodes that may come included."""
    return max(1, sum(trials_on(node, cpus, gpus) for node in resources_of_nodes()))


def count_gpus() -> float:
    """How many GPUs there are, those of nodes that may come included."""
    return sum(node.get("GPU", 0) for node in resources_of_nodes())


def trials_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials with these resources fit on a node."""
    by_cpus = int(node.get("CPU", 0) / cpus)
    if not gpus:
        return by_cpus
    there = node.get("GPU", 0)
    return min(by_cpus, int(there // gpus if gpus >= 1 else there * (1 / gpus // 1)))
