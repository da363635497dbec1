"""Question 3: how correlated the coordinates of the latent code are, and how that depends on d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from analysis import cache, redundancy
from analysis.results import Results
from analysis.selection import deepest_rows, name_of, varied, with_common_replicates
from analysis.statistics import Interval, finite_mean, trend, verdict
from analysis.style import Series, draw_series, figure, from_zero, latent_dim_axis, styled
from analysis.threads import parallel_map
from study.words import counted
from trainables.fewshot.codes import encode as encode_once
from trainables.networks import Autoencoder

SUMMARY_MEASURES = (
    "mean_absolute_off_diagonal",
    "rms_off_diagonal",
    "original_number",
    "whitened",
    "total_correlation_per_dimension",
    "effective_rank",
    "effective_rank_share",
    "participation_ratio",
)
"""The columns of `measures` that `summary` describes."""

SHARES = (0.0, 1.0)
"""Bounds of absolute correlations and of shares."""

PAIR_MEASURES = ("mean_absolute_off_diagonal", "rms_off_diagonal", "whitened")
"""Measures of pairs of coordinates; a code of one coordinate has none."""


NAMES = {
    "total_correlation_per_dimension": "the total correlation per dimension",
    "effective_rank_share": "the effective rank over d",
    "mean_absolute_off_diagonal": "the mean |r| between different coordinates",
}
"""Names in sentences of the measures whose trends are reported."""

TREND_UNITS = {"total_correlation_per_dimension": " nats", "effective_rank_share": ""}
"""The measures whose trends with d answer the question, and their units."""

MIN_TEST_IMAGES = 3000
"""Fewest test images to use; with fewer, the noise floor is too high for weak correlations."""


def images_to_encode(results: Results) -> tuple[torch.Tensor, str]:
    """Images to encode, (N, C, H, W) uint8, and their description in words.

    Up to 5,000 test images. If there are fewer than `MIN_TEST_IMAGES`, up to 5,000 training
    images instead.
    """
    test, training = _splits(results)
    if len(test) >= MIN_TEST_IMAGES:
        return test, f"{len(test):,} test images"
    return training, f"{len(training):,} training images (there are {len(test):,} test images)"


def _splits(results: Results) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to 5,000 test images and up to 5,000 training images."""
    return results.test_images[:5000], results.dataset.train.on("cpu")[0][:5000]


def encode(
    results: Results, cell: str, images: torch.Tensor, replicates: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Codes (N, d), float64, of uint8 `images` under each replicate of a cell (default: all)."""
    models = results.autoencoders(cell, replicates)
    return parallel_map(lambda model: encode_once(model, images).double().numpy(), models)


def models_sentence(results: Results) -> str:
    """A sentence on the autoencoders examined and how long they were trained."""
    every = results.of("autoencoder")
    rows = deepest_rows(every)
    name = name_of(rows, dict.fromkeys(["batch_size", *varied(every)]))
    layers = _counted(rows["depth"], "layer")
    return f"The autoencoders are those of {layers} ({name}), after {epochs_of(rows)}."


def epochs_of(rows: pd.DataFrame) -> str:
    """Training length of the models of these rows, such as `4 epochs`."""
    return _counted(rows["epochs"], "epoch")


def _counted(values: pd.Series, noun: str) -> str:
    *others, most = sorted(values.unique())
    return " or ".join([*map(str, others), counted(most, noun)])


def longer_rows(results: Results) -> pd.DataFrame:
    """Rows of the deepest autoencoders of the experiment `longer`; may be empty."""
    rows = results.of("longer")
    return deepest_rows(rows) if len(rows) else rows


def measures(results: Results, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line per model of `rows` (default: the deepest autoencoders): the measures of
    `redundancy.summary` on its codes, and the control.

    The control, `whitened`, is the mean off-diagonal |r| of the same codes after whitening by
    statistics of *other* images (training images for test images, and the reverse). Codes are
    identifiable only up to an invertible map, so correlation that such a map removes is a property
    of the coordinates, not of the information.

    Columns `cell`, `replicate`, `latent_dim`, `images`, `effective_rank_share` (effective rank
    over d), `whitened_floor` (the noise floor of the control), and the measures.
    """
    rows = deepest_rows(results.of("autoencoder")) if rows is None else rows
    images, _ = images_to_encode(results)
    test, training = _splits(results)
    others = training if len(test) >= MIN_TEST_IMAGES else test
    # Both samples add noise: the whitened one, and the one that whitening is fitted on.
    both = len(images) * len(others) // (len(images) + len(others))
    inputs = [results.dataset.fingerprint, len(images), len(others)]

    def measure(model: Autoencoder) -> pd.DataFrame:
        codes, fitted_on = (encode_once(model, of).double().numpy() for of in (images, others))
        line = redundancy.summary(codes)
        line["effective_rank_share"] = line["effective_rank"] / codes.shape[1]
        line["whitened"] = _whitened(codes, fitted_on)
        line["whitened_floor"] = redundancy.noise_floor(both)
        return pd.DataFrame([line])

    tables = []
    for cell, group in rows.groupby("cell", sort=False):
        name = f"correlation-{cell}"
        measure_model = partial(cache.model_table, name, inputs=inputs, measure=measure)
        table = pd.concat(
            parallel_map(measure_model, results.autoencoders(str(cell))), ignore_index=True
        )
        table.insert(0, "cell", cell)
        table.insert(1, "replicate", range(len(table)))
        table.insert(2, "latent_dim", group["latent_dim"].iloc[0])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _whitened(codes: np.ndarray, fitted_on: np.ndarray) -> float:
    """Mean off-diagonal |r| of whitened codes; NaN if no coordinate of `fitted_on` varies."""
    if not redundancy.live_coordinates(fitted_on).any():
        return math.nan
    return redundancy.mean_absolute_off_diagonal(redundancy.whiten(codes, fitted_on))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One line per latent dimension and measure: mean over replicates with its interval.

    Columns `latent_dim`, `measure`, `mean`, `low`, `high`, `replicates` (those with a finite
    value), `left_out` (the others), `interval`, `cells`.
    """
    lines = []
    for dim, group in table.groupby("latent_dim"):
        for measure in SUMMARY_MEASURES:
            if dim == 1 and measure in PAIR_MEASURES:
                continue
            interval = finite_mean(group[measure])
            lines.append(
                (
                    dim,
                    measure,
                    interval.estimate,
                    interval.low,
                    interval.high,
                    interval.n,
                    len(group) - interval.n,
                    interval.kind,
                    group["cell"].iloc[0],
                )
            )
    columns = ["latent_dim", "measure", "mean", "low", "high", "replicates", "left_out",
               "interval", "cells"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def left_out_sentence(
    table: pd.DataFrame, measures: Sequence[str] = ("mean_absolute_off_diagonal",)
) -> str:
    """A sentence on the models with d > 1 that lack a finite value of one of `measures`.

    Empty if none does.
    """
    several = table[table["latent_dim"] > 1]
    without = several[~np.isfinite(several[[*measures]].to_numpy(float)).all(axis=1)]
    if without.empty:
        return ""
    dims = ", ".join(map(str, sorted(without["latent_dim"].unique())))
    return (
        f"Left out: {len(without)} of {len(several)} models (d = {dims}): coordinates of "
        "their codes do not vary, or only together, so a number is missing or infinite."
    )


@styled()
def draw_correlation(table: pd.DataFrame) -> Figure:
    """Draw off-diagonal correlation against d with the noise floor, and the original's number with
    the part that comes from the diagonal alone."""
    made, (left, right) = figure(columns=2, width=10, sharey=True)
    several = table[table["latent_dim"] > 1]
    for measure, label, index, offset in (
        ("mean_absolute_off_diagonal", "mean |r|", 0, 0.0),
        ("rms_off_diagonal", "RMS r", 1, 0.03),
        ("whitened", "mean |r|, whitened", 4, 0.015),
    ):
        series = Series(label, index, offset, within=SHARES)
        draw_series(left, several, "latent_dim", measure, series)
    floor = redundancy.noise_floor(int(table["images"].iloc[0]))
    left.axhline(floor, color="#666666", linestyle=":", label=f"noise floor {floor:.3f}")
    left.set_title("between different coordinates")
    left.set_ylabel("absolute Pearson correlation")
    number = Series("the original's number", 2, within=SHARES)
    draw_series(right, table, "latent_dim", "original_number", number)
    dims = np.array(sorted(table["latent_dim"].unique()))
    right.plot(dims, 1 / dims, color="#666666", linestyle="--", label="its diagonal alone, 1/d")
    right.set_title("diagonal included, as in the original")
    for axes in (left, right):
        latent_dim_axis(axes, dims)
        from_zero(axes)
        axes.legend()
    return made


@styled()
def draw_information(table: pd.DataFrame) -> Figure:
    """Draw total correlation per dimension, and effective rank and participation ratio over d,
    against d."""
    made, (left, right) = figure(columns=2, width=10)
    several = table[table["latent_dim"] > 1]
    codes = Series("codes", 0, within=(0, np.inf))
    draw_series(left, several, "latent_dim", "total_correlation_per_dimension", codes)
    left.set_ylabel("Gaussian total correlation\nper dimension (nats)")
    effective = Series("effective rank / d", 0, within=SHARES)
    draw_series(right, table, "latent_dim", "effective_rank_share", effective)
    shares = table.assign(share=table["participation_ratio"] / table["latent_dim"])
    participation = Series("participation ratio / d", 1, within=SHARES)
    draw_series(right, shares, "latent_dim", "share", participation)
    right.axhline(1, color="#666666", linestyle=":", label="all directions alike")
    right.set_ylabel("share of the directions in use")
    right.legend()
    for axes in (left, right):
        latent_dim_axis(axes, table["latent_dim"])
        from_zero(axes)
    return made


@styled()
def draw_heat_maps(results: Results) -> Figure:
    """Draw the correlation matrix of the codes of replicate 0, one panel per latent dimension."""
    rows = deepest_rows(results.of("autoencoder")).drop_duplicates("cell").sort_values("latent_dim")
    images, _ = images_to_encode(results)
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
    """Sentences on the trends of redundancy with d, their joint meaning, and the share of the
    diagonal in the original's trend."""
    several = with_common_replicates(table[table["latent_dim"] > 1])
    if several["latent_dim"].nunique() < 2:
        return ["A trend needs two latent dimensions above 1."]
    total = _slope(several, "total_correlation_per_dimension")
    rank = _slope(several, "effective_rank_share")
    pairs = _slope(several, "mean_absolute_off_diagonal")
    original = _slope(several, "original_number")
    without = list(filter(None, [left_out_sentence(table, tuple(NAMES))]))
    if total is None or rank is None or pairs is None or original is None:
        return ["Too few models have codes that vary to show a trend.", *without]
    share = several.dropna(subset="diagonal_share").groupby("latent_dim")["diagonal_share"].mean()
    least, most = share.index.min(), share.index.max()
    pairs, on_pairs = _pairs_trend(several, pairs)
    return [
        _trend_sentence(several, "total_correlation_per_dimension", total),
        _trend_sentence(several, "effective_rank_share", rank),
        on_pairs,
        _meaning(several, total, rank, pairs),
        (
            "The original's number, which counts the diagonal, changes by "
            f"{original.text(4, unit=' a doubling')}; at d = {least} the diagonal is "
            f"{100 * share[least]:.0f} % of it, at "
            f"d = {most} still {100 * share[most]:.0f} %. It would fall from {1 / least:.2f} to "
            f"{1 / most:.3f} with codes that are not correlated at all."
        ),
        *without,
    ]


def after_longer_training(table: pd.DataFrame, longer: pd.DataFrame, epochs: str) -> list[str]:
    """Compare the trends of `table` with those of `longer`, both tables of `measures`.

    `epochs` says how long the models of `longer` were trained. Returns one sentence, or none if
    `longer` has fewer than two d above 1 or a trend can't be computed.
    """
    dims = sorted(longer[longer["latent_dim"] > 1]["latent_dim"].unique())
    if len(dims) < 2:
        return []
    before, after = (
        with_common_replicates(part[part["latent_dim"].isin(dims)]) for part in (table, longer)
    )
    parts = []
    for measure, unit in TREND_UNITS.items():
        first, second = _slope(before, measure), _slope(after, measure)
        if first is None or second is None:
            return []
        earlier, later = (verdict(s, "rises", "falls", "is undecided") for s in (first, second))
        still = "still " if earlier == later else ""
        form: dict[str, Any] = {"digits": 3, "unit": f"{unit} a doubling", "signed": True}
        parts.append(
            f"{NAMES[measure]} {still}{later}: {second.text(**form)}{second.basis()} instead of "
            f"{first.text(**form)}"
        )
    where = ", ".join(map(str, dims))
    return [f"After {epochs} instead, at d = {where}, {'; '.join(parts)}."]


def _trend_sentence(several: pd.DataFrame, measure: str, slope: Interval) -> str:
    """A sentence on the trend of a measure with d: its direction, its ends and its slope."""
    means = _finite_means(several, measure)
    least, most = means.index.min(), means.index.max()
    unit = TREND_UNITS.get(measure, "")
    return (
        f"{direction(slope, NAMES[measure])}: from {means[least]:.3f}{unit} at d = {least} to "
        f"{means[most]:.3f}{unit} at d = {most}, "
        f"{slope.text(3, unit=f'{unit} a doubling', signed=True)}{slope.basis()}."
    )


def direction(slope: Interval, name: str) -> str:
    """Say whether the quantity `name` rises or falls with d."""
    start = name[0].upper() + name[1:]
    return verdict(
        slope,
        f"{start} rises with d",
        f"{start} falls with d",
        f"Whether {name} rises or falls with d is undecided",
    )


def _finite_means(several: pd.DataFrame, measure: str) -> pd.Series:
    """Mean of the finite values of a measure by d."""
    return several[np.isfinite(several[measure])].groupby("latent_dim")[measure].mean()


def _pairs_trend(several: pd.DataFrame, whole: Interval) -> tuple[Interval, str]:
    """The trend of the mean |r| without d = 2, and its sentence.

    If there is no d = 2, or if the other d are too few for a trend, it is `whole`, the trend over
    all d.
    """
    measure = "mean_absolute_off_diagonal"
    more = several[several["latent_dim"] > 2]
    trend_of_more = _slope(more, measure)
    if trend_of_more is None or len(more) == len(several):
        return whole, _trend_sentence(several, measure, whole)
    return trend_of_more, (
        f"{_trend_sentence(more, measure, trend_of_more)} This leaves out d = 2, which has "
        f"only one pair of coordinates (|r| {_finite_means(several, measure)[2]:.3f}); with it, "
        f"the trend is {whole.text(3, unit=' a doubling', signed=True)}."
    )


def _meaning(several: pd.DataFrame, total: Interval, rank: Interval, pairs: Interval) -> str:
    """A sentence on whether codes grow more or less redundant with d, from three trends."""
    redundant = verdict(total, "more", "less", "")
    if not redundant or redundant != verdict(rank, "less", "more", ""):
        return "These two trends don't decide whether codes grow more or less redundant with d."
    means = _finite_means(several, "total_correlation_per_dimension")
    # det R is the product, over the coordinates, of 1 - R² in a regression on those before it.
    unexplained = 100 * np.exp(-2 * means)
    least, most = means.index.min(), means.index.max()
    size = "smaller" if redundant == "more" else "larger"
    alike = verdict(pairs, "more", "less", "") == redundant
    of_pairs = (
        f"Single pairs of coordinates are {redundant} correlated, too."
        if alike
        else "The mean |r| does not show it: it compares two coordinates at a time, but the weak "
        "correlations of a coordinate with all d − 1 others add up."
    )
    return (
        f"So codes grow {redundant} redundant with d. A linear regression of a coordinate on those "
        f"before it leaves {unexplained[least]:.0f} % of its variance unexplained at "
        f"d = {least} and {unexplained[most]:.0f} % at d = {most} (geometric means), and the "
        f"variance fills a {size} share of the directions. {of_pairs}"
    )


def _slope(several: pd.DataFrame, measure: str) -> Interval | None:
    """Interval for the slope of a measure over log2(d).

    Over the replicates with finite values at two d or more; None if there are none.
    """
    usable = several[np.isfinite(several[measure].to_numpy(float))]
    if usable.empty or usable.groupby("replicate")["latent_dim"].nunique().max() < 2:
        return None
    return trend(np.log2(usable["latent_dim"]), usable[measure], usable["replicate"])
