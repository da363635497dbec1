"""Redundancy: how much the coordinates of a latent code repeat one another.

Pure measures on `codes` of shape (N, d): N encoded images, d latent coordinates. Pearson
correlations measure linear redundancy between single coordinates; the eigenvalue measures describe
how the variance is spread over directions. An autoencoder's code is determined only up to an
invertible map, so `whiten` gives the control: the same information with no correlation at all.

A *dead* coordinate does not vary, so its correlations are undefined. Measures based on correlations
leave dead coordinates out, and d is then the number of live ones. Measures based on the covariance
keep them as directions without variance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.interval import FloatArray

RELATIVE_RESOLUTION = 1e-6
"""A coordinate that varies by less than this fraction of its size counts as constant. Codes are
float32, whose rounding alone spreads a constant by about 1e-7 of its size."""


def live_coordinates(codes: ArrayLike) -> NDArray[np.bool_]:
    """True for each coordinate that varies, (d,).

    Like every function of `codes`, raises ValueError unless they are finite, N ≥ 2 and d ≥ 1.
    """
    values = _checked(codes)
    size = np.abs(values).max(axis=0)
    live: NDArray[np.bool_] = np.ptp(values, axis=0) > RELATIVE_RESOLUTION * size
    return live


def correlation_matrix(codes: ArrayLike) -> FloatArray:
    """Pearson correlations R between coordinates, (d, d).

    The diagonal is exactly 1. Rows and columns of dead coordinates, diagonal included, are NaN.
    """
    values = _checked(codes)
    live = live_coordinates(values)
    matrix = np.full((len(live), len(live)), math.nan)
    matrix[np.ix_(live, live)] = _live_correlations(values[:, live])
    return matrix


def mean_absolute_off_diagonal(codes: ArrayLike) -> float:
    """Mean |r| over pairs of different live coordinates; NaN with fewer than two.

    Independent coordinates give `noise_floor(N)`, not 0.
    """
    values = _checked(codes)
    matrix = _live_correlations(values[:, live_coordinates(values)])
    return _mean_or_nan(np.abs(_off_diagonal(matrix)))


def noise_floor(n: int) -> float:
    """Expected |r| between independent coordinates over n images: √(2/(πn)).

    The mean of |x| for x normal with variance 1/n, the large-sample distribution of r.
    """
    return math.sqrt(2 / (math.pi * n))


def whiten(codes: ArrayLike, fitted_on: ArrayLike | None = None) -> FloatArray:
    """Codes with identity covariance and mean 0, (N, rank): the control without correlation.

    Standardise the live coordinates, project onto the eigenvectors of their correlation matrix,
    divide by the standard deviations (PCA-cor whitening: Kessy, Lewin & Strimmer 2018, The
    American Statistician 72(4), 309-314). Dead coordinates and directions without variance are
    dropped, so rank ≤ d. With `fitted_on` (M, d), everything is estimated from those codes: if they
    are of other images of the same kind, the correlations of `codes` lie at the noise floor, not
    at 0 by construction. Raises ValueError when nothing varies.
    """
    values = _checked(codes)
    reference = values if fitted_on is None else _checked(fitted_on)
    live = live_coordinates(reference)
    if not live.any():
        raise ValueError("no coordinate varies: nothing to whiten")
    deviations = reference[:, live].std(axis=0, ddof=1)
    eigenvalues, directions = np.linalg.eigh(_live_correlations(reference[:, live]))
    varied = _varied(eigenvalues)
    standardised = (values[:, live] - reference[:, live].mean(axis=0)) / deviations
    whitened: FloatArray = standardised @ directions[:, varied] / np.sqrt(eigenvalues[varied])
    return whitened


def summary(codes: ArrayLike) -> dict[str, float]:
    """Every measure of these codes by name; counts are floats too.

    - `images`, `dimensions`, `dead_coordinates`: N, d, and how many coordinates do not vary.
    - `mean_absolute_off_diagonal`: mean |r| over pairs of different live coordinates. Independent
      coordinates give `noise_floor`, which is `noise_floor(N)`, not 0.
    - `rms_off_diagonal`: root mean square of r over the same pairs. It weighs a few strong
      correlations more than many weak ones. Its floor is 1/√N.
    - `original_number`: mean |r| over all of R, its diagonal of ones included, as the original
      solution did: 1/d + (1 − 1/d)·`mean_absolute_off_diagonal`, so it falls with d even if the
      correlations do not. `diagonal_share` is the diagonal's share of it, (1/d)/number.
    - `total_correlation_per_dimension`: −½ log det R / d in nats, the Gaussian total correlation
      per coordinate. 0 for uncorrelated coordinates, inf when one is a linear function of the
      others. For Gaussian codes it is the Kullback-Leibler divergence of the joint density from
      the product of its margins (Watanabe 1960, IBM Journal 4(1), 66-82); for others it counts
      linear dependence only.
    - `effective_rank`: exp of the entropy of the covariance's eigenvalues λ, normalised to sum 1;
      from 1 to d (Roy & Vetterli 2007, "The effective rank: a measure of effective
      dimensionality", EUSIPCO). Depends on the coordinates' scales.
    - `participation_ratio`: (Σλ)²/Σλ²; from 1 to d, at most `effective_rank` (Rajan, Abbott &
      Sompolinsky 2010, NeurIPS 23). Depends on the coordinates' scales.

    Measures of pairs are NaN with fewer than two live coordinates, the others without any. Raises
    ValueError unless there are more images than live coordinates.
    """
    values = _checked(codes)
    live = live_coordinates(values)
    matrix, shares = _live_correlations(values[:, live]), _variance_shares(values, live)
    pairs = _off_diagonal(matrix)
    original_number = _mean_or_nan(np.abs(matrix))
    return {
        "images": float(len(values)),
        "dimensions": float(values.shape[1]),
        "dead_coordinates": float((~live).sum()),
        "mean_absolute_off_diagonal": _mean_or_nan(np.abs(pairs)),
        "rms_off_diagonal": math.sqrt(_mean_or_nan(pairs**2)),
        "noise_floor": noise_floor(len(values)),
        "original_number": original_number,
        "diagonal_share": 1 / len(matrix) / original_number if len(matrix) else math.nan,
        "total_correlation_per_dimension": _total_correlation_per_dimension(matrix, len(values)),
        "effective_rank": _effective_rank(shares),
        "participation_ratio": float(1 / (shares**2).sum()) if len(shares) else math.nan,
    }


def _total_correlation_per_dimension(matrix: FloatArray, images: int) -> float:
    dimensions = len(matrix)
    if dimensions == 0:
        return math.nan
    if images <= dimensions:
        raise ValueError(f"needs more images than live coordinates: {images} <= {dimensions}")
    eigenvalues = np.linalg.eigvalsh(matrix)
    if not _varied(eigenvalues).all():
        return math.inf
    # max: the determinant of a correlation matrix is at most 1, but for rounding.
    return max(0.0, float(-0.5 * np.log(eigenvalues).sum() / dimensions))


def _effective_rank(shares: FloatArray) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum())) if len(positive) else math.nan


def _checked(codes: ArrayLike) -> FloatArray:
    """Codes as float64. Raises ValueError if they are not valid."""
    values = np.asarray(codes, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise ValueError(f"codes must have shape (N >= 2, d >= 1), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"codes have {int((~np.isfinite(values)).sum())} NaN or infinite entries")
    return values


def _live_correlations(live: FloatArray) -> FloatArray:
    centred = live - live.mean(axis=0)
    standardised = centred / np.linalg.norm(centred, axis=0)
    matrix: FloatArray = np.clip(standardised.T @ standardised, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _off_diagonal(matrix: FloatArray) -> FloatArray:
    """Correlations of each pair of coordinates, once, (d(d − 1)/2,)."""
    return matrix[np.triu_indices(len(matrix), k=1)]


def _mean_or_nan(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan


def _variance_shares(values: FloatArray, live: NDArray[np.bool_]) -> FloatArray:
    """The covariance's eigenvalues over their sum, (d,); empty when nothing varies."""
    if not live.any():
        return np.empty(0)
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    # Clipped: rounding can leave an eigenvalue of 0 slightly negative.
    eigenvalues = np.clip(np.linalg.eigvalsh(covariance), 0, None)
    shares: FloatArray = eigenvalues / eigenvalues.sum()
    return shares


def _varied(eigenvalues: NDArray[np.floating]) -> NDArray[np.bool_]:
    """True for each eigenvalue (a variance; ascending) above the rounding error of the codes."""
    varied: NDArray[np.bool_] = eigenvalues > RELATIVE_RESOLUTION**2 * eigenvalues[-1]
    return varied
