"""Question 3: how correlated the coordinates of the latent code are, and how that depends on d."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from analysis import redundancy
from analysis.results import Results
from analysis.selection import with_common_replicates
from analysis.statistics import Interval, finite_mean, trend, verdict
from analysis.style import draw_series, figure, latent_dim_axis, plain_log_ticks
from trainables.codes import encode as encode_once

MEASURES = {
    "mean_absolute_off_diagonal": "mean |r| off the diagonal",
    "rms_off_diagonal": "RMS r off the diagonal",
    "original_number": "mean |r|, diagonal included",
    "whitened": "mean |r| off the diagonal, after whitening",
    "total_correlation_per_dimension": "total correlation per dimension (nats)",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
}
"""Columns of `redundancy.summary` that are drawn, and what axes call them."""

BETWEEN = ("mean_absolute_off_diagonal", "rms_off_diagonal", "whitened")
"""Those that are about pairs of coordinates: one coordinate alone has none."""


def encoded_images(results: Results) -> tuple[torch.Tensor, str]:
    """Images to encode, (N, 1, 28, 28) uint8, and in words which: at least 5,000 of the test
    split where it has as many, else all of it (training images would be encoded too well)."""
    images = results.test_images[:5000]
    return images, f"{len(images):,} test images"


def encode(
    results: Results, cell: str, images: torch.Tensor, replicates: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Codes (N, d) of uint8 `images` under replicates of a cell (default: all), float64."""
    models = results.autoencoders(cell, replicates)
    return [encode_once(model, images).double().numpy() for model in models]


def deepest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose autoencoders have the most layers, at the first batch size: the ones that
    the assignment looks into."""
    rows = rows[rows["depth"] == rows["depth"].max()]
    return rows[rows["batch_size"] == rows["batch_size"].min()]


def measures(results: Results) -> pd.DataFrame:
    """One line a model: the measures of `redundancy.summary` on its codes, and the control.

    The control, `whitened`, is the mean off-diagonal |r| of the same codes after whitening by
    statistics of as many *training* images: codes are identifiable only up to an invertible map,
    so what such a map takes away is about coordinates, not about information.

    Columns `cell`, `replicate`, `latent_dim`, `images`, and the measures.
    """
    rows = deepest(results.of("autoencoder"))
    images, _ = encoded_images(results)
    others = results.dataset.train.on("cpu")[0][:5000]
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        pairs = zip(
            encode(results, str(cell), images), encode(results, str(cell), others), strict=True
        )
        for replicate, (codes, fitted_on) in enumerate(pairs):
            lines.append(
                {
                    "cell": cell,
                    "replicate": replicate,
                    "latent_dim": group["latent_dim"].iloc[0],
                    "images": len(images),
                    **redundancy.summary(codes),
                    "whitened": _whitened(codes, fitted_on),
                }
            )
    return pd.DataFrame(lines)


def _whitened(codes: np.ndarray, fitted_on: np.ndarray) -> float:
    """Mean off-diagonal |r| of whitened codes; NaN where no coordinate varies."""
    if not redundancy.live_coordinates(fitted_on).any():
        return math.nan
    return redundancy.mean_absolute_off_diagonal(redundancy.whiten(codes, fitted_on))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One line a latent dimension and measure: mean over replicates with its interval.

    Columns `latent_dim`, `measure`, `mean`, `low`, `high`, `replicates` (those with a finite
    value), `left_out` (the others), `interval`, `cells`.
    """
    lines = []
    for dim, group in table.groupby("latent_dim"):
        for measure in MEASURES:
            if dim == 1 and measure in BETWEEN:
                continue
            interval = finite_mean(group[measure])
            lines.append((dim, measure, interval.estimate, interval.low, interval.high, interval.n,
                          len(group) - interval.n, interval.kind,
                          group["cell"].iloc[0]))  # fmt: skip
    columns = ["latent_dim", "measure", "mean", "low", "high", "replicates", "left_out",
               "interval", "cells"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def left_out(table: pd.DataFrame, measures: Sequence[str] = ("mean_absolute_off_diagonal",)) -> str:
    """A sentence on the models of more than one dimension without a finite value of `measures`;
    empty where all of them have one."""
    several = table[table["latent_dim"] > 1]
    without = several[~np.isfinite(several[[*measures]].to_numpy(float)).all(axis=1)]
    if without.empty:
        return ""
    dims = ", ".join(map(str, sorted(without["latent_dim"].unique())))
    return (
        f"Left out: {len(without)} of {len(several)} models (d = {dims}), in whose codes "
        "coordinates do not vary, or only together, so that a number is missing or infinite."
    )


def draw_correlation(table: pd.DataFrame) -> Figure:
    """Off-diagonal correlation against d with the noise floor; and the original's number with
    the part of it that is only the diagonal."""
    made, (left, right) = figure(columns=2, width=10, sharey=True)
    several = table[table["latent_dim"] > 1]
    draw_series(left, several, "latent_dim", "mean_absolute_off_diagonal", "mean |r|", 0)
    draw_series(left, several, "latent_dim", "rms_off_diagonal", "RMS r", 1, offset=0.03)
    draw_series(left, several, "latent_dim", "whitened", "mean |r|, whitened", 4, offset=0.015)
    floor = redundancy.noise_floor(int(table["images"].iloc[0]))
    left.axhline(floor, color="#666666", linestyle=":", label=f"noise floor {floor:.3f}")
    left.set_title("between different coordinates")
    left.set_ylabel("absolute Pearson correlation")
    draw_series(right, table, "latent_dim", "original_number", "the original's number", 2)
    dims = np.array(sorted(table["latent_dim"].unique()))
    right.plot(dims, 1 / dims, color="#666666", linestyle="--", label="its diagonal alone, 1/d")
    right.set_title("diagonal included, as in the original")
    for axes in (left, right):
        latent_dim_axis(axes, dims)
        axes.set_ylim(bottom=0)
        axes.legend()
    return made


def draw_information(table: pd.DataFrame) -> Figure:
    """Total correlation per dimension, and effective rank and participation ratio, against d."""
    made, (left, right) = figure(columns=2, width=10)
    several = table[table["latent_dim"] > 1]
    draw_series(left, several, "latent_dim", "total_correlation_per_dimension", "codes", 0)
    left.set_ylabel("Gaussian total correlation\nper dimension (nats)")
    left.set_ylim(bottom=0)
    draw_series(right, table, "latent_dim", "effective_rank", "effective rank", 0)
    draw_series(right, table, "latent_dim", "participation_ratio", "participation ratio", 1)
    dims = np.array(sorted(table["latent_dim"].unique()))
    right.plot(dims, dims, color="#666666", linestyle=":", label="d: all directions alike")
    right.set_ylabel("dimensions in use")
    right.set_yscale("log")
    plain_log_ticks(right.yaxis)
    right.legend()
    for axes in (left, right):
        latent_dim_axis(axes, dims)
    return made


def draw_heat_maps(results: Results) -> Figure:
    """The correlation matrix of the codes of replicate 0, one panel a latent dimension."""
    rows = deepest(results.of("autoencoder")).drop_duplicates("cell").sort_values("latent_dim")
    images, _ = encoded_images(results)
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    made, panels = figure(columns, lines, width=2.3 * columns, height=2.4 * lines, squeeze=False)
    drawn = None
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, (_, row) in zip(panels.flat, rows.iterrows(), strict=False):
        matrix = redundancy.correlation_matrix(encode(results, row["cell"], images, [0])[0])
        drawn = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(f"d = {row['latent_dim']}")
    if drawn is not None:
        made.colorbar(drawn, ax=panels, label="Pearson correlation r", shrink=0.8)
    return made


def conclusions(table: pd.DataFrame) -> list[str]:
    """The trend with d, computed, and what of the original's trend was its diagonal."""
    several = with_common_replicates(table[table["latent_dim"] > 1])
    if several["latent_dim"].nunique() < 2:
        return ["One latent dimension above 1 alone shows no trend."]
    slope = _slope(several, "mean_absolute_off_diagonal")
    theirs = _slope(several, "original_number")
    without = list(filter(None, [left_out(table)]))
    if slope is None or theirs is None:
        return ["Too few models have codes that vary to show a trend.", *without]
    span = f"{slope.text(4, unit=' a doubling of d')}{slope.basis()}"
    share = several.dropna(subset="diagonal_share").groupby("latent_dim")["diagonal_share"].mean()
    least, most = share.index.min(), share.index.max()
    return [
        verdict(
            slope,
            f"The correlation between different coordinates rises with d: {span}.",
            f"The correlation between different coordinates falls with d: {span}.",
            "Whether the correlation between different coordinates rises or falls with d is "
            f"undecided: {span}.",
        ),
        (
            "The original's number, which counts the diagonal, changes by "
            f"{theirs.text(4, unit=' a doubling')}; at d = {least} the diagonal is "
            f"{100 * share[least]:.0f} % of it, at "
            f"d = {most} still {100 * share[most]:.0f} %. It would fall from {1 / least:.2f} to "
            f"{1 / most:.3f} with codes that are not correlated at all."
        ),
        *without,
    ]


def _slope(several: pd.DataFrame, measure: str) -> Interval | None:
    """Interval for the slope of a measure over log2(d), over the replicates that have a finite
    value at two d or more; None where none has."""
    usable = several[np.isfinite(several[measure].to_numpy(float))]
    if usable.empty or usable.groupby("replicate")["latent_dim"].nunique().max() < 2:
        return None
    return trend(np.log2(usable["latent_dim"]), usable[measure], usable["replicate"])
