"""Section 3: how correlated the coordinates of a code are."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis import betas, correlation
from analysis.document import Document, Glance
from analysis.report.captions import intervals
from analysis.results import Results
from analysis.selection import deepest_rows

INFORMATION = ("total_correlation_per_dimension", "effective_rank", "participation_ratio")


def write(document: Document, results: Results) -> None:
    """Write the section: conclusions, redundancy against d, correlation matrices and β."""
    section = document.section(
        "correlation",
        "3 · Decorrelation",
        "How correlated are the coordinates of the code, in one number, and how does it depend "
        "on d?",
    )
    every = measure_models(results)
    plain = deepest_rows(results.of("autoencoder"))
    longer = correlation.longer_rows(results)
    table = every[every["cell"].isin(plain["cell"])].reset_index(drop=True)
    _, which = correlation.images_to_encode(results)
    section.conclusions = correlation.conclusions(table)
    section.glance = Glance.of(
        section.conclusions[0], table["total_correlation_per_dimension"], table["latent_dim"]
    )
    if len(longer):
        section.conclusions += correlation.after_longer_training(
            table, every[every["cell"].isin(longer["cell"])], correlation.epochs_of(longer)
        )
    section.cells = sorted(set(table["cell"]))
    document.text(
        f"{correlation.models_sentence(results)} "
        "The number is the Gaussian total correlation per dimension, −½ ln det R / d of the "
        "correlation matrix R: how much all coordinates together repeat one another, linearly; 0 "
        "if nothing is correlated. Effective rank over d measures the opposite: the share of the "
        "directions that the variance fills, 1 if all have the same variance. The mean absolute "
        "Pearson correlation is between different coordinates: it leaves out the diagonal, which "
        "is 1 by definition. Independent coordinates have the noise floor √(2/πn) of n images."
    )
    if (table["latent_dim"] > 1).any():
        document.figure(
            "correlation",
            correlation.draw_correlation(table),
            f"Correlation of codes against d, over {which}; {intervals(table)}. "
            f"{correlation.left_out_sentence(table)}",
        )
        document.figure(
            "information",
            correlation.draw_information(table),
            "Left: −½ ln det R per dimension, the redundancy of Gaussian codes with these "
            f"correlations. Right: the share of the directions that the codes fill; "
            f"{intervals(table)}. {correlation.left_out_sentence(table, INFORMATION)}",
        )
    document.figure(
        "correlation_matrices",
        correlation.draw_heat_maps(results),
        "Correlation matrices of the codes of replicate 0.",
    )
    document.text(
        "An autoencoder's code is determined only up to an invertible map, which its decoder can "
        "undo. Whitening (by statistics of other images) is such a map: it takes the mean "
        f"correlation to {_most(table['whitened'])} (noise floor of both samples "
        f"{table['whitened_floor'].max():.3f}), and loses no information. The numbers "
        "above describe the coordinates that training happened to choose."
    )
    document.table("correlation", correlation.summary(table), "Measures by latent dimension")
    document.download(
        "correlation_models", table.rename(columns={"cell": "cells"}), "The measures by model"
    )
    by_beta = betas.redundancy_by_beta(results, every)
    write_betas(document, "correlation_betas", by_beta, betas.CODE_MEASURES)


def measure_models(results: Results) -> pd.DataFrame:
    """Return the measures of every model of the section; they are cached."""
    plain = deepest_rows(results.of("autoencoder"))
    rows = pd.concat([plain, correlation.longer_rows(results), betas.rows_by_beta(results)])
    return correlation.measures(results, rows.drop_duplicates(["cell", "replicate"]))


def write_betas(
    document: Document, name: str, table: pd.DataFrame, measures: Mapping[str, str]
) -> None:
    """Write the part on β from a table of `analysis.betas`, or nothing if no measure has values."""
    found = betas.changes(table, measures)
    if found.empty:
        return
    document.heading("β of a variational autoencoder")
    for sentence in betas.conclusions(found, int(table["latent_dim"].iloc[0])):
        document.text(sentence)
    document.figure_with_table(
        name,
        betas.draw_by_beta(table, measures),
        "Against β, the weight of the divergence of codes from the standard normal distribution; "
        f"β = 0 is the autoencoder of section 1; {intervals(table)}.",
        found,
        "Changes from β = 0, paired by replicate",
    )


def _most(values: pd.Series) -> str:
    known = values.dropna()
    return f"at most {known.max():.3f}" if len(known) else "no number, as no code varies here"
