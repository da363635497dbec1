"""`study check`: is this machine (or cluster) ready, before anything is spent?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from rich.console import Console

from study.launch import Resources, cluster
from study.options import NoResources
from study.provenance import packages, processor
from study.store import Store, StoreError
from trainables.data import DataError, load


def check(
    console: Console, dataset: str, data_dir: Path | None, out: Path, resources: Resources
) -> bool:
    """Print one line a question; True where all is well."""
    good = True

    def say(what: str, fine: bool, text: str) -> None:
        nonlocal good
        good &= fine
        console.print(f"{'ok  ' if fine else 'BAD '} {what:<10} {text}")

    say("versions", True, ", ".join(f"{k} {v}" for k, v in packages().items()))
    say("processor", True, f"{processor()}, {os.cpu_count()} cores")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    say("GPUs", True, ", ".join(names) or "none seen by torch; trials run on the CPU")
    try:
        data = load(dataset, data_dir)
        sizes = f"{len(data.train):,} train, {len(data.validation):,} val, {len(data.test):,} test"
        say("data", True, f"{dataset}: {sizes}; fingerprint {data.fingerprint}")
    except DataError as error:
        say("data", False, str(error))
    try:
        store = Store(out)
        store.create()
        free = shutil.disk_usage(store.folder).free / 2**30
        say("storage", free > 1, f"{store.folder}: writable, {free:.1f} GiB free")
    except StoreError as error:
        say("storage", False, str(error))
    try:
        import ray

        with cluster(resources):
            total = ray.cluster_resources()
            nodes = len([node for node in ray.nodes() if node["Alive"]])
            say(
                "ray",
                True,
                f"{resources.address}: {nodes} node(s), {total.get('CPU', 0):g} CPUs, "
                f"{total.get('GPU', 0):g} GPUs",
            )
    except NoResources as error:
        say("ray", False, str(error))
    return good
