"""The part of sections 2 and 3 on variational autoencoders."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis import betas
from analysis.document import Document
from analysis.report.captions import intervals


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
        betas.draw(table, measures),
        "Against β, the weight of the divergence of codes from the standard normal distribution; "
        f"β = 0 is the autoencoder of section 1; {intervals(table)}.",
        found,
        "Changes from β = 0, paired by replicate",
    )
