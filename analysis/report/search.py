"""The section of a search: its result and its cost."""

from __future__ import annotations

from analysis import search
from analysis.document import Document
from analysis.results import Results

BEST_QUARTER = "it is in the best quarter of the latest ten there (successive halving)"
DOMINANCE = (
    "as few of the latest ten there beat it in every objective as beat the best quarter of them "
    "(successive halving by dominance)"
)


def write(document: Document, results: Results, name: str) -> None:
    """Write the section of one search, from RESULTS/search/NAME.json."""
    content, anchor = results.searches[name], f"search-{name}"
    section = document.section(
        anchor,
        f"Search · {name}",
        f"Which settings have the best {search.metric(content)} on the validation images, which "
        "of them matter, and what does less error cost?",
    )
    if not content["trials"]:
        document.text("No trial has ended yet.")
        return
    section.conclusions = search.verdicts(content, results.rows)
    section.cells = [content[k] for k in ("winner_cell", "start_cell") if content.get(k)]
    table = search.trials(content)
    if len(search.curves(content)):
        rule = BEST_QUARTER if len(content["directions"]) == 1 else DOMINANCE
        document.figure(
            f"{anchor}-curves",
            search.draw_curves(content),
            "Every trial by epoch, means over its replicates. At the dashed lines a trial is "
            f"stopped (cross) unless {rule}. A dot marks a trial that ran in full.",
        )
    important = search.importances(content)
    if len(important):
        document.figure(
            f"{anchor}-importances",
            search.draw_importances(important),
            "How much each setting matters. All trials reach the first comparison; those in full "
            "are a selection, in which the most important settings vary least.",
        )
        document.table(f"{anchor}-importances", important, "Importances")
    document.figure(
        f"{anchor}-coordinates",
        search.draw_coordinates(content),
        "Parallel coordinates, one line per trial: in colour if it ran in full (dots: the best), "
        "in grey if it was stopped early.",
    )
    if table["parameters"].notna().any():
        document.figure(
            f"{anchor}-pareto",
            search.draw_pareto(content),
            "Trials in full against their cost. Ringed: no trial has a better metric at less cost. "
            "Numbers are those of the trials.",
        )
    document.table(f"{anchor}-trials", table, "Trials")
