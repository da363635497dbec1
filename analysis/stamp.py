"""Check whether a report is up to date, from listings alone: no result is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.provenance import packages, sources
from study.store import Block, Store

NOT_COMPUTED = "not computed yet"
"""Reason of a missing cell without an error."""


def missing_cells(
    store: Store, plan: Mapping[str, Any], damaged: Mapping[Block, str]
) -> list[dict[str, str]]:
    """The cells of a plan that lack a requested replicate: `experiment`, `cell`, `settings` and
    `reason` of each.

    One listing finds the blocks. `damaged` is the result of `Store.verify`; replicates of these
    blocks count as missing.
    """
    finished, failures = store.blocks(), store.failures()
    broken: dict[str, dict[range, str]] = {}
    for block, damage in damaged.items():
        broken.setdefault(block.cell, {})[block.replicates] = damage

    def reason(cell: Mapping[str, Any]) -> str | None:
        """Why a cell is missing; None if it isn't."""
        identity, wanted = cell["id"], range(cell["replicates"])
        for replicates, damage in broken.get(identity, {}).items():
            if replicates.start in wanted:
                return damage
        there = set().union(*finished.get(identity, ())).intersection(wanted)
        if len(there) == len(wanted):
            return None
        why = str(failures.get(identity, {}).get("reason", NOT_COMPUTED))
        return f"{why} ({len(there)} of {len(wanted)} replicates are there)" if there else why

    return [
        {
            "experiment": planned["name"],
            "cell": cell["id"],
            "settings": ", ".join(f"{axis} {cell['config'][axis]}" for axis in planned["axes"]),
            "reason": why,
        }
        for planned in plan["experiments"]
        for cell in planned["cells"]
        if (why := reason(cell)) is not None
    ]


def stamp(
    plan: Mapping[str, Any], missing: list[dict[str, str]], searches: Mapping[str, Any]
) -> str:
    """A hash of all that a report depends on: plan, missing cells, searches, code and packages.

    The command is left out: another command that asks for the same cells makes the same report.
    """
    asked = {key: value for key, value in plan.items() if key != "command"}
    code = sources("analysis", "study", "trainables"), packages()
    content = [asked, missing, searches, code]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


STAMP = "report/stamp.json"
"""Path of the report's stamp in a results folder."""


def is_current(folder: str | Path, damaged: Mapping[Block, str]) -> bool:
    """True if the report in a results folder was written by this code from the present cells.

    `damaged` is the result of `Store.verify`; nothing is verified here.
    """
    store = Store(folder)
    try:
        found = json.loads(store.place.read(STAMP))
        store.place.modified_time("report/index.html")
    except (FileNotFoundError, ValueError):  # missing, or cut off
        return False
    plan = store.plan()
    return bool(found == stamp(plan, missing_cells(store, plan, damaged), store.searches()))
