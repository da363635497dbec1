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
    known: dict[str, Cell] = {}
    groups = []
    for planned in plan["experiments"]:
        experiment = EXPERIMENTS[planned["name"]]
        make = experiment.settings_module().Config
        cells = [
            Cell(experiment, make(**c["config"]), known.get(c["parent"]), c["replicates"], c["id"])
            for c in planned["cells"]
        ]
        known |= {cell.id: cell for cell in cells}
        groups.append(cells)
    return groups


def main(task: Path) -> None:
    """Compute the cells in the file `task`.

    It has `dataset`, `data_dir`, `folder` (a results folder) and `experiments` as in a plan;
    experiments that others build on come first.
    """
    asked = json.loads(task.read_text(encoding="utf-8"))
    groups = planned_cells(asked)
    folder = Path(asked["data_dir"]) if asked["data_dir"] else None
    data = load(asked["dataset"], folder)
    _ = data.fingerprint  # computed once here, and sent along
    store = Store(asked["folder"])
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
