"""Measures of redundancy return the closed form on codes whose correlations are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.redundancy import (
    correlation_matrix,
    mean_absolute_off_diagonal,
    noise_floor,
    summary,
    whiten,
)

FloatArray = NDArray[np.float64]


def independent_codes(images: int, dimensions: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((images, dimensions))


def codes_with(covariance: FloatArray, images: int = 500, seed: int = 0) -> FloatArray:
    """Codes (N, d) whose sample covariance is exactly `covariance`, by whitening a sample."""
    sample = independent_codes(images, len(covariance), seed)
    centred = sample - sample.mean(axis=0)
    exact = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    codes: FloatArray = exact @ np.linalg.cholesky(covariance).T + 3.0
    return codes


def equicorrelated(dimensions: int, rho: float) -> FloatArray:
    return np.full((dimensions, dimensions), rho) + (1 - rho) * np.eye(dimensions)


def test_correlations_are_pearsons() -> None:
    codes = independent_codes(200, 4) @ np.random.default_rng(1).normal(size=(4, 4)) + 10
    matrix = correlation_matrix(codes)
    assert matrix == pytest.approx(np.corrcoef(codes.T), abs=1e-12)
    assert (np.diag(matrix) == 1).all()


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.99])
def test_two_coordinates_of_known_correlation(rho: float) -> None:
    codes = codes_with(equicorrelated(2, rho))
    assert mean_absolute_off_diagonal(codes) == pytest.approx(abs(rho), abs=1e-12)
    assert summary(codes)["rms_off_diagonal"] == pytest.approx(abs(rho), abs=1e-12)
    expected = -0.25 * math.log(1 - rho**2)
    assert summary(codes)["total_correlation_per_dimension"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 8, 30])
@pytest.mark.parametrize("rho", [0.1, 0.7])
def test_equicorrelated_codes_in_closed_form(dimensions: int, rho: float) -> None:
    codes = codes_with(equicorrelated(dimensions, rho))
    # Eigenvalues: 1 + (d - 1) rho once, 1 - rho for the other d - 1.
    top, rest = 1 + (dimensions - 1) * rho, 1 - rho
    log_determinant = math.log(top) + (dimensions - 1) * math.log(rest)
    squares = top**2 + (dimensions - 1) * rest**2
    entropy = -top / dimensions * math.log(top / dimensions)
    entropy -= (dimensions - 1) * rest / dimensions * math.log(rest / dimensions)

    assert mean_absolute_off_diagonal(codes) == pytest.approx(rho)
    assert summary(codes)["rms_off_diagonal"] == pytest.approx(rho)
    assert summary(codes)["total_correlation_per_dimension"] == pytest.approx(
        -0.5 * log_determinant / dimensions
    )
    assert summary(codes)["participation_ratio"] == pytest.approx(dimensions**2 / squares)
    assert summary(codes)["effective_rank"] == pytest.approx(math.exp(entropy))


def test_rms_weighs_the_strong_correlation_more() -> None:
    covariance = np.eye(3)
    covariance[0, 1] = covariance[1, 0] = 0.6
    codes = codes_with(covariance)
    assert mean_absolute_off_diagonal(codes) == pytest.approx(0.6 / 3)
    assert summary(codes)["rms_off_diagonal"] == pytest.approx(0.6 / math.sqrt(3))


@pytest.mark.parametrize("dimensions", [2, 5, 14, 30])
def test_original_number_includes_its_diagonal(dimensions: int) -> None:
    mixing = np.random.default_rng(dimensions).normal(size=(dimensions, dimensions))
    codes = independent_codes(300, dimensions) @ mixing
    number, off_diagonal = summary(codes)["original_number"], mean_absolute_off_diagonal(codes)
    expected = 1 / dimensions + (1 - 1 / dimensions) * off_diagonal
    assert number == pytest.approx(expected, rel=1e-12)
    assert summary(codes)["diagonal_share"] == pytest.approx(1 / dimensions / number, rel=1e-12)


@pytest.mark.parametrize(("dimensions", "number"), [(2, 0.5), (30, 1 / 30)])
def test_original_number_of_decorrelated_codes(dimensions: int, number: float) -> None:
    codes = codes_with(np.eye(dimensions))
    assert summary(codes)["original_number"] == pytest.approx(number)
    assert summary(codes)["diagonal_share"] == pytest.approx(1.0)
    assert summary(codes)["total_correlation_per_dimension"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("images", [100, 5000])
def test_independent_codes_lie_on_the_noise_floor(images: int) -> None:
    codes = independent_codes(images, 60, seed=images)
    # 1770 pairs: the mean of |r| has a relative standard error of 0.756/sqrt(1770) = 1.8 %.
    assert mean_absolute_off_diagonal(codes) == pytest.approx(noise_floor(images), rel=0.06)
    assert summary(codes)["rms_off_diagonal"] == pytest.approx(1 / math.sqrt(images), rel=0.06)


def test_noise_floor_in_numbers() -> None:
    assert noise_floor(1000) == pytest.approx(0.025231, abs=1e-6)


def test_eigenvalue_measures_count_directions() -> None:
    equal = codes_with(np.eye(6))
    assert summary(equal)["effective_rank"] == pytest.approx(6)
    assert summary(equal)["participation_ratio"] == pytest.approx(6)
    # Variances 4, 4, 1: shares 4/9, 4/9, 1/9.
    unequal = codes_with(np.diag([4.0, 4.0, 1.0]))
    entropy = -(2 * 4 / 9 * math.log(4 / 9) + math.log(1 / 9) / 9)
    assert summary(unequal)["effective_rank"] == pytest.approx(math.exp(entropy))
    assert summary(unequal)["participation_ratio"] == pytest.approx(81 / 33)


def test_correlation_ignores_scale_and_offset() -> None:
    codes = codes_with(equicorrelated(3, 0.4))
    moved = codes * [1e-3, 1.0, 1e3] + [5.0, -100.0, 0.0]
    assert mean_absolute_off_diagonal(moved) == pytest.approx(0.4)
    assert summary(moved)["total_correlation_per_dimension"] == pytest.approx(
        summary(codes)["total_correlation_per_dimension"]
    )


def test_whitening_gives_the_identity() -> None:
    codes = codes_with(equicorrelated(8, 0.7) * 4)
    white = whiten(codes)
    assert np.cov(white.T) == pytest.approx(np.eye(8), abs=1e-10)
    assert white.mean(axis=0) == pytest.approx(np.zeros(8), abs=1e-10)
    assert mean_absolute_off_diagonal(white) == pytest.approx(0, abs=1e-10)
    assert summary(white)["effective_rank"] == pytest.approx(8)


def test_whitening_fitted_elsewhere_leaves_the_noise() -> None:
    mixing = np.linalg.cholesky(equicorrelated(30, 0.7)).T
    train, test = (independent_codes(n, 30, seed) @ mixing for n, seed in ((20_000, 1), (2000, 2)))
    assert mean_absolute_off_diagonal(test) == pytest.approx(0.7, abs=0.02)
    # 435 pairs, and a little more from the fit: within 12 % of the floor.
    white = whiten(test, fitted_on=train)
    assert mean_absolute_off_diagonal(white) == pytest.approx(noise_floor(2000), rel=0.12)


def test_whitening_drops_directions_without_variance() -> None:
    codes = independent_codes(100, 3)
    repeated = np.column_stack([codes, codes[:, 0] + codes[:, 1], np.ones(100)])
    assert whiten(repeated).shape == (100, 3)
    assert np.cov(whiten(repeated).T) == pytest.approx(np.eye(3), abs=1e-8)


def test_repeated_coordinate_is_infinitely_redundant() -> None:
    codes = independent_codes(100, 3)
    repeated = np.column_stack([codes, codes[:, 0] - 2 * codes[:, 1]])
    assert summary(repeated)["total_correlation_per_dimension"] == math.inf
    assert summary(repeated.astype(np.float32))["total_correlation_per_dimension"] == math.inf


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_dead_coordinates_are_counted_and_left_out(constant: float) -> None:
    live = codes_with(equicorrelated(3, 0.4))
    dead = np.full(len(live), constant)
    codes = np.column_stack([live[:, 0], dead, live[:, 1:]]).astype(np.float32)
    matrix = correlation_matrix(codes)

    assert summary(codes)["dead_coordinates"] == 1
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
    assert np.isfinite(np.delete(np.delete(matrix, 1, axis=0), 1, axis=1)).all()
    assert mean_absolute_off_diagonal(codes) == pytest.approx(0.4, abs=1e-5)
    assert summary(codes)["original_number"] == pytest.approx((3 + 6 * 0.4) / 9, abs=1e-5)
    assert summary(codes)["diagonal_share"] == pytest.approx(3 / (3 + 6 * 0.4), abs=1e-5)
    assert summary(codes)["participation_ratio"] == pytest.approx(
        summary(live)["participation_ratio"], rel=1e-5
    )


def test_coordinate_that_varies_by_rounding_is_dead() -> None:
    jitter = np.float32(0.1) + np.spacing(np.float32(0.1)) * (np.arange(100) % 2).astype(np.float32)
    codes = np.column_stack([independent_codes(100, 2).astype(np.float32), jitter])
    assert np.ptp(codes[:, 2]) > 0
    assert summary(codes)["dead_coordinates"] == 1
    assert whiten(codes).shape == (100, 2)


def test_small_coordinate_is_alive() -> None:
    codes = codes_with(equicorrelated(2, 0.4)) * [1.0, 1e-9]
    assert summary(codes)["dead_coordinates"] == 0
    assert mean_absolute_off_diagonal(codes) == pytest.approx(0.4)
    assert np.cov(whiten(codes).T) == pytest.approx(np.eye(2), abs=1e-8)


def test_one_coordinate_has_no_pairs() -> None:
    measures = summary(independent_codes(100, 1))
    assert math.isnan(measures["mean_absolute_off_diagonal"])
    assert math.isnan(measures["rms_off_diagonal"])
    assert measures["original_number"] == measures["diagonal_share"] == 1
    assert measures["total_correlation_per_dimension"] == 0
    assert measures["effective_rank"] == measures["participation_ratio"] == pytest.approx(1)


def test_codes_that_are_all_dead_have_no_measure() -> None:
    measures = summary(np.ones((10, 2)))
    undefined = {name for name, value in measures.items() if math.isnan(value)}
    assert measures["dead_coordinates"] == 2
    assert undefined == set(measures) - {"images", "dimensions", "dead_coordinates", "noise_floor"}
    with pytest.raises(ValueError, match="nothing to whiten"):
        whiten(np.ones((10, 2)))


def test_summary_has_every_measure() -> None:
    codes = codes_with(equicorrelated(4, 0.5), images=1000)
    assert summary(codes) == pytest.approx(
        {
            "images": 1000,
            "dimensions": 4,
            "dead_coordinates": 0,
            "mean_absolute_off_diagonal": 0.5,
            "rms_off_diagonal": 0.5,
            "noise_floor": 0.0252313,
            "original_number": 0.625,
            "diagonal_share": 0.4,
            # det R = 2.5 * 0.5^3
            "total_correlation_per_dimension": -math.log(0.3125) / 8,
            "effective_rank": 0.625**-0.625 * 0.125**-0.375,
            "participation_ratio": 16 / 7,
        },
        rel=1e-5,
    )


def test_bad_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        summary(np.ones(10))
    with pytest.raises(ValueError, match="shape"):
        summary(np.ones((1, 3)))
    with pytest.raises(ValueError, match="1 NaN"):
        correlation_matrix([[1.0, 2.0], [math.nan, 1.0]])
    with pytest.raises(ValueError, match="more images"):
        summary(independent_codes(4, 4))
