"""What the errors say of the latent dimension and of layers, in sentences."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd

from analysis.reconstruction.errors import (
    SETTING,
    best_model,
    slope_over_dimension,
    told_apart,
    with_every_dimension,
)
from analysis.selection import with_common_replicates
from analysis.statistics import LEVEL, Interval, mean_interval, verdict


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
    return [f"{claim}{factor.text(3)}{factor.basis()}{said}."]


def _on_layers(rows: pd.DataFrame, fewer: int, more: int) -> list[str]:
    """Whether `more` layers are better than `fewer`, on the average over d and by d."""
    keys = ["latent_dim", "batch_size", "replicate"]
    pairs = rows[rows["depth"] == more].merge(
        rows[rows["depth"] == fewer], on=keys, suffixes=("_more", "_fewer")
    )
    if pairs.empty:
        return []
    pairs = with_common_replicates(pairs.rename(columns={"cell_more": "cell"}))
    pairs = pairs.assign(ratio=np.log(pairs["test_mse_more"] / pairs["test_mse_fewer"]))
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


def _mapped(interval: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of an increasing function of what `interval` is of."""
    estimate, low, high = map(function, (interval.estimate, interval.low, interval.high))
    return Interval(estimate, low, high, interval.n, interval.kind)
