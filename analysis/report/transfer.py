"""Section 4: few labels on a pretrained encoder."""

from __future__ import annotations

from analysis import transfer
from analysis.document import Document
from analysis.results import Results


def write(document: Document, results: Results) -> None:
    rows = transfer.with_arms(results.of("fewshot"))
    table = transfer.summary(rows)
    section = document.section(
        "transfer",
        "4 · Transfer",
        "With tens of labelled images: a small classifier on a fixed pretrained encoder, or the "
        "whole network trained?",
    )
    arms = transfer.arms_table(rows, results.plan["dataset"])
    section.conclusions = [*transfer.conclusions(rows), *transfer.target_sentence(arms)]
    section.cells = results.cells("fewshot")
    pixel_baselines = transfer.baselines(results)
    document.figure(
        "transfer_by_labels",
        transfer.draw_by_labels(rows, pixel_baselines),
        "Test accuracy against the number of labelled images. Bars are 95 % intervals that "
        "resample encoders and label subsets together (not pretrained: Student t over label "
        "subsets), dots the replicates; grey: baselines on the same label subsets; dotted at "
        "10 %: chance.",
    )
    document.figure(
        "transfer_by_dimension",
        transfer.draw_by_dimension(rows),
        "The same accuracies against the latent dimension.",
    )
    document.table(
        "transfer_arms",
        arms,
        "The arms, each at the d with its best validation accuracy, beside the targets",
        shown=arms.drop(columns=["arm", "interval"]),
    )
    document.table("transfer", table, "Accuracy by cell", shown=table.drop(columns=["interval"]))
    compared = transfer.against(rows)
    if len(compared):
        document.figure(
            "transfer_against_fixed",
            transfer.draw_against(compared),
            "Every arm against the plain, fixed encoder: paired differences in test accuracy on "
            "common seeds and label subsets, means over d; bars are 95 % intervals that resample "
            "both.",
        )
        document.table(
            "transfer_against_fixed",
            compared,
            "Every arm minus the plain, fixed encoder, with p values corrected for their number "
            "(Holm)",
            shown=compared.drop(columns=["interval"]),
        )
    paired = transfer.differences(rows)
    if len(paired):
        document.figure(
            "transfer_differences",
            transfer.draw_differences(paired),
            "Paired difference in test accuracy, encoder fixed minus everything trained, on "
            "common encoders and label subsets; bars are 95 % intervals that resample both.",
        )
        document.table(
            "transfer_differences",
            paired,
            "Paired differences fixed − full, with p values corrected for their number (Holm)",
            shown=paired.drop(columns=["interval"]),
        )
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
    best = transfer.best_classifier(rows)
    counts = transfer.confusion(results, best)
    document.figure(
        "confusion",
        transfer.draw_confusion(counts),
        f"Confusion matrix of the classifier with the best validation accuracy "
        f"(d = {best['latent_dim']}, {best['labels']} labels, "
        f"{transfer.name_of(best['arm'])}).",
    )
    document.heading("The original's accuracies")
    theirs = transfer.original()
    document.text(transfer.original_conclusion(theirs))
    document.figure(
        "transfer_original",
        transfer.draw_original(table, theirs),
        "This study's means (solid) and the original's single runs (dotted, hollow).",
    )
    document.table(
        "transfer_original",
        transfer.beside_original(table, theirs),
        "The original's 56 accuracies beside this study's means",
    )
