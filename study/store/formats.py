"""The required content of a results folder's files, checked before anything relies on it."""

from __future__ import annotations

import re
from typing import Any

ID = re.compile(r"[0-9a-f]{16}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names of experiments, axes, metrics and searches, which become parts of file names and pages."""
SHA256 = re.compile(r"[0-9a-f]{64}")
ARRAYS = re.compile(r"[0-9a-f]{16}-[0-9]+")
"""Part of the name of a file of arrays: 16 digits that the writer chooses, and the file's size."""
PLAN = ("study", "command", "dataset", "fingerprint")
"""Required entries of a plan besides its experiments, each a string."""


def is_flat(content: Any) -> bool:
    """True if this is a dictionary of numbers, strings, booleans and nulls."""
    return isinstance(content, dict) and all(
        value is None or isinstance(value, str | int | float) for value in content.values()
    )


def is_list_of(kind: type, content: Any) -> bool:
    """True if this is a list of values of one type."""
    return isinstance(content, list) and all(type(value) is kind for value in content)


def is_plan(content: Any) -> bool:
    """True if this has what readers of a plan rely on. Its ids and names become paths."""
    try:
        return (
            all(isinstance(content[name], str) for name in PLAN)
            and all(
                all(map(NAME.fullmatch, (planned["name"], planned["metric"], *planned["axes"])))
                and all(
                    ID.fullmatch(cell["id"])
                    and is_flat(cell["config"])
                    and set(planned["axes"]) <= set(cell["config"])
                    and (cell["parent"] is None or ID.fullmatch(cell["parent"]))
                    and type(cell["replicates"]) is int
                    and cell["replicates"] >= 1
                    for cell in planned["cells"]
                )
                for planned in content["experiments"]
            )
            and (
                isinstance(content.get("data", {}), dict)
                and [type(side) for side in content.get("image_shape", (1, 1, 1))] == [int] * 3
                and is_list_of(str, content.get("classes", []))
                and is_list_of(int, content.get("images", [0, 0, 0]))
                and len(content.get("images", [0, 0, 0])) == 3
                and all(
                    len(pair) == 2 and all(isinstance(name, str) for name in pair)
                    for pair in content.get("pairs", ())
                )
            )
        )
    except (LookupError, TypeError):
        return False


def is_block(content: Any, replicates: range) -> bool:
    """True if this is what `Store.write_block` writes for these replicates."""
    try:
        arrays = content["arrays"]
        return (
            is_flat(content["config"])
            and (content["parent"] is None or bool(ID.fullmatch(content["parent"])))
            and isinstance(content["provenance"], dict)
            and all(map(is_flat, (*content["rows"], *content["history"])))
            and [row["replicate"] for row in content["rows"]] == list(replicates)
            and all(
                row["replicate"] in replicates and isinstance(row["epoch"], int)
                for row in content["history"]
            )
            and (
                arrays is None
                or bool(SHA256.fullmatch(arrays["sha256"]) and ARRAYS.fullmatch(arrays["name"]))
            )
        )
    except (LookupError, TypeError):
        return False


def is_search(content: Any) -> bool:
    """True if this has what readers of a search rely on."""
    try:
        return (
            all(NAME.fullmatch(content[name]) for name in ("name", "experiment"))
            and isinstance(content["dataset"], str)
            and all(map(NAME.fullmatch, (*content["dimensions"], *content["columns"])))
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
