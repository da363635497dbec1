"""What files of a results folder have to hold before anything relies on them."""

from __future__ import annotations

import re
from typing import Any

IDENTITY = re.compile(r"[0-9a-f]{16}")
TRY = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")
"""A folder of a cell on object storage, as `study.store.objects` names them."""
PLAN = ("study", "command", "dataset", "fingerprint")
"""What a plan has besides its experiments, each a word or a line."""


def is_plan(content: Any) -> bool:
    """Whether this has what readers of a plan rely on; its ids become paths."""
    try:
        return all(isinstance(content[name], str) for name in PLAN) and all(
            isinstance(planned["name"], str)
            and isinstance(planned["metric"], str)
            and IDENTITY.fullmatch(cell["id"])
            and set(planned["axes"]) <= set(cell["config"])
            and (cell["parent"] is None or IDENTITY.fullmatch(cell["parent"]))
            for planned in content["experiments"]
            for cell in planned["cells"]
        )
    except (LookupError, TypeError):
        return False


def is_search(content: Any) -> bool:
    """Whether this has what readers of a search rely on."""
    try:
        return (
            all(isinstance(content[name], str) for name in ("name", "experiment", "dataset"))
            and all(isinstance(content[name], int) for name in ("epochs", "replicates"))
            and isinstance(content["dimensions"], dict)
            and len(content["columns"]) == len(content["directions"]) >= 1
            and all(
                trial["state"] in ("complete", "pruned", "fail")
                and set(trial["params"]) <= set(content["dimensions"])
                and (trial["values"] is None or len(trial["values"]) == len(content["columns"]))
                and all(len(point) == 2 for point in trial["curve"])
                for trial in content["trials"]
            )
        )
    except (LookupError, TypeError):
        return False
