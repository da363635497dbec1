"""This study's cells, timed as `plain_tune` is: the Tuner without Ray's start.

    python -m benchmarks.our_tune TASK.json

runs the cells of one experiment and prints one JSON object, `wall`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console

from study.experiments import EXPERIMENTS
from study.grid import Cell, record
from study.launch import Resources, cluster, run_experiment, share
from study.store import Store
from trainables.data import load


def main(task: Path) -> None:
    """Compute what `task` lists: `dataset`, `data_dir`, `folder` (a results folder), `experiment`
    and `cells`, each with `config`, `parent` and `id`."""
    asked = json.loads(task.read_text(encoding="utf-8"))
    experiment = EXPERIMENTS[asked["experiment"]]
    cells = [
        Cell(experiment.name, experiment.trainable, cell["config"], cell["parent"], cell["id"])
        for cell in asked["cells"]
    ]
    folder = Path(asked["data_dir"]) if asked["data_dir"] else None
    data = load(asked["dataset"], folder)
    _ = data.fingerprint  # computed once here, and sent along
    store = Store(asked["folder"])
    store.create()
    store.write_plan(record(experiment.name, "benchmarks", data, folder, [experiment], [cells]))
    console = Console(file=sys.stderr)
    with cluster(Resources()) as resources:
        shared = share(data)
        started = time.perf_counter()
        run_experiment(experiment, cells, shared, store, resources, console)
        wall = time.perf_counter() - started
    failures = store.failures()
    if failures:
        raise RuntimeError(f"cells have failed: {failures}")
    print(json.dumps({"wall": wall}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
