"""Question 1: how the reconstruction error depends on the latent dimension, layers and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.selection import front
from analysis.statistics import LEVEL, Interval, holm, mean_interval, trend, verdict
from analysis.style import (
    COLOURS,
    MARKERS,
    draw_series,
    figure,
    image_grid,
    latent_dim_axis,
    plain_log_ticks,
)
from trainables.data import Dataset, pixels

ERROR = "mean squared error per pixel, test images"


# --- tables ------------------------------------------------------------------------------------


def pca_errors(data: Dataset, dims: list[int]) -> pd.DataFrame:
    """Test error per pixel of the d leading principal components of the training split.

    The least that an affine autoencoder of d dimensions can reach on the data that it was fitted
    to (Baldi & Hornik 1989, Neural Networks 2(1), 53-58), so the line that a network has to beat.
    Columns `latent_dim`, `pca_mse`.
    """
    count = len(data.train)
    total, products = 0.0, 0.0  # (784,) and (784, 784): exact, as sums of whole numbers
    for part in _parts(data.train.images):
        total, products = total + part.sum(axis=0), products + part.T @ part
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    directions = np.linalg.eigh(covariance).eigenvectors[:, ::-1]  # (784, 784), largest first
    directions = directions[:, : min(max(dims), count)]
    squares, kept = 0.0, 0.0
    for part in _parts(data.test.images):
        centred = part - mean
        squares = squares + (centred**2).sum()
        kept = kept + ((centred @ directions) ** 2).sum(axis=0)
    # Directions are orthonormal: what is lost is what the codes left out don't hold.
    lost = (squares - np.cumsum(kept)) / (255.0**2 * data.test.images.size)
    return pd.DataFrame(
        {"latent_dim": dims, "pca_mse": [lost[min(d, len(lost)) - 1] for d in dims]}
    )


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    """`images` (N, 28, 28) uint8 as float64 (at most 1,000, 784), part by part: all of MNIST at
    once would take 345 MB, several times over."""
    for start in range(0, len(images), 1000):
        part = images[start : start + 1000]
        yield part.reshape(len(part), -1).astype(np.float64)


def summary(rows: pd.DataFrame, pca: pd.DataFrame) -> pd.DataFrame:
    """One line a cell: mean test error over replicates with its interval, and PCA's error.

    Columns `latent_dim`, `depth`, `batch_size`, `test_mse`, `low`, `high`, `interval`,
    `replicates`, `val_mse`, `pca_mse`, `parameters`, `train_seconds` (of a replicate), `cells`.
    """
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = mean_interval(group["test_mse"])
        first = group.iloc[0]
        lines.append(
            {
                "latent_dim": first["latent_dim"],
                "depth": first["depth"],
                "batch_size": first["batch_size"],
                "test_mse": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "interval": interval.kind,
                "replicates": interval.n,
                "val_mse": group["val_mse"].mean(),
                "parameters": first["parameters"],
                "train_seconds": group["train_seconds"].mean(),
                "cells": cell,
            }
        )
    table = pd.DataFrame(lines).merge(pca, on="latent_dim", how="left")
    return table.sort_values(["depth", "batch_size", "latent_dim"], ignore_index=True)


def best_model(rows: pd.DataFrame) -> pd.Series:
    """The row of the replicate with the least *validation* error: the test split chose nothing."""
    return rows.loc[rows["val_mse"].idxmin()]


def image_errors(results: Results, cell: str, replicate: int) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions (N, 28, 28) of the test images by one model, and their errors (N,)."""
    model = results.autoencoders(cell)[replicate]
    restored, errors = [], []
    with torch.no_grad():
        for part in results.test_images.split(250):
            images = pixels(part)
            restored.append(model(images))
            errors.append((restored[-1] - images).square().mean(dim=(1, 2, 3)))
    return torch.cat(restored)[:, 0].numpy(), torch.cat(errors).numpy()


def error_by_digit(results: Results, cell: str, replicate: int, errors: np.ndarray) -> pd.DataFrame:
    """Mean test error of one model on each digit, with the interval over its images."""
    labels = results.test_labels.numpy()
    lines = []
    for digit in np.unique(labels):
        interval = mean_interval(errors[labels == digit])
        lines.append((digit, interval.estimate, interval.low, interval.high, interval.n,
                      interval.kind, cell, replicate))  # fmt: skip
    columns = ["digit", "test_mse", "low", "high", "images", "interval", "cells", "replicate"]
    return pd.DataFrame(lines, columns=columns)


# --- figures -----------------------------------------------------------------------------------


def series(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """The (depth, batch size) combinations, each a line of the figures."""
    pairs = rows[["depth", "batch_size"]].drop_duplicates().sort_values(["depth", "batch_size"])
    return [(int(depth), int(batch)) for depth, batch in pairs.itertuples(index=False)]


def draw_error_by_dimension(
    rows: pd.DataFrame, pca: pd.DataFrame, depth: int | None = None
) -> Figure:
    """Test error against d: every replicate, means with intervals, and PCA. `depth` draws the
    autoencoders of that many layers alone, on the same scale."""
    made, axes = figure()
    every = series(rows)
    offsets = np.linspace(-0.02, 0.02, len(every)) if len(every) > 1 else [0.0]
    for index, (layers, batch) in enumerate(every):
        if depth is not None and layers != depth:
            continue
        part = rows[(rows["depth"] == layers) & (rows["batch_size"] == batch)]
        label = f"{layers} layers, batch {batch}"
        draw_series(axes, part, "latent_dim", "test_mse", label, index, offset=offsets[index])
    axes.plot(pca["latent_dim"], pca["pca_mse"], color="#666666", linestyle=":", marker="x",
              label="PCA, same split")  # fmt: skip
    latent_dim_axis(axes, rows["latent_dim"])
    axes.set_ylabel(ERROR)
    axes.set_ylim(0, 1.05 * max(pca["pca_mse"].max(), rows["test_mse"].max()))
    axes.legend()
    return made


def draw_cost(rows: pd.DataFrame) -> Figure:
    """Test error against the number of parameters and against training time, by depth; the
    cells that no other beats in both are ringed and joined (Pareto front)."""
    made, both = figure(columns=2, width=10, sharey=True)
    columns = {
        "parameters": "parameters (encoder and decoder)",
        "train_seconds": "training time of a replicate (s)",
    }
    cells = rows.groupby("cell").mean(numeric_only=True).reset_index()
    for axes, (column, label) in zip(both, columns.items(), strict=True):
        for index, (depth, part) in enumerate(cells.groupby("depth")):
            axes.plot(part[column], part["test_mse"], MARKERS[index], color=COLOURS[index],
                      label=f"{int(depth)} layers")  # fmt: skip
        best = front(cells, "test_mse", column)
        axes.step(best[column], best["test_mse"], where="post", color="#444444", linewidth=1)
        axes.plot(best[column], best["test_mse"], "o", markersize=11, fillstyle="none",
                  color="#444444", label="Pareto front")  # fmt: skip
        for dim, part in best.groupby("latent_dim"):
            least = part.loc[part["test_mse"].idxmin()]
            axes.annotate(f"d = {int(dim)}", (least[column], least["test_mse"]),
                          textcoords="offset points", xytext=(-8, -13), fontsize=8)  # fmt: skip
        axes.set_xlabel(label)
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.margins(x=0.12, y=0.1)
    both[0].set_ylabel(ERROR)
    both[1].legend()
    return made


def draw_histories(history: pd.DataFrame) -> Figure:
    """Validation error (solid) and training error (dotted) by epoch, mean over replicates; one
    panel a depth, one line a latent dimension, at the first batch size."""
    first = history[history["batch_size"] == history["batch_size"].min()]
    depths = sorted(first["depth"].unique())
    made, panels = figure(columns=len(depths), width=5 * len(depths), sharey=True, squeeze=False)
    dims = sorted(first["latent_dim"].unique())
    for axes, depth in zip(panels[0], depths, strict=True):
        for index, dim in enumerate(dims):
            part = first[(first["depth"] == depth) & (first["latent_dim"] == dim)]
            means = part.groupby("epoch")[["train_mse", "val_mse"]].mean()
            colour = COLOURS[index % 7]
            axes.plot(means.index, means["val_mse"], color=colour, marker=MARKERS[index % 7],
                      markersize=4, label=f"d = {dim}")  # fmt: skip
            axes.plot(means.index, means["train_mse"], color=colour, linestyle=":")
        axes.set_title(f"{depth} layers")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    panels[0][0].set_ylabel("mean squared error per pixel\nvalidation (solid), training (dotted)")
    panels[0][-1].legend(ncols=2, fontsize=8)
    return made


def draw_error_by_digit(table: pd.DataFrame) -> Figure:
    """Mean test error of the best model on each digit with its interval over images."""
    made, axes = figure(width=6, height=3)
    reach = [table["test_mse"] - table["low"], table["high"] - table["test_mse"]]
    axes.errorbar(table["digit"], table["test_mse"], yerr=reach, fmt="o", color=COLOURS[0],
                  capsize=3)  # fmt: skip
    axes.set_xticks(table["digit"])
    axes.set_xlabel("digit")
    axes.set_ylabel("mean squared error\nper pixel")
    axes.set_ylim(bottom=0)
    return made


def draw_reconstructions(
    images: np.ndarray, restored: np.ndarray, errors: np.ndarray, columns: int = 12
) -> Figure:
    """Test images (N, 28, 28) above their reconstructions: those with the least error, those
    around the median, and those with the largest."""
    order = np.argsort(errors)
    middle = len(order) // 2 - columns // 2
    chosen = {
        "least error": order[:columns],
        "median": order[middle : middle + columns],
        "largest error": order[-columns:],
    }
    made, panels = figure(rows=3, width=8, height=4.9)
    for axes, (name, indices) in zip(panels, chosen.items(), strict=True):
        image_grid(axes, np.stack([images[indices], restored[indices]]))
        span = f"{errors[indices].min():.4f} … {errors[indices].max():.4f}"
        axes.set_title(f"{name}: {span} (above the image, below its reconstruction)", fontsize=9)
    return made


# --- conclusions -------------------------------------------------------------------------------


SETTING = ["depth", "batch_size"]
"""What cells of one latent dimension differ in."""


def conclusions(rows: pd.DataFrame, pca: pd.DataFrame) -> list[str]:
    """What the rows say to the assignment's questions, in sentences."""
    best = best_model(rows)
    floor = pca.set_index("latent_dim")["pca_mse"][best["latent_dim"]]
    score = (
        f"Best score: a test error of {best['test_mse']:.5f} per pixel, by the model with the "
        f"least validation error (d = {best['latent_dim']}, {best['depth']} layers, batch "
        f"{best['batch_size']}, replicate {best['replicate']}); PCA with as many dimensions "
        f"leaves {floor:.5f}."
    )
    sentences = [score]
    sentences += _on_dimension(rows)
    for fewer, more in pairwise(sorted(rows["depth"].unique())):
        sentences += _on_layers(rows, fewer, more)
    return sentences


def with_every_dimension(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the settings (depth and batch size) that have every d that any of them has:
    means over others would differ between d by which cells are missing. Where none has them all,
    the rows of one of those that have the most."""
    dims = {setting: frozenset(group["latent_dim"]) for setting, group in rows.groupby(SETTING)}
    most = max(dims.values(), key=len)
    complete = [setting for setting, of_it in dims.items() if of_it == most]
    if most != frozenset(rows["latent_dim"]):
        complete = complete[:1]
    return rows[pd.MultiIndex.from_frame(rows[SETTING]).isin(complete)]


def slope_over_dimension(rows: pd.DataFrame) -> Interval | None:
    """Interval for the slope of log2(test error) over log2(d), from rows of settings with the
    same d; None with fewer than two d.

    The cells of a replicate share its seed, so that replicates alone are independent: the log
    errors of each are averaged over settings at every d, and give one slope.
    """
    if rows["latent_dim"].nunique() < 2:
        return None
    logs = rows.assign(log_error=np.log2(rows["test_mse"]))
    means = logs.groupby(["replicate", "latent_dim"])["log_error"].mean().reset_index()
    return trend(np.log2(means["latent_dim"]), means["log_error"], means["replicate"])


def _on_dimension(rows: pd.DataFrame) -> list[str]:
    """By how much the error changes with d: one sentence, or none where there are too few d."""
    complete = with_every_dimension(rows)
    slope = slope_over_dimension(complete)
    if slope is None:
        return []
    factor = _mapped(slope, lambda exponent: 2.0**exponent)
    used, settings = (len(table.drop_duplicates(SETTING)) for table in (complete, rows))
    said = (
        f", over the {used} of {settings} settings of layers and batch size that have as many d"
        if used < settings
        else ""
    )
    claim = verdict(
        slope,
        "The error rises with the latent dimension: a doubling of d multiplies it by ",
        "The error falls with the latent dimension: a doubling of d multiplies it by ",
        "Whether the error rises or falls with d is undecided: a doubling of it multiplies "
        "the error by ",
    )
    return [f"{claim}{factor.text(2)}{factor.basis()}{said}."]


def _on_layers(rows: pd.DataFrame, fewer: int, more: int) -> list[str]:
    """Whether `more` layers are better than `fewer`, on the average over d and by d."""
    keys = ["latent_dim", "batch_size", "replicate"]
    pairs = rows[rows["depth"] == more].merge(
        rows[rows["depth"] == fewer], on=keys, suffixes=("_more", "_fewer")
    )
    if pairs.empty:
        return []
    pairs["ratio"] = np.log(pairs["test_mse_more"] / pairs["test_mse_fewer"])
    # Replicates of different cells share no randomness that matters but the seed: one mean a
    # replicate is what is independent.
    interval = mean_interval(pairs.groupby("replicate")["ratio"].mean())
    percent = _mapped(interval, lambda log_ratio: 100 * float(np.expm1(log_ratio)))
    claim = verdict(
        interval,
        f"{more} layers are worse than {fewer} on the average over d: ",
        f"{more} layers are better than {fewer} on the average over d: ",
        f"Whether {more} layers or {fewer} are better on the average over d is undecided: ",
    )
    basis = percent.basis("paired by d, batch size and replicate")
    sentences = [f"{claim}{percent.text(1, unit=' % error', signed=True)}{basis}."]
    better, worse = told_apart(pairs)
    if better and worse:
        smaller, larger = (", ".join(map(str, dims)) for dims in (better, worse))
        sentences.append(
            f"It depends on d: {more} layers have the smaller mean error at d = {smaller}; "
            f"{fewer} layers at d = {larger} (each paired by replicate, p < {LEVEL} after Holm's "
            "correction for the number of d)."
        )
    return sentences


def told_apart(pairs: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The d at which the `ratio` (a logarithm, one of each pair of models) is below 0, and those
    at which it is above: significantly, over replicates, by Holm's correction for all d."""
    means = pairs.groupby(["latent_dim", "replicate"])["ratio"].mean()
    intervals = {int(d): mean_interval(of_one) for d, of_one in means.groupby("latent_dim")}
    adjusted = holm([interval.p_value() for interval in intervals.values()])
    signs = {
        d: np.sign(interval.estimate)
        for (d, interval), p in zip(intervals.items(), adjusted, strict=True)
        if p < LEVEL
    }
    below, above = ([d for d, sign in signs.items() if sign == side] for side in (-1, 1))
    return below, above


def _mapped(interval: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of an increasing function of what `interval` is of."""
    estimate, low, high = map(function, (interval.estimate, interval.low, interval.high))
    return Interval(estimate, low, high, interval.n, interval.kind)
