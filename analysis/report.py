"""The report: one section a question, written from the cells on disk and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis import correlation, interpolation, reconstruction, theory, transfer
from analysis.document import Document
from analysis.interpolation import explorer
from analysis.interpolation.judge import judge_of
from analysis.results import Results, load
from analysis.stamp import is_current as is_current
from analysis.stamp import stamp, stamp_file
from study.provenance import code_version, packages
from study.store import StoreError
from study.words import duration

INTERVALS = "bars are 95 % Student-t intervals over replicates, dots the replicates"


def write(folder: str | Path) -> Path:
    """Write `report/` of a results folder and return the page's path.

    Raises `StoreError` where there is no study in it, or no cell of it is finished.
    """
    results = load(folder)
    if results.rows.empty:
        raise StoreError(f"{results.store.folder}: no cell is finished, so there is no report")
    # Small matrices: on two busy cores, several threads for each took six times as long as one.
    with threadpool_limits(1):
        return _write(results)


def _write(results: Results) -> Path:
    report = results.store.folder / "report"
    document = Document(report)
    sections = {"autoencoder": (_reconstruction, _interpolation, _correlation),
                "fewshot": (_transfer,)}  # fmt: skip
    for experiment, writers in sections.items():
        for write_section in writers if len(results.of(experiment)) else ():
            write_section(document, results)
    for planned in results.plan["experiments"]:
        if planned["name"] not in sections and len(results.of(planned["name"])):
            _any_experiment(document, results, planned)
    if results.plan["study"] == "assignment":
        _theory(document)
    missing = results.missing
    missing.to_csv(document.tables / "missing.csv", index=False)
    page = document.render(
        title=f"Latent study: {results.plan['study']} on {results.plan['dataset']}",
        subtitle=_subtitle(results),
        missing=missing.to_dict("records"),
        cells=len(missing) + results.rows["cell"].nunique(),
        provenance=_provenance(results),
    )
    current = stamp(results.plan, results.missing.to_dict("records"))
    stamp_file(results.store.folder).write_text(json.dumps(current))
    return page


def _subtitle(results: Results) -> str:
    rows = results.rows
    counts = rows.groupby("experiment", sort=False)["cell"].agg(["nunique", "size"])
    parts = [f"{name}: {c['nunique']} cells, {c['size']} models" for name, c in counts.iterrows()]
    return f"{'; '.join(parts)}. Models were chosen on validation images; test images only score."


def _provenance(results: Results) -> dict[str, str]:
    markers = [results.store.marker(cell)["provenance"] for cell in results.rows["cell"].unique()]
    data = results.dataset

    def distinct(name: str) -> str:
        return ", ".join(sorted({str(marker[name]) for marker in markers}))

    settings = {
        f"Settings of {planned['name']}": _common_settings(planned["cells"])
        for planned in results.plan["experiments"]
    }
    return {
        "Command": results.plan["command"],
        "Written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Code of the cells": distinct("code"),
        "Code of the report": code_version(),
        "Packages": ", ".join(f"{name} {number}" for name, number in packages().items()),
        "Computed on": distinct("device"),
        "Threads a trial": distinct("threads"),
        "Device time": duration(sum(marker["seconds"] for marker in markers)),
        "Data": f"{data.name}: {len(data.train):,} training, {len(data.validation):,} validation "
        f"and {len(data.test):,} test images; fingerprint {data.fingerprint}",
        **settings,
    }


def _common_settings(cells: list[dict]) -> str:
    """The settings that all cells share, and the values of those that vary."""
    names = list(cells[0]["config"]) if cells else []
    values = {name: dict.fromkeys(str(cell["config"][name]) for cell in cells) for name in names}
    return "; ".join(f"{name} {', '.join(of_it)}" for name, of_it in values.items())


# --- the sections ------------------------------------------------------------------------------


def _reconstruction(document: Document, results: Results) -> None:
    rows = results.of("autoencoder")
    dims = sorted(int(d) for d in rows["latent_dim"].unique())
    pca = reconstruction.pca_errors(results.dataset, dims)
    table = reconstruction.summary(rows, pca)
    section = document.section(
        "reconstruction",
        "1 · Reconstruction",
        "How does the error on the test images depend on the latent dimension d, and on the "
        "number of layers and weights? What is the best score?",
    )
    section.conclusions = reconstruction.conclusions(rows, pca)
    section.cells = results.cells("autoencoder")
    document.figure(
        "reconstruction_all",
        reconstruction.draw_error_by_dimension(rows, pca),
        f"Test error against the latent dimension, all autoencoders; {INTERVALS}. PCA is fitted "
        "to the same training images.",
    )
    for depth in sorted(int(d) for d in rows["depth"].unique()):
        document.figure(
            f"reconstruction_{depth}_layers",
            reconstruction.draw_error_by_dimension(rows, pca, depth),
            f"The same for {depth} convolutional layers alone; {INTERVALS}.",
        )
    document.table(
        "reconstruction",
        table,
        "Test error by cell",
        shown=table.drop(columns=["interval", "low", "high"]),
    )
    document.figure(
        "reconstruction_cost",
        reconstruction.draw_cost(rows),
        "Test error (mean of a cell) against what it costs. Ringed: no cell has less error for "
        "less.",
    )
    history = results.history("autoencoder")
    document.figure(
        "histories",
        reconstruction.draw_histories(history),
        f"Errors while training, means over replicates, batch {history['batch_size'].min()}.",
    )
    document.download("histories", history.rename(columns={"cell": "cells"}), "Training histories")
    best = reconstruction.best_model(rows)
    restored, errors = reconstruction.image_errors(results, best["cell"], int(best["replicate"]))
    document.heading("The best model")
    document.figure(
        "reconstructions",
        reconstruction.draw_reconstructions(
            results.test_images[:, 0].numpy() / 255.0, restored, errors
        ),
        f"Test images and their reconstructions by the best model (d = {best['latent_dim']}, "
        f"{best['depth']} layers); mean squared errors per pixel.",
    )
    by_digit = reconstruction.error_by_digit(results, best["cell"], int(best["replicate"]), errors)
    document.figure(
        "error_by_digit",
        reconstruction.draw_error_by_digit(by_digit),
        "Its test error by digit; bars are 95 % Student-t intervals over images.",
    )
    document.table("error_by_digit", by_digit, "Test error by digit")


def _interpolation(document: Document, results: Results) -> None:
    judge = judge_of(results.dataset)
    scorecard = interpolation.scorecard(results, judge=judge)
    table = interpolation.summary(scorecard)
    section = document.section(
        "interpolation",
        "2 · Interpolation",
        "What does D(α·E(I₁) + (1 − α)·E(I₂)) show between two different digits, and is a higher "
        "d better?",
    )
    section.conclusions = interpolation.conclusions(scorecard)
    section.cells = sorted(set(scorecard["cell"]) - {""})
    for pair in interpolation.PAIRS:
        first, second = pair
        document.figure(
            f"interpolation_{first}_{second}",
            interpolation.draw_strip(interpolation.strips(results, pair)),
            f"From a {second} to a {first}: decoded points of the line between their codes "
            "(replicate 0), with the two test images on either side; below, the mere blend of "
            "their pixels.",
        )
    document.heading("The scorecard")
    count = int(scorecard["image_pairs"].max())
    document.text(
        f"Over {count} pairs of held-out images of each of the four pairs of digits, the same for "
        f"every model. {judge.description()} Seeing both digits at once is not success: it is "
        "cross-dissolve, what averaging pixels gives without any model."
    )
    document.figure(
        "interpolation_scorecard",
        interpolation.draw_scorecard(scorecard),
        f"Midpoints (α = 0.5) and controls against d; {INTERVALS}.",
    )
    document.figure(
        "interpolation_trade_off",
        interpolation.draw_trade_off(scorecard),
        "How plausible the midpoint is (left) and how far from cross-dissolve (right), against how "
        "faithful the end points are; bars are 95 % Student-t intervals over replicates.",
    )
    document.table(
        "interpolation", table, "The scorecard by latent dimension, means over replicates"
    )
    document.table(
        "interpolation_pairs",
        interpolation.by_pair(scorecard),
        "The scorecard by latent dimension and pair of digits, means over replicates",
    )
    document.download(
        "interpolation_models",
        scorecard.rename(columns={"cell": "cells"}).replace({"cells": {"": "none: images"}}),
        "The scorecard by model and pair of digits",
    )
    document.heading("Explore")
    shown = explorer.content(results, judge)
    document.markup(explorer.fragment(shown, scorecard))
    document.download("interpolation_explorer", explorer.readings(shown), "All the readings")


def _correlation(document: Document, results: Results) -> None:
    table = correlation.measures(results)
    _, which = correlation.encoded_images(results)
    section = document.section(
        "correlation",
        "3 · Decorrelation",
        "How correlated are the coordinates of the code, in one number, and how does it depend "
        "on d?",
    )
    section.conclusions = correlation.conclusions(table)
    section.cells = sorted(set(table["cell"]))
    document.text(
        "The number is the mean absolute Pearson correlation between different coordinates: it "
        "is 0 for codes without linear redundancy whatever d is, up to the noise floor √(2/πn) "
        "that n images leave. The diagonal, which is 1 by definition, is not part of it."
    )
    if (table["latent_dim"] > 1).any():
        document.figure(
            "correlation",
            correlation.draw_correlation(table),
            f"Correlation of codes against d, over {which}; {INTERVALS}.",
        )
        document.figure(
            "information",
            correlation.draw_information(table),
            "Left: −½ ln det R per dimension, the redundancy of Gaussian codes with these "
            "correlations. Right: how many directions the codes fill; " + INTERVALS + ".",
        )
    document.figure(
        "correlation_matrices",
        correlation.draw_heat_maps(results),
        "Correlation matrices of the codes of replicate 0.",
    )
    document.text(
        "An autoencoder's code is determined only up to an invertible map, which its decoder can "
        "undo. Whitening (by statistics of training images) is such a map: it takes the mean "
        f"correlation to at most {table['whitened'].max():.3f} (noise floor "
        f"{table['noise_floor'].max():.3f}), and loses nothing. The numbers above describe the "
        "coordinates that training happened to choose."
    )
    document.table("correlation", correlation.summary(table), "Measures by latent dimension")
    document.download(
        "correlation_models", table.rename(columns={"cell": "cells"}), "The measures by model"
    )


def _transfer(document: Document, results: Results) -> None:
    rows = results.of("fewshot")
    table = transfer.summary(rows)
    section = document.section(
        "transfer",
        "4 · Transfer",
        "With tens of labelled images: a small classifier on a fixed pretrained encoder, or the "
        "whole network trained?",
    )
    section.conclusions = transfer.conclusions(rows)
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
    document.table("transfer", table, "Accuracy by cell", shown=table.drop(columns=["interval"]))
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
        f"{transfer.ARMS.get(best['freeze'], best['freeze'])}).",
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


def _any_experiment(document: Document, results: Results, planned: dict) -> None:
    """An experiment that the report has no section of its own for: its rows, by its axes."""
    name, metric = planned["name"], planned["metric"]
    rows = results.of(name)
    document.section(name, name.replace("_", " ").capitalize())
    axes = [axis for axis in planned["axes"] if axis in rows]
    if axes and metric in rows:
        table = rows.groupby(axes)[metric].agg(["mean", "std", "count"]).reset_index()
        table["cells"] = [" ".join(sorted(set(group["cell"]))) for _, group in rows.groupby(axes)]
        document.table(name, table, f"{metric} by {', '.join(axes)}", opened=True)


def _theory(document: Document) -> None:
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
        document.heading(f"{answer.number} {answer.title}")
        for paragraph in answer.paragraphs:
            document.markup(paragraph)
        document.markup(f'<div class="muted"><strong>The original.</strong>{answer.original}</div>')
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
    document.table("theory", checks, "The checks", shown=_formatted(checks))


def _formatted(checks: pd.DataFrame) -> pd.DataFrame:
    shown = checks.copy()
    shown["passed"] = shown["passed"].map({True: "yes", False: "NO"})
    return shown
