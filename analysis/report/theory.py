"""Section 5: the theory, with its checks."""

from __future__ import annotations

from analysis import theory
from analysis.document import Document
from analysis.results import Results


def write(document: Document, results: Results) -> None:
    """Write the section, which reads no results."""
    checks = theory.checks()
    section = document.section(
        "theory", "5 · Theory", "The assignment's five questions, answered, derived and checked."
    )
    failed = checks[~checks["passed"]]
    section.conclusions = [
        f"{len(checks)} numerical checks of the answers were run for this report; "
        + ("all of them hold." if failed.empty else f"{len(failed)} FAILED.")
    ]
    for answer in theory.answers():
        document.answer(answer)
        if answer.number == "2":
            document.figure(
                "stationary_points",
                theory.draw_stationary_points(),
                "Functions along a line through their stationary points.",
            )
        if answer.number == "3":
            document.figure(
                "circular_losses",
                theory.draw_circular_losses(),
                "Circular losses and their gradients against the signed difference of angles.",
            )
    shown = checks.assign(passed=checks["passed"].map({True: "yes", False: "NO"}))
    document.table("theory", checks, "The checks", shown=shown)
