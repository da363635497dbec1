"""Connection to Ray: one on this machine, or a running cluster."""

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

from study.cluster.autoscaling import startable_nodes
from study.errors import NoResources
from study.ray_internals import get_default_ray_temp_dir, services_left_out, signals_kept
from study.resources import Resources
from trainables.limits import cores, installed_memory, memory

SOURCES = Path(__file__).resolve().parents[2]
"""Folder of the packages. Ray is started in it: workers look for modules there first."""

OBJECT_STORE_SHARE = 0.3
"""Share of the memory for Ray's object store: Ray's own default."""

MAX_FOLDER_BYTES = 40
"""Longest path of Ray's temporary folder, in bytes. The paths of its sockets are 65 bytes longer,
and the system's limit is 107."""


def require_reachable(address: str, option: str = "--address") -> None:
    """Raise `NoResources` if nothing answers at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise NoResources(option, address, f"no Ray cluster answers there ({error})") from error


@contextmanager
def cluster(resources: Resources) -> Iterator[Resources]:
    """Connect to Ray for the block: one on this machine, or a cluster at `resources.address`.

    Yields the resources, with no GPUs if `auto` finds none. Raises `NoResources` if the cluster
    can't be reached, or if no node that it has or may start can hold a trial.
    """
    if resources.address not in ("local", "auto"):
        require_reachable(resources.address)
    elif resources.address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")  # Ray reads this first
        if ":" in address and "//" not in address:
            require_reachable(address, "RAY_ADDRESS")
    logs: Path | None = None
    try:
        connect(resources)
        if resources.address == "local":
            context = ray.get_runtime_context()
            logs = Path(context.get_temp_dir(), context.get_session_name())
        yield resolve(resources, resources_of_nodes(resources))
    except Exception:
        logs = None  # keep them: they may explain the error
        raise
    finally:
        ray.shutdown()
        if logs:  # 12 MB a run, which Ray doesn't remove
            remove_logs(logs)


def connect(resources: Resources) -> None:
    """Start Ray on this machine, or join the one at `resources.address`. Raises `NoResources`."""
    address = resources.address
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= local_options(resources)
    # A failed trial's traceback goes to the store, and its reason to the user, in one line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            signals_kept(),
            services_left_out(),
            contextlib.chdir(SOURCES),
        ):
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(address=address, **options)
    except Exception as error:
        # No cluster, no token for it, another version of Ray, or not an address. Ray raises a bare
        # Exception if it takes over 30 s to start, as on a machine without a free core.
        known = isinstance(error, (OSError, ValueError, RuntimeError, RayError))
        if not known and type(error) is not Exception:
            raise
        raise NoResources("--address", address, " ".join(str(error).split())) from error


def local_options(resources: Resources) -> dict[str, Any]:
    """Arguments with which `ray.init` starts Ray on this machine."""
    options: dict[str, Any] = {
        "num_cpus": resources.cpus or cores(),
    }
    limit = memory()
    if limit < installed_memory():  # Ray's own default is a share of all memory
        options["object_store_memory"] = int(OBJECT_STORE_SHARE * limit)
    if not os.access(os.path.expanduser("~"), os.W_OK):  # Ray would keep its token there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    python = shlex.quote(sys.executable)
    if python != sys.executable:  # Ray starts Tune's workers through a shell, without quoting
        options["runtime_env"] = {"py_executable": python}
    folder = get_default_ray_temp_dir()
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
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


def resources_of_nodes(resources: Resources) -> list[dict[str, float]]:
    """Resources of each node that is up and, in a cluster, of each that may still be started."""
    startable = [] if resources.address == "local" else startable_nodes()
    return [node["Resources"] for node in alive_nodes()] + startable


def resolve(resources: Resources, nodes: list[dict[str, float]]) -> Resources:
    """Check `resources` against what each node has, and resolve `auto`.

    With GPUs, `auto` stays: `packing.measure` resolves it per experiment. Without, it becomes 0.
    Raises `NoResources` if no single node has enough: a trial can't span two.
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


def count_workers(resources: Resources, gpus: float = 0.0) -> int:
    """Number of trials with these cores and `gpus` that run at once, at least 1.

    Nodes that may still be started count too.
    """
    cpus, nodes = resources.cpus_per_trial, resources_of_nodes(resources)
    return max(1, sum(trials_on(node, cpus, gpus) for node in nodes))


def count_gpus(resources: Resources) -> float:
    """Number of GPUs, including those of nodes that may still be started."""
    return sum(node.get("GPU", 0) for node in resources_of_nodes(resources))


def trials_on(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Number of trials with these resources that fit on a node."""
    by_cpus = int(node.get("CPU", 0) / cpus)
    if not gpus:
        return by_cpus
    total = node.get("GPU", 0)
    return min(by_cpus, int(total // gpus if gpus >= 1 else total * (1 / gpus // 1)))
