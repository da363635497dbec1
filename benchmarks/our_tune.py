"""Time this study's cells like `plain_tune`: the Tuner without Ray's start.

    python -m benchmarks.our_tune TASK.json

computes cells and prints one JSON object with `wall`, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from study.cluster.connect import cluster
from study.experiments import EXPERIMENTS
from study.grid import Cell, record
from study.launch import Session
from study.resources import Resources
from study.store import Store
from trainables.data import load


def planned_cells(plan: Mapping[str, Any]) -> list[list[Cell]]:
    """The cells of a plan of `study.json`, one list per experiment."""
    by_id: dict[str, Cell] = {}
    groups = []
    for planned in plan["experiments"]:
        experiment = EXPERIMENTS[planned["name"]]
        make = experiment.settings_module().Config
        cells = [
            Cell(experiment, make(**c["config"]), by_id.get(c["parent"]), c["replicates"], c["id"])
            for c in planned["cells"]
        ]
        by_id |= {cell.id: cell for cell in cells}
        groups.append(cells)
    return groups


def main(path: Path) -> None:
    """Compute the cells of the task in the JSON file at `path`.

    It has `dataset`, `data_dir`, `folder` (a results folder) and `experiments` as in a plan;
    experiments that others build on come first.
    """
    task = json.loads(path.read_text(encoding="utf-8"))
    groups = planned_cells(task)
    folder = Path(task["data_dir"]) if task["data_dir"] else None
    data = load(task["dataset"], folder)
    _ = data.fingerprint  # computed before the clock starts; the workers get it with the data
    store = Store(task["folder"])
    store.create()
    experiments = [cells[0].experiment for cells in groups]
    store.write_plan(record("benchmarks", "benchmarks", data, folder, experiments, groups))
    cells = [cell for group in groups for cell in group]
    with cluster(Resources()) as resources:
        session = Session(store, data, resources, Console(file=sys.stderr))
        _ = session.shared_data  # in Ray's store before the clock starts
        started = time.perf_counter()
        session.compute("benchmarks", cells, store.blocks())
        wall = time.perf_counter() - started
    failures = store.failures()
    if failures:
        raise RuntimeError(f"cells have failed: {failures}")
    print(json.dumps({"wall": wall}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
