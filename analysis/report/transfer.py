"""Section 4: few labels on a pretrained encoder."""

from __future__ import annotations

import pandas as pd

from analysis import transfer
from analysis.document import Document
from analysis.results import Results


def write(document: Document, results: Results) -> None:
    rows = transfer.rows_of(results)
    arms = transfer.arms_table(rows, results.plan["dataset"])
    section = document.section(
        "transfer",
        "4 · Transfer",
        "With tens of labelled images: a small classifier on a fixed pretrained encoder, or the "
        "whole network trained?",
    )
    section.conclusions = [*transfer.conclusions(rows), *transfer.target_sentence(arms)]
    section.cells = results.cells("fewshot")
    table, pixel_baselines = transfer.summary(rows), transfer.baselines(results)
    _accuracies(document, rows, table, arms, pixel_baselines)
    _against_fixed(document, rows)
    _fixed_minus_full(document, rows)
    _baselines(document, results, pixel_baselines)
    _confusion(document, results, rows)
    _beside_the_original(document, table)


def _accuracies(
    document: Document,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    arms: pd.DataFrame,
    pixel_baselines: pd.DataFrame,
) -> None:
    which = transfer.setting_words(rows)
    document.figure(
        "transfer_by_labels",
        transfer.draw_by_labels(rows, pixel_baselines),
        "Test accuracy against the number of labelled images. Bars are 95 % intervals that "
        "resample encoders and label subsets together (not pretrained: Student t over label "
        "subsets), dots the replicates; grey: baselines on the same label subsets; dotted at "
        f"10 %: chance. {which}",
    )
    document.figure(
        "transfer_by_dimension",
        transfer.draw_by_dimension(rows),
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


def _against_fixed(document: Document, rows: pd.DataFrame) -> None:
    compared = transfer.against(rows)
    if compared.empty:
        return
    document.figure(
        "transfer_against_fixed",
        transfer.draw_against(compared),
        "Every arm against the plain, fixed encoder: paired differences in test accuracy on "
        "common seeds and label subsets, means over d; bars are unadjusted 95 % intervals that "
        f"resample both. {transfer.setting_words(rows)}",
    )
    document.table(
        "transfer_against_fixed",
        compared,
        "Every arm minus the plain, fixed encoder, with p values corrected for their number (Holm)",
        shown=compared.drop(columns=["interval"]),
    )


def _fixed_minus_full(document: Document, rows: pd.DataFrame) -> None:
    paired = transfer.differences(rows)
    if paired.empty:
        return
    document.figure(
        "transfer_differences",
        transfer.draw_differences(paired),
        "Paired difference in test accuracy, encoder fixed minus everything trained, on "
        "common encoders and label subsets; bars are unadjusted 95 % intervals that resample both. "
        f"{transfer.setting_words(paired)}",
    )
    document.table(
        "transfer_differences",
        paired,
        "Paired differences fixed − full, with p values corrected for their number (Holm)",
        shown=paired.drop(columns=["interval"]),
    )


def _baselines(document: Document, results: Results, pixel_baselines: pd.DataFrame) -> None:
    document.table(
        "transfer_baselines",
        transfer.baseline_summary(pixel_baselines),
        "Baselines on the pixels of the same label subsets",
    )
    on_codes = transfer.code_baselines(results)
    if len(on_codes):
        document.table(
            "transfer_code_baselines",
            transfer.baseline_summary(on_codes),
            "Baselines on the standardised codes of the same encoders",
        )


def _confusion(document: Document, results: Results, rows: pd.DataFrame) -> None:
    best = transfer.best_classifier(rows)
    document.figure(
        "confusion",
        transfer.draw_confusion(transfer.confusion(results, best)),
        f"Confusion matrix of the classifier with the best validation accuracy "
        f"(d = {best['latent_dim']}, {best['labels']} labels, "
        f"{transfer.name_of(best['arm'])}).",
    )


def _beside_the_original(document: Document, table: pd.DataFrame) -> None:
    document.heading("The original's accuracies")
    theirs = transfer.original()
    document.text(transfer.original_conclusion(theirs))
    document.figure(
        "transfer_original",
        transfer.draw_original(table, theirs),
        "This study's means (solid) and the original's single runs (dotted, hollow). "
        f"{transfer.setting_words(table)}",
    )
    document.table(
        "transfer_original",
        transfer.beside_original(table, theirs),
        "The original's 56 accuracies beside this study's means",
    )
