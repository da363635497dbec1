"""Inference that stays valid however often one looks: numbers by hand, and error rates."""

import math

import numpy as np
import pytest

from analysis.statistics import holm
from analysis.statistics.sequential import (
    confidence_sequence,
    log_e_value,
    negligible,
    sequential_interval,
    sequential_p_value,
)


def test_evidence_is_the_formula_by_hand():
    # x = 1, 2: S² = 9, V = 5, n + 1 = 3: √(1/3) · (1 − 9/15)^(−1) = 0.57735 · 2.5.
    assert math.exp(log_e_value([1.0, 2.0])) == pytest.approx(2.5 / math.sqrt(3))
    # x = 1, 1, −1: S² = 1, V = 3, n + 1 = 4: ½ · (11/12)^(−3/2).
    assert math.exp(log_e_value([1.0, 1.0, -1.0])) == pytest.approx(0.5 * (12 / 11) ** 1.5)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0, 0.0]])
def test_single_or_zero_values_are_no_evidence(values):
    assert log_e_value(values) == 0.0


def test_evidence_has_no_unit_and_no_sign():
    values = np.array([0.3, -0.1, 0.4, 0.2])
    evidence = log_e_value(values)
    for factor in (1e-200, -1.0, 1e200):
        assert log_e_value(factor * values) == pytest.approx(evidence)


def test_evidence_of_equal_differences_keeps_growing():
    values = [log_e_value(np.full(n, 0.01)) for n in (5, 20, 2000)]
    assert values == sorted(values) and math.isfinite(values[-1])


@pytest.mark.parametrize("n", [2, 3, 5, 12, 60])
@pytest.mark.parametrize("confidence", [0.3, 0.95])
def test_interval_holds_what_evidence_does_not_reject(n, confidence):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    interval = sequential_interval(values, confidence)
    assert (interval.estimate, interval.n) == (pytest.approx(values.mean()), n)
    assert interval.kind == f"{100 * confidence:g} % anytime-valid"
    limit = math.log(1 / (1 - confidence))
    if not interval.bounded:
        assert math.isnan(interval.low) and math.isnan(interval.high)
        assert log_e_value(values - 1e9) < limit
        return
    assert interval.low < interval.estimate < interval.high
    for bound in (interval.low, interval.high):
        assert log_e_value(values - bound) == pytest.approx(limit)
    assert log_e_value(values - interval.high - 0.01) > limit
    assert log_e_value(values - interval.estimate) < limit


def test_two_values_have_bounds_at_low_confidence():
    assert sequential_interval([1.0, 2.0], 0.3).bounded


@pytest.mark.parametrize(
    "function", [log_e_value, sequential_interval, confidence_sequence, sequential_p_value]
)
def test_bad_values_are_named(function):
    with pytest.raises(ValueError, match="values has 1 NaN"):
        function([1.0, math.nan])


def test_few_values_have_no_bounds():
    assert not sequential_interval([1.0]).bounded
    assert not sequential_interval([1.0, 2.0]).bounded
    assert sequential_interval([1.0, 2.0, 3.0, 1.5, 2.5, 2.0]).bounded


def test_confidence_sequence_never_revokes_a_decision():
    values = np.r_[np.full(8, 1.0) + 0.01 * np.arange(8), np.full(7, -1.0)]
    found = confidence_sequence(values)
    assert found["n"].tolist() == list(range(1, 16))
    assert (found["p"].diff().dropna() <= 0).all()
    assert found["p"].iloc[-1] < 0.05
    assert math.exp(-log_e_value(values)) > 0.05  # at the end alone it would be undecided
    assert sequential_p_value(values) == found["p"].iloc[-1]
    assert sequential_p_value(values[:5]) == found["p"].iloc[4] < found["p"].iloc[3]
    assert found["estimate"].iloc[-1] == pytest.approx(values.mean())
    assert math.isnan(sequential_p_value([1.0]))
    assert sequential_p_value([1.0, 2.0]) == pytest.approx(math.sqrt(3) / 2.5)


def test_repeated_looks_keep_the_false_positive_rate():
    """2,000 studies without a difference, a look after each of 40 values."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(2000, 40))
    n = np.arange(1, 41)
    share = values.cumsum(axis=1) ** 2 / ((n + 1) * (values**2).cumsum(axis=1))
    logs = 0.5 * np.log(1 / (n + 1)) - n / 2 * np.log1p(-share)
    assert logs[3, 20] == pytest.approx(log_e_value(values[3, :21]))
    decided = (logs[:, 1:] >= math.log(20)).any(axis=1).mean()
    assert 0.005 < decided < 0.05


def test_real_difference_is_found():
    """0.8 standard deviations: 99 of 100 studies find it by n = 64, as in the issue's table."""
    draw = np.random.default_rng(1)
    found = [sequential_p_value(draw.normal(0.8, 1, 64)) < 0.05 for _ in range(60)]
    assert np.mean(found) > 0.95


def test_negligible_needs_a_narrow_interval():
    values = 0.001 * np.sin(np.arange(20.0))
    assert negligible(values, 0.005)
    assert not negligible(values, 0.0005)
    assert not negligible(values[:2], 0.005)
    assert not negligible(values + 0.01, 0.005)
    # More comparisons need more evidence.
    few = [0.1, -0.1, 0.05, -0.05, 0.0, 0.02, -0.04]
    widths = [sequential_interval(few, 1 - 0.05 / m).high for m in (1, 8)]
    between = sum(widths) / 2
    assert negligible(few, between) and not negligible(few, between, comparisons=8)
    least = confidence_sequence(few)[["low", "high"]].abs().min().max()
    assert negligible(few, least + 1e-9) and not negligible(few, least - 1e-9)


def test_families_are_corrected_by_holm():
    draw = np.random.default_rng(2)
    p = [sequential_p_value(draw.normal(shift, 1, 30)) for shift in (2.0, 0.0, 1.0)]
    adjusted = holm(p)
    assert adjusted[0] == pytest.approx(min(1, 3 * p[0]))
    assert adjusted[1] >= p[1]
