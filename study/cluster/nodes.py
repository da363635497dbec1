"""Checks before anything is spent: `study check`, and facts about every node of a cluster."""

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
from study.limits import cores
from study.provenance import packages, processor, sources
from study.resources import Resources
from study.store import Store
from study.words import counted, shown
from trainables.data import DataError, Options, load

ANSWER_SECONDS = 60.0
"""Seconds a node has to answer. A new worker process takes ten to import everything."""

SKEW = 60.0
"""Seconds by which a node's clock may differ, beyond `ANSWER_SECONDS`. Results don't depend on it,
but readers of the logs do."""

NAMES_OF_GPUS = """
import torch
for number in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_name(number))
"""


@dataclass(frozen=True)
class Facts:
    """Facts about one node."""

    packages: Mapping[str, str]
    """Versions of Python and of the packages that numbers depend on."""
    code: str
    """Hash of the sources of `study` and `trainables`."""
    gpus: tuple[str, ...]
    """Names of the GPUs that torch sees."""
    token: bool
    """True if Ray's processes there ask for a token."""
    token_is_private: bool
    """True if only its owner can read the token's file, if there is one."""
    storage: str
    """Why the results folder can't be used from there, or isn't the same; empty if all is well."""
    clock: float
    """Seconds since the epoch."""


def facts(results: str, mark: str, has_gpus: bool) -> Facts:
    """Facts about the node that this runs on; `mark` is the driver's file in `results`."""
    return Facts(
        packages=packages(),
        code=sources("study", "trainables"),
        gpus=gpu_names() if has_gpus else (),
        token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        token_is_private=is_private(Path("~/.ray/auth_token").expanduser()),
        storage=storage_trouble(Store(results), mark),
        clock=time.time(),
    )


def is_private(path: Path) -> bool:
    """True if only its owner has access to a file, if there is one."""
    return not path.exists() or path.stat().st_mode & 0o077 == 0


def gpu_names() -> tuple[str, ...]:
    """Names of all GPUs that torch sees on this node, not only those given to this process."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    said = subprocess.run(
        [sys.executable, "-c", NAMES_OF_GPUS], env=environment, capture_output=True, text=True
    )
    return tuple(said.stdout.splitlines())


def storage_trouble(store: Store, mark: str) -> str:
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


def ask(nodes: list[dict[str, Any]], store: Store) -> dict[str, Facts | str]:
    """Facts of each node (Ray's record of it), or why there are none, by the node's name."""
    remote = ray.remote(facts)
    # A node that finds the mark sees the same place. `Folder.sweep` leaves a name with "-" alone.
    with store.place.temporary_file(".mark-") as mark:
        pending = {
            name_of(node): remote.options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(store.address, mark, node["Resources"].get("GPU", 0) > 0)
            for node in nodes
        }
        end = time.monotonic() + ANSWER_SECONDS
        return {name: _answer(reference, end) for name, reference in pending.items()}


def _answer(reference: Any, end: float) -> Facts | str:
    try:
        return ray.get(reference, timeout=max(0.0, end - time.monotonic()))
    except GetTimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except RayError as error:
        return str(error).strip().splitlines()[-1]


def troubles(node: Mapping[str, Any], answer: Facts | str, here: Facts) -> list[str]:
    """Faults of a node, found by comparing it with the driver."""
    if isinstance(answer, str):
        return [answer]
    found = [
        f"{name} {answer.packages.get(name)}, the driver has {version}"
        for name, version in here.packages.items()
        if answer.packages.get(name) != version
    ]
    if answer.code != here.code:
        found.append("other sources than the driver's; `ray up` copies them again")
    wanted = int(node["Resources"].get("GPU", 0))
    if len(answer.gpus) < wanted:
        found.append(f"torch sees {len(answer.gpus)} of {wanted} GPUs; look at the NVIDIA driver")
    if answer.storage:
        found.append(answer.storage)
    if not answer.token:
        found.append("Ray asks for no token there; start it with RAY_AUTH_MODE=token")
    if not answer.token_is_private:
        found.append("others can read the token there; chmod 600 ~/.ray/auth_token")
    skew = answer.clock - here.clock
    if abs(skew) > SKEW + ANSWER_SECONDS:
        found.append(f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}")
    return found


def require_shared(store: Store, console: Console) -> None:
    """Raise `BadInput` if a node of the cluster can't use the driver's results folder.

    What is computed there would be lost.
    """
    answers = ask(alive_nodes(), store)
    blind = []
    for name, answer in answers.items():
        if isinstance(answer, str):
            console.print(f"{name}: {answer}; `study check` says more", style="yellow")
        elif answer.storage:
            blind.append(name)
    if blind:
        raise BadInput(
            "--out",
            store.address,
            f"is not seen by {', '.join(blind)}; on a cluster results have to be on storage that "
            "all nodes share: s3://BUCKET/PATH, or a folder of a network file system",
        )


def check(
    console: Console,
    source: tuple[str, Path | None, Options],
    out: Path | str,
    resources: Resources,
) -> bool:
    """Print one line a check; True if all is well. `source` is the arguments of `load`."""
    import torch  # here, as the driver of a study imports this module and needs no torch

    good = True

    def say(what: str, fine: bool, text: str) -> None:
        nonlocal good
        good &= fine
        console.print(f"{'ok  ' if fine else 'BAD '} {what:<10} {text}")

    say("versions", True, ", ".join(f"{k} {v}" for k, v in packages().items()))
    say("processor", True, f"{processor()}, {counted(cores(), 'core')}")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    say("GPUs", True, ", ".join(names) or "none seen by torch; trials run on the CPU")
    try:
        data = load(*source)
        sizes = f"{len(data.train):,} train, {len(data.validation):,} val, {len(data.test):,} test"
        say("data", True, f"{source[0]}: {sizes}; fingerprint {data.fingerprint}")
    except DataError as error:
        say("data", False, str(error))
    store: Store | None = None
    try:
        store = Store(out)
        store.require_writable()
        free = store.place.free()
        room = "" if free is None else f", {free / 2**30:.1f} GiB free"
        say("storage", free is None or free > 2**30, f"{shown(store.address)}: writable{room}")
    except StoreError as error:
        say("storage", False, str(error))
        store = None
    try:
        with cluster(resources):
            nodes = alive_nodes()
            total = {k: sum(n["Resources"].get(k, 0) for n in nodes) for k in ("CPU", "GPU")}
            counts = f"{counted(len(nodes), 'node')}, {total['CPU']:g} CPUs, {total['GPU']:g} GPUs"
            say("ray", True, f"{resources.address}: {counts}")
            if resources.address != "local" and store:
                check_nodes(say, nodes, store)
    except NoResources as error:
        say("ray", False, str(error))
    return good


def check_nodes(
    say: Callable[[str, bool, str], None], nodes: list[dict[str, Any]], store: Store
) -> None:
    """Print one line for each node of a cluster."""
    here = facts(store.address, "", has_gpus=False)
    for node, answer in zip(nodes, ask(nodes, store).values(), strict=True):
        wrong = troubles(node, answer, here)
        gpus = f", {len(answer.gpus)} GPUs" if isinstance(answer, Facts) and answer.gpus else ""
        fine = f"versions, code and results folder as here, asks for the token{gpus}"
        say("node", not wrong, f"{name_of(node)}: {'; '.join(wrong) or fine}")
