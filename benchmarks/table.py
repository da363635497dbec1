"""Results as a table on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Line, Sample


def number(value: float) -> str:
    """A number with three digits: `0.0412`, `8.31`, `784`."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def sample_text(value: Sample, unit: str) -> str:
    """A sample in words, such as `8.31 × (7.90 … 8.55, n = 3)`."""
    if value.n == 1:
        return f"{number(value.median)} {unit} (n = 1)"
    low, high = number(min(value.values)), number(max(value.values))
    return f"{number(value.median)} {unit} ({low} … {high}, n = {value.n})"


def print_table(console: Console, title: str, lines: list[Line]) -> None:
    """Print one module's lines as a table."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("what", "median (min … max)", "wanted", "reached", "quality and notes"):
        table.add_column(column)
    for line in lines:
        about = "; ".join(part for part in (line.quality, line.note) if part)
        reached = {None: "", True: "yes", False: "NO"}[line.reached]
        table.add_row(line.what, sample_text(line.value, line.unit), line.target, reached, about)
    console.print(table)


def line_json(line: Line) -> dict[str, Any]:
    """A line for JSON, with every single value."""
    values = line.value.values
    measured = {
        "values": values,
        "median": line.value.median,
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "reached": line.reached,
    }
    return {name: entry for name, entry in vars(line).items() if name != "value"} | measured


def write_json(path: Path, about: Mapping[str, Any], results: Mapping[str, list[Line]]) -> None:
    """Write `about` (the command and the machine) and every module's lines into one file."""
    content = {**about, "results": {k: [line_json(line) for line in v] for k, v in results.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
