"""Variational autoencoders compared by β: the redundancy of their codes, their error, and the
pictures between two classes.

β = 0 is the plain autoencoder with the same settings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import interpolation
from analysis.results import Results
from analysis.statistics import LEVEL, finite_mean, holm_table
from analysis.style import Series, draw_series, figure, styled

CODE_MEASURES = {
    "total_correlation_per_dimension": "the total correlation per dimension (nats)",
    "mean_absolute_off_diagonal": "the mean |r| between coordinates",
    "effective_rank_share": "the effective rank over d",
    "test_mse": "the test error",
}
"""Measures of codes, and their names in sentences and figures."""

MIDPOINT_MEASURES = {
    "relative": "the judges' confidence in midpoints relative to end points",
    "outside": "the probability outside the two classes",
    "both": "both classes at once",
    "cross_dissolve": "the distance from cross-dissolve",
    "nearest": "the distance to the nearest real image",
}
"""Measures of midpoints between two classes, and their names."""


def rows_by_beta(results: Results) -> pd.DataFrame:
    """Rows of `betas` and, with `beta` = 0, of the plain autoencoders with the same settings.

    Empty if either is missing.
    """
    varied = results.of("betas")
    plain = results.of("autoencoder")
    if varied.empty or plain.empty:
        return pd.DataFrame()
    same = ["latent_dim", "depth", "width", "network", "batch_size", "epochs"]
    control = plain[(plain[same] == varied[same].iloc[0]).all(axis=1)]
    if control.empty:
        return control
    return pd.concat([control.assign(beta=0.0), varied], ignore_index=True)


def redundancy_by_beta(results: Results, measured: pd.DataFrame) -> pd.DataFrame:
    """`rows_by_beta` with `CODE_MEASURES`, from a table of `correlation.measures`."""
    rows = rows_by_beta(results)
    if rows.empty:
        return rows
    return rows.merge(measured.drop(columns="latent_dim"), on=["cell", "replicate"])


def midpoints_by_beta(results: Results, scorecard: pd.DataFrame) -> pd.DataFrame:
    """`rows_by_beta` with the measures of `MIDPOINT_MEASURES` from a `scorecard` of these models.

    Means over judges and over the pairs of images that count in all models of a replicate.
    """
    rows = rows_by_beta(results)
    if rows.empty:
        return rows
    of_midpoints = scorecard["control"] == interpolation.INTERPOLATION
    lines = scorecard[of_midpoints & scorecard["cell"].isin(rows["cell"])]
    counted = interpolation.counted_by_every_model(lines)
    means = counted.groupby(["cell", "replicate"])[list(MIDPOINT_MEASURES)].mean().reset_index()
    return rows.merge(means, on=["cell", "replicate"])


def finite_measures(table: pd.DataFrame, measures: Mapping[str, str]) -> dict[str, str]:
    """The measures that have values in the table; without labels, judges give none."""
    return {k: v for k, v in measures.items() if k in table and table[k].notna().any()}


def changes(table: pd.DataFrame, measures: Mapping[str, str]) -> pd.DataFrame:
    """Change of each measure from β = 0, paired by replicate.

    Columns `beta`, `measure`, `without` and `mean` (at β = 0 and at this β), `change`, `low`,
    `high`, `p`, `p_holm` (corrected for all lines), `n`, `interval`, `cells`.
    """
    lines = []
    for measure, name in finite_measures(table, measures).items():
        wide = table.pivot_table(index="replicate", columns="beta", values=measure)
        for beta in wide.columns[wide.columns > 0]:
            both = wide[[0.0, beta]].dropna()
            interval = finite_mean(both[beta] - both[0.0])
            cells = table[table["beta"].isin([0.0, beta])]["cell"].unique()
            lines.append(
                {
                    "beta": beta,
                    "measure": name,
                    "without": both[0.0].mean(),
                    "mean": both[beta].mean(),
                    **interval.columns("change", "n"),
                    "p": interval.p_value(),
                    "cells": " ".join(cells),
                }
            )
    return holm_table(lines)


def conclusions(found: pd.DataFrame, latent_dim: int) -> list[str]:
    """One sentence per β on the measures that rise, fall and are undecided."""
    sentences = []
    for beta, lines in found.groupby("beta"):
        decided = lines[lines["p_holm"] < LEVEL]
        parts = [
            f"{line.measure} {'rises' if line.change > 0 else 'falls'} from {line.without:.3g} to "
            f"{line.mean:.3g}"
            for line in decided.itertuples()
        ]
        undecided = [str(name) for name in lines["measure"][lines["p_holm"] >= LEVEL]]
        sentence = f"With β = {beta:g} at d = {latent_dim}, "
        sentence += "; ".join(parts) if parts else "no change is decided"
        sentence += f" (p < {LEVEL}, Holm over {len(found)} changes, n = {lines['n'].min()})."
        if parts and undecided:
            sentence += f" Undecided: {', '.join(undecided)}."
        sentences.append(sentence)
    return sentences


@styled()
def draw_by_beta(table: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Draw each measure against β, one panel per measure; values of β are evenly spaced."""
    present = finite_measures(table, measures)
    made, panels = figure(columns=len(present), width=3 * len(present), height=3.2, squeeze=False)
    betas = np.array(sorted(table["beta"].unique()))
    places = np.arange(len(betas))
    at = table.assign(place=table["beta"].map(dict(zip(betas, places, strict=True))))
    for axes, (measure, name) in zip(panels[0], present.items(), strict=True):
        draw_series(axes, at, "place", measure, Series(name, 0))
        axes.set_xticks(places, [f"{beta:g}" for beta in betas])
        axes.set_xlabel("β")
        axes.set_title(textwrap.fill(name.removeprefix("the "), 30))
    return made
