"""The section of an experiment that has none of its own."""

from __future__ import annotations

from pandas.api.types import is_numeric_dtype

from analysis.document import Document
from analysis.results import Results


def write(document: Document, results: Results, planned: dict) -> None:
    """An experiment that the report has no section of its own for: its rows, by its axes."""
    name, metric = planned["name"], planned["metric"]
    rows = results.of(name)
    document.section(name, name.replace("_", " ").capitalize())
    axes = [axis for axis in planned["axes"] if axis in rows]
    if axes and metric in rows and is_numeric_dtype(rows[metric]):
        table = rows.groupby(axes)[metric].agg(["mean", "std", "count"]).reset_index()
        table["cells"] = [" ".join(sorted(set(group["cell"]))) for _, group in rows.groupby(axes)]
        document.table(name, table, f"{metric} by {', '.join(axes)}", opened=True)
