"""Section 4: few labels on a pretrained encoder."""

from __future__ import annotations

import pandas as pd

from analysis import transfer
from analysis.document import Document, Glance
from analysis.report.captions import GIVEN, bars
from analysis.results import Results
from analysis.statistics import PERCENT

BOTH = f"unadjusted {PERCENT} intervals that resample both"


def write(document: Document, results: Results) -> None:
    """Write the section: accuracies, comparisons of arms, baselines, and the original's numbers."""
    section = document.section(
        "transfer",
        "4 · Transfer",
        "With tens of labelled images: a small classifier on a fixed pretrained encoder, or the "
        "whole network trained?",
    )
    rows = transfer.rows_of(results)
    arms = transfer.arms_table(rows, results.plan["dataset"])
    varied = transfer.sensitivity(results)
    _, validation, test = results.images
    until = results.plan.get("until_decided")
    negligible_below = until["matters"] / 100 if until else None
    section.conclusions = [
        *transfer.conclusions(rows, test, validation, negligible_below),
        *transfer.sensitivity_conclusions(varied),
        *transfer.target_sentence(arms),
    ]
    asked = transfer.pair_table(rows, "fixed", "full", negligible_below)
    if len(asked):
        points = 100 * asked[["difference", "low", "high"]]
        section.glance = Glance(
            next(s for s in section.conclusions if "“everything trained”" in s),
            [tuple(line) for line in points.itertuples(index=False)],
            differences=True,
        )
    section.cells = sorted(set(rows["cell"]))
    table, pixel_baselines = transfer.summary(rows), pd.DataFrame()
    with document.where_data_allow("baselines on pixels"):
        pixel_baselines = transfer.baselines(results)
    _accuracies(document, rows, table, arms, pixel_baselines)
    if negligible_below is not None:
        _decided(document, rows, negligible_below)
    _against_fixed(document, rows)
    _fixed_minus_full(document, rows)
    _sensitivity(document, varied)
    gains = transfer.gain_of_unlabelled(rows)
    if len(gains):
        document.table(
            "transfer_unlabelled",
            gains,
            "What unlabelled images add: the best arm with a pretrained encoder minus the best "
            "without one, each by its validation accuracy, paired on label subsets",
            shown=gains.drop(columns=["interval"]),
        )
    if len(pixel_baselines):
        document.table(
            "transfer_baselines",
            transfer.baseline_summary(pixel_baselines),
            "Baselines on the pixels of the same label subsets",
        )
    with document.where_data_allow("the confusion matrix of the best classifier"):
        best = transfer.best_classifier(rows)
        document.figure(
            "confusion",
            transfer.draw_confusion(transfer.confusion(results, best), results.classes),
            "Confusion matrix of the classifier with the best validation accuracy "
            f"({transfer.place_of(best)}).",
        )
    if results.plan["dataset"] in ("mnist", "mnist-5k"):
        _beside_the_original(document, table)


def _accuracies(
    document: Document,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    arms: pd.DataFrame,
    pixel_baselines: pd.DataFrame,
) -> None:
    which, replicates = transfer.setting_words(rows), rows["replicate"].nunique()
    document.figure(
        "transfer_by_labels",
        transfer.draw_by_labels(rows, table, pixel_baselines),
        "Test accuracy against the number of labelled images; "
        f"{bars(f'{PERCENT} intervals over replicates (the table names their kind)', replicates)}, "
        f"{GIVEN}; dots are replicates; "
        f"{'grey: baselines on the same label subsets; ' if len(pixel_baselines) else ''}dotted at "
        f"{100 * transfer.chance_of(rows):.3g} %: chance. {which}",
    )
    document.figure(
        "transfer_by_dimension",
        transfer.draw_by_dimension(rows, table),
        f"The same accuracies against the latent dimension. {which}",
    )
    document.table(
        "transfer_arms",
        arms,
        "The arms, each at the d, depth and batch size with its best validation accuracy, "
        "beside the targets",
        shown=arms.drop(columns=["arm", "interval"]),
    )
    document.table("transfer", table, "Accuracy by cell", shown=table.drop(columns=["interval"]))


def _decided(document: Document, rows: pd.DataFrame, negligible_below: float) -> None:
    paths = transfer.decision_paths(rows)
    document.figure(
        "transfer_decisions",
        transfer.draw_decisions(paths, negligible_below),
        f"Paired difference, mean over d, after each replicate: estimate and {PERCENT} interval, "
        "valid at every look; differences in the grey band don't matter.",
    )
    document.table(
        "transfer_decisions",
        transfer.decision_table(rows, negligible_below),
        "Comparisons to which replicates were added until they were decided; p values stay valid "
        "at every look, corrected for the numbers of labels (Holm)",
    )


def _against_fixed(document: Document, rows: pd.DataFrame) -> None:
    compared = transfer.against(rows)
    if compared.empty:
        return
    document.figure_with_table(
        "transfer_against_fixed",
        transfer.draw_against(compared),
        "Every arm against the plain, fixed encoder: paired differences in test accuracy on "
        f"common seeds and label subsets, means over d; {bars(BOTH, compared['pairs'].max())}. "
        f"{transfer.setting_words(rows)}",
        compared,
        "Every arm minus the plain, fixed encoder, with p values corrected for their number "
        "(Holm); those of “everything trained”, the assignment's question, apart from the others",
    )


def _fixed_minus_full(document: Document, rows: pd.DataFrame) -> None:
    paired = transfer.differences(rows)
    if paired.empty:
        return
    document.figure_with_table(
        "transfer_differences",
        transfer.draw_differences(paired),
        "Paired difference in test accuracy, encoder fixed minus everything trained, on "
        f"common encoders and label subsets; {bars(BOTH, paired['pairs'].max())}. "
        f"{transfer.setting_words(paired)}",
        paired,
        "Paired differences fixed − full, with p values corrected for their number (Holm)",
    )


def _sensitivity(document: Document, varied: pd.DataFrame) -> None:
    if varied.empty:
        return
    most = varied["pairs"].max()
    document.figure_with_table(
        "transfer_sensitivity",
        transfer.draw_sensitivity(varied),
        f"Encoder fixed minus everything trained at d = {varied['latent_dim'].iloc[0]:.0f}, "
        "against the steps of both arms (left) and against a factor of all their learning rates "
        f"(right); {bars(f'unadjusted {PERCENT} intervals over replicates', most)}.",
        varied,
        "Fixed minus full by steps and rates, p values corrected for their number (Holm); fixed "
        "and full are mean validation accuracies",
    )


def _beside_the_original(document: Document, table: pd.DataFrame) -> None:
    document.heading("The original's accuracies")
    original = transfer.original()
    document.text(transfer.original_conclusion(original))
    document.figure(
        "transfer_original",
        transfer.draw_original(table, original),
        "This study's means (solid) and the original's single runs (dotted, hollow). "
        f"{transfer.setting_words(table)}",
    )
    document.table(
        "transfer_original",
        transfer.beside_original(table, original),
        "The original's 56 accuracies beside this study's means",
    )
