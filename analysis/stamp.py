"""Whether a report is up to date, found out without reading a result, or importing what would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.store import Store


def missing_cells(store: Store, plan: Mapping[str, Any]) -> list[dict[str, str]]:
    """The cells that a plan asked for and that are not there: `experiment`, `cell`, `settings`,
    `reason` of each. A cell that is damaged is not there either."""
    state = store.state(cell["id"] for planned in plan["experiments"] for cell in planned["cells"])
    failures = store.failures()
    lines = []
    for planned in plan["experiments"]:
        for cell in planned["cells"]:
            if cell["id"] in state.done:
                continue
            settings = ", ".join(f"{axis} {cell['config'][axis]}" for axis in planned["axes"])
            failure = failures.get(cell["id"], {}).get("reason", "not computed yet")
            reason = state.damaged.get(cell["id"], failure)
            lines.append(
                {
                    "experiment": planned["name"],
                    "cell": cell["id"],
                    "settings": settings,
                    "reason": reason,
                }
            )
    return lines


def stamp(
    plan: Mapping[str, Any], missing: list[dict[str, str]], searches: Mapping[str, Any]
) -> str:
    """A hash of all that a report depends on: the plan, what is missing, searches and the code.
    Not the command: the same cells asked for in other words make the same report."""
    asked = {key: value for key, value in plan.items() if key != "command"}
    sources = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*")):
        if source.suffix in (".py", ".j2", ".csv"):
            sources.update(source.read_bytes())
    content = [asked, missing, searches, sources.hexdigest()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


STAMP = "report/stamp.json"
"""Where a results folder keeps the stamp of its report."""


def is_current(folder: str | Path) -> bool:
    """Whether the report in a results folder was written by this code from these cells."""
    store = Store(folder)
    try:
        found = json.loads(store.place.read(STAMP))
    except FileNotFoundError:
        return False
    plan = store.plan()
    return found == stamp(plan, missing_cells(store, plan), store.searches())
