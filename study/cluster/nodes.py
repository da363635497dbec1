"""Checks before anything is computed: `study check`, and whether all nodes share the results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from study.cluster.connect import alive_nodes, cluster
from study.errors import BadInput, NoResources, StoreError
from study.provenance import packages, processor, sources
from study.resources import Resources
from study.store import Store
from study.words import counted, without_query
from trainables.data import DataError, Options, load
from trainables.limits import cores

ANSWER_SECONDS = 60.0
"""Seconds within which a node must answer. A new worker process imports for about ten."""

MAX_CLOCK_SKEW = 60.0
"""Seconds by which a node's clock may differ, beyond `ANSWER_SECONDS`. Results don't depend on it,
but wrong times in logs mislead."""

PRINT_GPU_NAMES = """
import torch
for number in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_name(number))
"""


@dataclass(frozen=True)
class NodeFacts:
    """What a node answers about itself."""

    packages: Mapping[str, str]
    """Versions of Python and of the packages that numbers depend on."""
    code: str
    """Hash of the sources of `study` and `trainables`."""
    gpus: tuple[str, ...]
    """Names of the GPUs that torch sees."""
    token: bool
    """True if Ray's processes on this node require a token."""
    token_is_private: bool
    """True if only its owner can read the token's file, if there is one."""
    storage: str
    """Why the node can't use the driver's results folder; empty if it can."""
    clock: float
    """Seconds since the epoch."""


def node_facts(results: str, mark: str, has_gpus: bool) -> NodeFacts:
    """Facts about the node that this runs on; `mark` is the driver's file in `results`."""
    return NodeFacts(
        packages=packages(),
        code=sources("study", "trainables"),
        gpus=gpu_names() if has_gpus else (),
        token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        token_is_private=is_private(Path("~/.ray/auth_token").expanduser()),
        storage=storage_problem(Store(results), mark),
        clock=time.time(),
    )


def is_private(path: Path) -> bool:
    """True if only its owner has access to a file, if there is one."""
    return not path.exists() or path.stat().st_mode & 0o077 == 0


def gpu_names() -> tuple[str, ...]:
    """Names of all GPUs that torch sees on this node, not only those given to this process."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    process = subprocess.run(
        [sys.executable, "-c", PRINT_GPU_NAMES], env=environment, capture_output=True, text=True
    )
    return tuple(process.stdout.splitlines())


def storage_problem(store: Store, mark: str) -> str:
    """Why `store` can't be written to here, or lacks the driver's `mark`; else an empty string.

    Leaves no file behind, and creates no results folder.
    """
    try:
        with store.place.single_attempt():
            if store.file(mark) is None:
                return f"{store.address} is not there, or another folder than the driver's"
        store.require_writable()
    except StoreError as error:
        return str(error)
    return ""


def name_of(node: Mapping[str, Any]) -> str:
    """`worker-1 (10.0.0.3)`, from Ray's record of a node."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def ask_nodes(nodes: list[dict[str, Any]], store: Store) -> list[NodeFacts | str]:
    """Facts of each node, or why it gave none, in the order of `nodes`, which are Ray's records."""
    remote = ray.remote(node_facts)
    # A node that finds the mark sees the same place. `Folder.sweep` leaves a name with "-" alone.
    with store.place.temporary_file(".mark-") as mark:
        pending = [
            remote.options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(store.address, mark, node["Resources"].get("GPU", 0) > 0)
            for node in nodes
        ]
        end = time.monotonic() + ANSWER_SECONDS
        return [_answer(reference, end) for reference in pending]


def _answer(reference: Any, end: float) -> NodeFacts | str:
    try:
        return ray.get(reference, timeout=max(0.0, end - time.monotonic()))
    except GetTimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except RayError as error:
        return str(error).strip().splitlines()[-1]


def node_problems(node: Mapping[str, Any], answer: NodeFacts | str, here: NodeFacts) -> list[str]:
    """Problems of a node, found by comparing it with the driver."""
    if isinstance(answer, str):
        return [answer]
    problems = [
        f"{name} {answer.packages.get(name)}, the driver has {version}"
        for name, version in here.packages.items()
        if answer.packages.get(name) != version
    ]
    if answer.code != here.code:
        problems.append("other sources than the driver's; `ray up` copies them again")
    wanted = int(node["Resources"].get("GPU", 0))
    if len(answer.gpus) < wanted:
        problems.append(f"torch sees {len(answer.gpus)} of {wanted} GPUs; check the NVIDIA driver")
    if answer.storage:
        problems.append(answer.storage)
    if not answer.token:
        problems.append("Ray asks for no token there; start it with RAY_AUTH_MODE=token")
    if not answer.token_is_private:
        problems.append("others can read the token there; chmod 600 ~/.ray/auth_token")
    skew = answer.clock - here.clock
    if abs(skew) > MAX_CLOCK_SKEW + ANSWER_SECONDS:
        problems.append(f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}")
    return problems


def require_shared(store: Store, console: Console) -> None:
    """Raise `BadInput` if a node of the cluster can't use the driver's results folder.

    Its results would be lost.
    """
    nodes, unable = alive_nodes(), []
    for node, answer in zip(nodes, ask_nodes(nodes, store), strict=True):
        if isinstance(answer, str):
            console.print(f"{name_of(node)}: {answer}; `study check` says more", style="yellow")
        elif answer.storage:
            unable.append(name_of(node))
    if unable:
        raise BadInput(
            "--out",
            store.address,
            f"is not seen by {', '.join(unable)}; on a cluster results must be on storage that all "
            "nodes share: s3://BUCKET/PATH, or a folder of a network file system",
        )


def check(
    console: Console,
    source: tuple[str, Path | None, Options],
    out: Path | str,
    resources: Resources,
) -> bool:
    """Print one line per check; True if all pass. `source` has the arguments of `load`."""
    import torch  # imported here: a study's driver imports this module, but doesn't need torch

    all_passed = True

    def show(check: str, passed: bool, text: str) -> None:
        nonlocal all_passed
        all_passed &= passed
        console.print(f"{'ok  ' if passed else 'BAD '} {check:<10} {text}")

    show("versions", True, ", ".join(f"{k} {v}" for k, v in packages().items()))
    show("processor", True, f"{processor()}, {counted(cores(), 'core')}")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    show("GPUs", True, ", ".join(names) or "none seen by torch; trials run on the CPU")
    try:
        data = load(*source)
        sizes = f"{len(data.train):,} train, {len(data.validation):,} val, {len(data.test):,} test"
        show("data", True, f"{source[0]}: {sizes}; fingerprint {data.fingerprint}")
    except DataError as error:
        show("data", False, str(error))
    store: Store | None = None
    try:
        store = Store(out)
        store.require_writable()
        free = store.place.free()
        space = "" if free is None else f", {free / 2**30:.1f} GiB free"
        show(
            "storage",
            free is None or free > 2**30,
            f"{without_query(store.address)}: writable{space}",
        )
    except StoreError as error:
        show("storage", False, str(error))
        store = None
    try:
        with cluster(resources):
            nodes = alive_nodes()
            total = {k: sum(n["Resources"].get(k, 0) for n in nodes) for k in ("CPU", "GPU")}
            counts = f"{counted(len(nodes), 'node')}, {total['CPU']:g} CPUs, {total['GPU']:g} GPUs"
            show("ray", True, f"{resources.address}: {counts}")
            if resources.address != "local" and store:
                check_nodes(show, nodes, store)
    except NoResources as error:
        show("ray", False, str(error))
    return all_passed


def check_nodes(
    show: Callable[[str, bool, str], None], nodes: list[dict[str, Any]], store: Store
) -> None:
    """Print one line for each node of a cluster."""
    here = node_facts(store.address, "", has_gpus=False)
    for node, answer in zip(nodes, ask_nodes(nodes, store), strict=True):
        problems = node_problems(node, answer, here)
        gpus = f", {len(answer.gpus)} GPUs" if isinstance(answer, NodeFacts) and answer.gpus else ""
        passed = f"versions, code and results folder as here, asks for the token{gpus}"
        show("node", not problems, f"{name_of(node)}: {'; '.join(problems) or passed}")
