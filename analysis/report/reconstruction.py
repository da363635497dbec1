"""Section 1: the error on the test images against d, depth and cost."""

from __future__ import annotations

import pandas as pd

from analysis import reconstruction
from analysis.decisions import ERROR_A_POINT
from analysis.document import Document, Glance
from analysis.report.captions import GIVEN, STUDENT, bars, intervals
from analysis.results import Results
from analysis.selection import curves
from analysis.statistics import PERCENT
from study.words import counted


def write(document: Document, results: Results) -> None:
    """Write the section: conclusions, errors, checks, training histories and the best model."""
    rows = results.of("autoencoder")
    dims = sorted(int(d) for d in rows["latent_dim"].unique())
    section = document.section(
        "reconstruction",
        "1 · Reconstruction",
        "How does the error on the test images depend on the latent dimension d, and on the "
        "number of layers and weights? What is the best score?",
    )
    pca, fitted_to = pd.DataFrame(columns=["latent_dim", "pca_mse"], dtype=float), ""
    with document.where_data_allow("PCA, beside the autoencoders"):
        pca = reconstruction.pca_errors(results.dataset, dims)
        fitted_to = f" PCA is fitted to {reconstruction.pca_images(results.dataset)}."
    every = reconstruction.all_rows(results)
    until = results.plan.get("until_decided")
    section.conclusions = reconstruction.conclusions(
        rows, pca, every, negligible_below=ERROR_A_POINT * until["matters"] if until else None
    )
    best, *others = section.conclusions
    section.glance = Glance.of(others[0] if others else best, rows["test_mse"], rows["latent_dim"])
    section.cells = sorted(set(every["cell"]))
    _errors(document, rows, pca, fitted_to)
    _checks(document, every)
    _training(document, results)
    with document.where_data_allow("the best model's reconstructions and its error by class"):
        _the_best_model(document, results, every)


def _errors(document: Document, rows: pd.DataFrame, pca: pd.DataFrame, fitted_to: str) -> None:
    table = reconstruction.summary(rows, pca)
    several = (
        " The last panel shows how more layers change the error, paired by replicate; "
        f"{bars(f'unadjusted {STUDENT}', rows['replicate'].nunique())}."
    )
    document.figure(
        "reconstruction_all",
        reconstruction.draw_error_by_dimension(rows, pca),
        f"Test error against the latent dimension; {intervals(rows)}, {GIVEN}.{fitted_to}"
        + (several if rows["depth"].min() < rows["depth"].max() else ""),
    )
    same = [name for name in ("width", "network") if len(set(table[name])) == 1]
    document.table(
        "reconstruction",
        table,
        "Test error by cell",
        shown=table.drop(columns=["interval", "low", "high", *same]),
    )
    document.figure(
        "reconstruction_cost",
        reconstruction.draw_cost(rows),
        "Test error (mean of a cell) against its cost. A ring marks a cell if no other cell has "
        "both less error and less cost. Training time is the time of a block divided by its "
        "replicates, while other trials ran on the same machine.",
    )


def _checks(document: Document, every: pd.DataFrame) -> None:
    table = reconstruction.checks(every)
    if table.empty:
        return
    document.heading("Layers, batches and widths, at more than one budget")
    document.figure_with_table(
        "reconstruction_checks",
        reconstruction.draw_checks(table),
        "How the test error changes with layers, minibatch and width; models paired by all other "
        "settings and by replicate; "
        f"{bars(f'unadjusted {STUDENT}', table['n'].max())}, "
        f"{GIVEN}.",
        table,
        "Changes of the test error in per cent; p values corrected (Holm) for the d of a budget",
    )


def _training(document: Document, results: Results) -> None:
    history = results.history("autoencoder")
    name, first = next(iter(curves(history).items()))
    document.figure(
        "histories",
        reconstruction.draw_histories(first),
        f"Errors while training, means over replicates, {name}.",
    )
    document.download("histories", history.rename(columns={"cell": "cells"}), "Training histories")


def _the_best_model(document: Document, results: Results, rows: pd.DataFrame) -> None:
    best = reconstruction.best_model(rows)
    restored, errors = reconstruction.image_errors(results, best["cell"], int(best["replicate"]))
    document.heading("The best model")
    document.figure(
        "reconstructions",
        reconstruction.draw_reconstructions(results, restored, errors),
        f"Test images and their reconstructions by the best model (d = {best['latent_dim']}, "
        f"{counted(best['depth'], 'layer')}); mean squared errors per pixel.",
    )
    by_class = reconstruction.error_by_class(results, best["cell"], int(best["replicate"]), errors)
    if by_class.empty:
        return
    several = by_class["images"].max() > 1
    over_images = (
        f"bars are {PERCENT} Student-t intervals over images" if several else "one image each"
    )
    document.figure(
        "error_by_class",
        reconstruction.draw_error_by_class(by_class),
        f"Its test error by class; {over_images}.",
    )
    document.table("error_by_class", by_class, "Test error by class")
