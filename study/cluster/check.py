"""`study check`: test whether this machine (or cluster) is ready, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from study.cluster.connect import cluster
from study.cluster.nodes import Facts, Node, alive, ask, facts, troubles
from study.errors import NoResources, StoreError
from study.limits import cores
from study.provenance import packages, processor
from study.resources import Resources
from study.store import Store
from study.words import counted, shown
from trainables.data import DataError, Options, load


def check(
    console: Console,
    source: tuple[str, Path | None, Options],
    out: Path | str,
    resources: Resources,
) -> bool:
    """Print one line a check; True if all is well. `source` is the arguments of `load`."""
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
            nodes = alive()
            total = {kind: sum(n.resources.get(kind, 0) for n in nodes) for kind in ("CPU", "GPU")}
            counts = f"{counted(len(nodes), 'node')}, {total['CPU']:g} CPUs, {total['GPU']:g} GPUs"
            say("ray", True, f"{resources.address}: {counts}")
            if resources.address != "local" and store:
                check_nodes(say, nodes, store)
    except NoResources as error:
        say("ray", False, str(error))
    return good


def check_nodes(say: Callable[[str, bool, str], None], nodes: list[Node], store: Store) -> None:
    """Print one line for each node of a cluster."""
    here = facts(store.address, "", has_gpus=False)
    for node, answer in zip(nodes, ask(nodes, store).values(), strict=True):
        wrong = troubles(node, answer, here)
        gpus = f", {len(answer.gpus)} GPUs" if isinstance(answer, Facts) and answer.gpus else ""
        fine = f"versions, code and results folder as here, asks for the token{gpus}"
        say("node", not wrong, f"{node.name}: {'; '.join(wrong) or fine}")
