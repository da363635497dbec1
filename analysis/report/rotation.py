"""The section on angles: circular losses compared."""

from __future__ import annotations

import pandas as pd

from analysis import rotation
from analysis.document import Document
from analysis.report.captions import STUDENT, bars, intervals
from analysis.results import Results
from trainables.data import DIGITS


def write(document: Document, results: Results) -> None:
    """Write the section: conclusions, and errors by loss, by true angle and by digit."""
    rows = results.of("rotation")
    shown = rotation.chosen(rows)
    errors = rotation.errors(results, shown)
    section = document.section(
        "rotation",
        "Angles: by how much was a digit turned?",
        "The same network learns the angle from the image under a naive and under circular "
        "losses. What does it cost not to know that 0° and 360° are one?",
    )
    section.conclusions = rotation.conclusions(rows, errors)
    section.cells = sorted(set(shown["cell"]))
    document.figure(
        "rotation",
        rotation.draw_errors(shown),
        f"Mean error on turned test images by loss; {intervals(shown)}.",
    )
    binned = rotation.by_angle(errors)
    replicates = binned["replicates"].max()
    document.figure(
        "rotation_by_angle",
        rotation.draw_by_angle(binned),
        f"Mean error against the true angle, in bins of 10°; {bars(STUDENT, replicates, 'bands')}.",
    )
    table = rotation.summary(rows)
    document.table(
        "rotation", table, "Errors by loss, in degrees", shown=table.drop(columns=["interval"])
    )
    paired = rotation.differences(rows)
    if len(paired):
        document.table(
            "rotation_differences",
            paired,
            "Naive minus circular, paired by seed, in degrees; p values corrected for their "
            "number (Holm)",
            shown=paired.drop(columns=["interval"]),
        )
    document.download("rotation_by_angle", binned, "Errors by true angle")
    if results.classes == DIGITS:
        with document.where_data_allow("errors by digit"):
            of_digits = rotation.with_digits(errors, results.test_labels.numpy())
            section.conclusions += rotation.conclusions_by_digit(rows, of_digits)
            _by_digit(document, rotation.by_digit(of_digits))


def _by_digit(document: Document, table: pd.DataFrame) -> None:
    document.figure_with_table(
        "rotation_by_digit",
        rotation.draw_by_digit(table),
        f"Mean error by digit; {bars(STUDENT, table['replicates'].max())}.",
        table,
        "Errors by digit, in degrees, and the share above 135°",
    )
