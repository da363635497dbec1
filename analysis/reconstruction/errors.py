"""Reconstruction errors by cell, model, image and class, and their slope over d."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from analysis.results import Results
from analysis.selection import ALTERNATIVES, varied, with_common_replicates
from analysis.statistics import Interval, mean_interval, trend
from trainables.data import Dataset, pixels

SETTING = ("depth", *ALTERNATIVES)
"""Settings in which cells with the same latent dimension can differ."""

MAX_COVARIANCE_SIDE = 4000
"""Largest size of an image (C · H · W) for which PCA uses all training images."""
PCA_IMAGES = 2000
"""Number of training images that PCA uses if images are larger."""


def pca_images(data: Dataset) -> str:
    """Say which images PCA is fitted to."""
    of_all = math.prod(data.image_shape) <= MAX_COVARIANCE_SIDE or len(data.train) <= PCA_IMAGES
    return "the same training images" if of_all else f"the first {PCA_IMAGES:,} training images"


def pca_errors(data: Dataset, dims: list[int]) -> pd.DataFrame:
    """Test error per pixel of the d leading principal components of the training split.

    No affine autoencoder with d dimensions has a smaller error on the data that it was fitted to
    (Baldi & Hornik 1989, Neural Networks 2(1), 53-58), so this is the line for a network to beat.
    Columns `latent_dim`, `pca_mse`.
    """
    mean, directions = _principal(data.train.images)
    directions = directions[:, : max(dims)]
    squares, kept = 0.0, 0.0
    for part in _parts(data.test.images):
        centred = part - mean
        squares = squares + (centred**2).sum()
        kept = kept + ((centred @ directions) ** 2).sum(axis=0)
    # Directions are orthonormal, so the lost squares are the total minus the squared codes.
    lost = (squares - np.cumsum(kept)) / (255.0**2 * data.test.images.size)
    return pd.DataFrame(
        {"latent_dim": dims, "pca_mse": [lost[min(d, len(lost)) - 1] for d in dims]}
    )


def _principal(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (P,) of `images` of P numbers and their principal directions (P, K).

    The direction with the largest variance comes first. If P exceeds `MAX_COVARIANCE_SIDE`, both
    are those of the first `PCA_IMAGES` images, by singular value decomposition: the covariance of
    96 × 96 colour images would take 6 GB.
    """
    size = math.prod(images.shape[1:])
    if size > MAX_COVARIANCE_SIDE:
        flat = images[:PCA_IMAGES].reshape(len(images[:PCA_IMAGES]), size).astype(np.float64)
        mean = flat.mean(axis=0)
        return mean, np.linalg.svd(flat - mean, full_matrices=False)[2].T
    total, products = np.zeros(size), np.zeros((size, size))  # exact: sums of whole numbers
    for part in _parts(images):
        total, products = total + part.sum(axis=0), products + part.T @ part
    mean = total / len(images)
    covariance = products / len(images) - np.outer(mean, mean)
    directions = np.linalg.eigh(covariance).eigenvectors[:, ::-1]
    return mean, directions[:, : len(images)]


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `images` (N, C, H, W) uint8 as float64 in parts of at most (1,000, C · H · W).

    All of MNIST at once would take 345 MB, several times over.
    """
    for start in range(0, len(images), 1000):
        part = images[start : start + 1000]
        yield part.reshape(len(part), -1).astype(np.float64)


def summary(rows: pd.DataFrame, pca: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: mean test error over replicates with its interval, and PCA's error.

    Columns `latent_dim`, `depth`, `batch_size`, `width`, `network`, `test_mse`, `low`, `high`,
    `interval`, `replicates`, `val_mse`, `pca_mse`, `parameters`, `train_seconds` (per replicate),
    `cells`.
    """
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = mean_interval(group["test_mse"]).within(0)
        first = group.iloc[0]
        lines.append(
            {
                **{name: first[name] for name in ("latent_dim", *SETTING)},
                **interval.columns("test_mse", "replicates"),
                "val_mse": group["val_mse"].mean(),
                "parameters": first["parameters"],
                "train_seconds": group["train_seconds"].mean(),
                "cells": cell,
            }
        )
    table = pd.DataFrame(lines).merge(pca, on="latent_dim", how="left")
    return table.sort_values([*SETTING, "latent_dim"], ignore_index=True)


def best_model(rows: pd.DataFrame) -> pd.Series:
    """The row with the least *validation* error; the test split chooses nothing."""
    return rows.loc[rows["val_mse"].idxmin()]


def image_errors(results: Results, cell: str, replicate: int) -> tuple[np.ndarray, np.ndarray]:
    """One model's reconstructions (N, C, H, W) of the test images, and their errors (N,)."""
    model = results.autoencoders(cell, [replicate])[0]
    restored, errors = [], []
    with torch.no_grad():
        for part in results.test_images.split(250):
            images = pixels(part)
            restored.append(model(images))
            errors.append((restored[-1] - images).square().mean(dim=(1, 2, 3)))
    return torch.cat(restored).numpy(), torch.cat(errors).numpy()


def error_by_class(results: Results, cell: str, replicate: int, errors: np.ndarray) -> pd.DataFrame:
    """Mean test error of one model on each class, with the interval over its images.

    Empty if images have no labels.
    """
    labels, classes = results.test_labels.numpy(), results.classes
    lines = []
    for number in np.unique(labels) if classes else ():
        interval = mean_interval(errors[labels == number]).within(0)
        lines.append((classes[number], interval.estimate, interval.low, interval.high, interval.n,
                      interval.kind, cell, replicate))  # fmt: skip
    columns = ["class", "test_mse", "low", "high", "images", "interval", "cells", "replicate"]
    return pd.DataFrame(lines, columns=columns)


def with_every_dimension(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the settings (depth and those `varied`) that have every d.

    With other settings, means at different d would be over different cells. If no setting has
    every d, the rows of one setting with the most d are returned.
    """
    settings = ["depth", *varied(rows)]
    dims = {values: frozenset(part["latent_dim"]) for values, part in rows.groupby(settings)}
    most = max(dims.values(), key=len)
    complete = [values for values, of_it in dims.items() if of_it == most]
    if most != frozenset(rows["latent_dim"]):
        complete = complete[:1]
    return rows[pd.MultiIndex.from_frame(rows[settings]).isin(complete)]


def slope_over_dimension(rows: pd.DataFrame) -> Interval | None:
    """Interval for the slope of log2(test error) over log2(d); None with fewer than two d.

    All settings in `rows` must have the same d. The cells of a replicate share its seed, so only
    replicates are independent: the log errors of each are averaged over settings at every d, and
    give one slope.
    """
    if rows["latent_dim"].nunique() < 2:
        return None
    rows = with_common_replicates(rows)
    logs = rows.assign(log_error=np.log2(rows["test_mse"]))
    means = logs.groupby(["replicate", "latent_dim"])["log_error"].mean().reset_index()
    return trend(np.log2(means["latent_dim"]), means["log_error"], means["replicate"])
