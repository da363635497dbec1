"""This study's cells, timed as `plain_tune` is: the Tuner without Ray's start.

    python -m benchmarks.our_tune TASK.json

computes cells and prints one JSON object, `wall`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from study.experiments import EXPERIMENTS
from study.grid import Cell, record
from study.launch import open_session
from study.resources import Resources
from study.store import Store
from trainables.data import load


def planned_cells(plan: Mapping[str, Any]) -> list[list[Cell]]:
    """The cells of a plan, as `study.json` has it, an experiment each."""
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
    """Compute what `task` lists: `dataset`, `data_dir`, `folder` (a results folder) and
    `experiments`, as a plan has them, those first that others build on."""
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
    with open_session(store, data, Resources(), Console(file=sys.stderr)) as session:
        started = time.perf_counter()
        session.compute("benchmarks", cells, store.blocks())
        wall = time.perf_counter() - started
    failures = store.failures()
    if failures:
        raise RuntimeError(f"cells have failed: {failures}")
    print(json.dumps({"wall": wall}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
