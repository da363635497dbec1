"""The statistics return what is known by construction, and their intervals cover it.

`python tests/analysis/test_statistics.py` prints the coverages that a docstring quotes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.statistics import (
    Interval,
    crossed_bootstrap,
    finite_mean,
    holm,
    independent_difference,
    mean_interval,
    trend,
    unadjusted,
    verdict,
)
from tests.phrases import phrase

FloatArray = NDArray[np.float64]
Indices = NDArray[np.intp]
MakeInterval = Callable[[FloatArray, Indices, Indices, int], Interval]


def bootstrap_matrix(matrix: ArrayLike, **options: int) -> Interval:
    """The crossed bootstrap of values (E, S), one for each encoder and subset."""
    values = np.asarray(matrix)
    encoder, subset = (index.ravel() for index in np.indices(values.shape))
    return crossed_bootstrap(values.ravel(), encoder, subset, **options)


@dataclass(frozen=True)
class Design:
    """Which encoder meets which subset, and the standard deviation that each source adds."""

    encoders: int
    subsets: int
    encoder_sd: float
    subset_sd: float
    noise_sd: float
    full: bool = True
    """Every encoder meets every subset; otherwise subset r meets only encoder r % encoders."""

    def indices(self) -> tuple[Indices, Indices]:
        if self.full:
            cells = np.arange(self.encoders * self.subsets)
            return cells // self.subsets, cells % self.subsets
        subset = np.arange(self.subsets)
        return subset % self.encoders, subset

    def sample(self, generator: np.random.Generator) -> FloatArray:
        """One study's values (n,), normal, with mean 0."""
        encoder, subset = self.indices()
        of_encoders = self.encoder_sd * generator.standard_normal(self.encoders)
        of_subsets = self.subset_sd * generator.standard_normal(self.subsets)
        noise = self.noise_sd * generator.standard_normal(len(encoder))
        return of_encoders[encoder] + of_subsets[subset] + noise


def coverage(
    design: Design, make: MakeInterval, truth: float, simulations: int, seed: int = 0
) -> float:
    """Share of simulated studies whose interval contains `truth`."""
    generator = np.random.default_rng(seed)
    encoder, subset = design.indices()
    intervals = (make(design.sample(generator), encoder, subset, i) for i in range(simulations))
    return float(np.mean([not interval.excludes(truth) for interval in intervals]))


def bootstrap_with(draws: int) -> MakeInterval:
    return lambda values, encoder, subset, seed: crossed_bootstrap(
        values, encoder, subset, draws=draws, seed=seed
    )


def percentiles(values: FloatArray, encoder: Indices, subset: Indices, seed: int) -> Interval:
    """The plain pigeonhole bootstrap, 2.5 to 97.5 % of 300 draws; the study does not use it."""
    generator = np.random.default_rng(seed)
    counts = [
        generator.multinomial(levels, np.full(levels, 1 / levels), size=300)[:, factor]
        for factor, levels in ((encoder, encoder.max() + 1), (subset, subset.max() + 1))
    ]
    weights = counts[0] * counts[1]
    weights = weights[weights.sum(axis=1) > 0]
    low, high = np.quantile(weights @ values / weights.sum(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values), "percentiles")


# Intervals


def test_interval_says_what_it_is() -> None:
    interval = Interval(0.5, 0.41, 0.59, 8, "95 % Student t")
    assert interval.text() + interval.basis() == "0.500 [0.410, 0.590] (95 % Student t, n = 8)"
    assert interval.text(digits=1, scale=100) == "50.0 [41.0, 59.0]"
    assert interval.excludes(0.4) and interval.excludes(0.6)
    assert not interval.excludes(0.41) and not interval.excludes(0.5)


def test_mean_interval_is_students() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    interval = mean_interval(values)
    # SE = sqrt(2.5 / 5), t(0.975; 4) = 2.776445 from any printed table.
    assert interval.estimate == pytest.approx(3.0)
    assert interval.low == pytest.approx(3 - 2.776445 * math.sqrt(0.5), abs=1e-5)
    assert interval.high == pytest.approx(3 + 2.776445 * math.sqrt(0.5), abs=1e-5)
    assert (interval.n, interval.kind) == (5, "95 % Student t")
    assert interval.p_value(1.0) == pytest.approx(stats.ttest_1samp(values, 1.0).pvalue)


def test_interval_of_two_values() -> None:
    interval = mean_interval([1.0, 3.0])  # t(0.975; 1) = 12.706205
    assert (interval.low, interval.high) == pytest.approx((2 - 12.706205, 2 + 12.706205))


def test_interval_ends_at_what_is_possible() -> None:
    accuracy = mean_interval([0.9, 0.98])  # 0.94 ± 0.51
    cut = accuracy.within(0, 1)
    assert (cut.low, cut.high) == (accuracy.low, 1)
    assert cut.p_value(0.5) == accuracy.p_value(0.5)
    error = mean_interval([0.01, 0.02]).within(0)
    assert (error.low, error.high) == (0, pytest.approx(0.015 + 12.706205 * 0.005))
    assert not mean_interval([0.5]).within(0, 1).bounded


def test_values_without_spread_are_certain() -> None:
    interval = mean_interval([2.0, 2.0, 2.0])
    assert (interval.p_value(2.0), interval.p_value(1.9)) == (1.0, 0.0)


def test_nonfinite_values_are_left_out_and_not_counted() -> None:
    assert finite_mean([0.5, math.nan, 0.7, math.inf]) == mean_interval([0.5, 0.7])
    nothing = finite_mean([math.nan])
    assert (nothing.n, nothing.kind) == (0, "95 % Student t")
    assert not nothing.bounded and math.isnan(nothing.estimate)
    assert nothing.text() + nothing.basis() == "no value (n = 0)"


def test_interval_in_a_sentence() -> None:
    interval = Interval(0.05, -0.01, 0.11, 4, "95 % Student t")
    said = interval.text(1, 100, " points", signed=True) + interval.basis("paired")
    assert said == "+5.0 points [-1.0, +11.0] (95 % Student t, paired, n = 4)"
    assert unadjusted(interval.kind) == "unadjusted 95 % interval, Student t"
    alone = mean_interval([0.05])
    assert alone.text(1, 100, " points", signed=True) == "+5.0 points (n = 1, no interval)"


def test_one_value_has_no_bounds() -> None:
    interval = mean_interval([0.7])
    assert (interval.estimate, interval.n, interval.kind) == (0.7, 1, "95 % Student t")
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert not interval.excludes(100.0)
    assert math.isnan(interval.p_value())
    assert interval.text(2) == "0.70 (n = 1, no interval)"
    assert interval.basis() == ""


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_mean_interval_refuses_values_without_a_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        mean_interval(values)


def test_error_counts_missing_values() -> None:
    with pytest.raises(ValueError, match="values has 1 NaN or infinite entries"):
        mean_interval([1.0, math.nan, 3.0])


def test_difference_of_two_samples_is_welchs() -> None:
    a, b = [1.0, 2.5, 3.0, 4.0], [0.5, 0.7, 0.4]
    found = independent_difference(mean_interval(a), mean_interval(b))
    welch = stats.ttest_ind(a, b, equal_var=False)
    expected = welch.confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.degrees_of_freedom, found.p_value()) == pytest.approx((welch.df, welch.pvalue))
    assert (found.estimate, found.n) == (pytest.approx(np.mean(a) - np.mean(b)), 7)
    assert found.kind == "95 % Welch t"


def test_difference_of_samples_without_spread() -> None:
    """It takes the fewer degrees of freedom, which have no effect."""
    found = independent_difference(mean_interval([2.0] * 4), mean_interval([1.5] * 3))
    assert (found.low, found.high, found.degrees_of_freedom) == (0.5, 0.5, 2)


def test_difference_says_what_its_sides_vary_over() -> None:
    crossed = bootstrap_matrix(np.random.default_rng(0).normal(size=(3, 4)))
    method = "crossed bootstrap over encoders and label subsets, Student t"
    assert independent_difference(crossed, crossed).kind == f"95 % Welch t of {method}"
    mixed = independent_difference(mean_interval([1.0, 2.0]), crossed)
    assert mixed.kind == f"95 % Welch t of Student t and {method}"


@pytest.mark.parametrize("other", [[1.0], [1.0, 2.0, 4.0]])
def test_side_without_spread_gives_no_interval(other: list[float]) -> None:
    for sides in (([3.0], other), (other, [3.0])):
        found = independent_difference(*map(mean_interval, sides))
        assert found.estimate == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]))
        assert (found.n, found.kind) == (1 + len(other), "95 % Welch t")
        assert math.isnan(found.low) and math.isnan(found.high)


# The crossed bootstrap


def test_balanced_design_gives_the_analysis_of_variance() -> None:
    encoders, subsets = 4, 9
    generator = np.random.default_rng(0)
    matrix = (
        3 * generator.normal(size=(encoders, 1))
        + generator.normal(size=subsets)
        + 0.5 * generator.normal(size=(encoders, subsets))
    )
    rows, columns = matrix.mean(axis=1), matrix.mean(axis=0)
    noise = matrix - rows[:, None] - columns + matrix.mean()
    mean_squares = (
        subsets * rows.var(ddof=1),
        encoders * columns.var(ddof=1),
        (noise**2).sum() / ((encoders - 1) * (subsets - 1)),
    )
    variance = (mean_squares[0] + mean_squares[1] - mean_squares[2]) / matrix.size

    between = mean_squares[0] / matrix.size, mean_squares[1] / matrix.size
    satterthwaite = variance**2 / (
        between[0] ** 2 / (encoders - 1) + between[1] ** 2 / (subsets - 1)
    )
    assert encoders - 1 < satterthwaite - 0.5 < satterthwaite + 0.5 < subsets - 1

    interval = bootstrap_matrix(matrix, draws=200_000)
    assert interval.estimate == pytest.approx(matrix.mean())
    assert interval.standard_error**2 == pytest.approx(variance, rel=0.02)
    assert interval.degrees_of_freedom == pytest.approx(satterthwaite, rel=0.03)
    assert interval.n == 36
    assert interval.kind == "95 % crossed bootstrap over encoders and label subsets, Student t"


@pytest.mark.parametrize(
    ("of_encoders", "of_subsets", "freedom"),
    [
        # Variances of the mean in the ratio of their degrees of freedom, 3 : 8, would give 3 + 8.
        (3.0, 8.0, 8),
        # At 1 : 0, the degrees of freedom of the one.
        (1.0, 0.0, 3),
        (0.0, 1.0, 8),
    ],
)
def test_degrees_of_freedom_are_limited_by_the_larger_factor(
    of_encoders: float, of_subsets: float, freedom: float
) -> None:
    rows, columns = np.array([1.0, -1, 1, -1]), np.array([1.0, -1, 1, -1, 1, -1, 1, -1, 0])
    rows *= math.sqrt(4 * of_encoders / rows.var(ddof=1))
    columns *= math.sqrt(9 * of_subsets / columns.var(ddof=1))
    interval = bootstrap_matrix(rows[:, None] + columns, draws=100_000)
    assert interval.standard_error**2 == pytest.approx(of_encoders + of_subsets, rel=0.02)
    assert interval.degrees_of_freedom == pytest.approx(freedom, rel=1e-3)


@pytest.mark.parametrize("transposed", [False, True])
def test_variance_is_at_least_that_of_each_factor(transposed: bool) -> None:
    """The other factor's levels differ by noise alone: it is subtracted from nothing."""
    rows = np.array([3.0, 1, -1, -3])
    noise = 2.0 * np.outer([1, -1, -1, 1], [1, -1, 1, -1, 0, 0])
    matrix = rows[:, None] + noise
    interval = bootstrap_matrix(matrix.T if transposed else matrix, draws=100_000)
    assert interval.standard_error**2 == pytest.approx(rows.var(ddof=1) / 4, rel=0.02)
    assert interval.degrees_of_freedom == pytest.approx(3, rel=1e-3)


def test_two_levels_of_each_factor_have_bounds() -> None:
    assert bootstrap_matrix([[0.0, 1.0], [2.0, 4.0]]).bounded


def test_nested_design_has_the_variance_between_encoders() -> None:
    design = Design(5, 20, encoder_sd=1, subset_sd=1, noise_sd=0, full=False)
    encoder, subset = design.indices()
    values = design.sample(np.random.default_rng(1))
    of_encoders = [values[encoder == i].mean() for i in range(5)]
    # Exact up to the factor S/(S - 1) that the docstring's step 2 leaves.
    expected = np.var(of_encoders, ddof=1) / 5 * 20 / 19

    interval = crossed_bootstrap(values, encoder, subset, draws=200_000)
    assert interval.standard_error**2 == pytest.approx(expected, rel=0.03)
    assert interval.degrees_of_freedom == pytest.approx(4, abs=1)


def test_names_of_levels_do_not_matter() -> None:
    """Nor does it matter that two encoders don't meet a subset."""
    matrix = np.random.default_rng(2).normal(size=(3, 6))
    matrix[0, 1] = matrix[2, 5] = math.nan
    encoder, subset = np.nonzero(~np.isnan(matrix))
    names = np.array([f"cell-{i}" for i in range(3)])[encoder]
    named = crossed_bootstrap(matrix[encoder, subset], names, subset + 100)
    assert crossed_bootstrap(matrix[encoder, subset], encoder, subset) == named
    assert named.n == 16


def test_draws_are_seeded() -> None:
    matrix = np.random.default_rng(3).normal(size=(3, 6))
    assert bootstrap_matrix(matrix, seed=4) == bootstrap_matrix(matrix, seed=4)
    assert bootstrap_matrix(matrix, seed=4) != bootstrap_matrix(matrix, seed=5)


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1)])
def test_one_level_of_a_factor_gives_no_bounds(shape: tuple[int, int]) -> None:
    values = np.arange(8.0)[: math.prod(shape)].reshape(shape)
    interval = bootstrap_matrix(values)
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert (interval.estimate, interval.n) == (values.mean(), values.size)
    assert interval.kind == "95 % crossed bootstrap over encoders and label subsets, Student t"


def test_crossed_bootstrap_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="values has 1 NaN"):
        crossed_bootstrap([1.0, math.nan], [0, 1], [0, 1])


@pytest.mark.parametrize(
    "design",
    [
        Design(3, 6, encoder_sd=1, subset_sd=0.1, noise_sd=0.1),
        Design(3, 8, encoder_sd=1, subset_sd=3, noise_sd=1),
        Design(4, 8, encoder_sd=1, subset_sd=1, noise_sd=1),
        Design(5, 10, encoder_sd=0.1, subset_sd=1, noise_sd=0.1),
        Design(5, 10, encoder_sd=1, subset_sd=1, noise_sd=1, full=False),
        Design(5, 5, encoder_sd=1, subset_sd=1, noise_sd=1, full=False),
    ],
    ids=str,
)
def test_crossed_bootstrap_covers_the_truth(design: Design) -> None:
    # 2000 simulations: the measured share has a standard error of 0.005.
    assert 0.92 <= coverage(design, bootstrap_with(draws=400), truth=0, simulations=2000) <= 0.995


def test_percentiles_of_few_levels_undercover() -> None:
    design = Design(3, 6, encoder_sd=1, subset_sd=0.1, noise_sd=0.1)
    assert coverage(design, percentiles, truth=0, simulations=500) < 0.8


# Two arms


def arms(difference: float, seed: int = 0) -> tuple[FloatArray, FloatArray, Indices, Indices]:
    """Accuracies of two arms on 5 encoders x 10 subsets, `difference` apart on average.

    Both share the subset's contribution (SD 0.06); what they don't share has an SD of 0.005.
    """
    common = Design(5, 10, encoder_sd=0.02, subset_sd=0.06, noise_sd=0)
    generator = np.random.default_rng(seed)
    encoder, subset = common.indices()
    second = 0.6 + common.sample(generator)
    noise = 0.005 * generator.normal(size=len(second))
    return second + difference + noise - noise.mean(), second, encoder, subset


def test_paired_difference_finds_a_known_one() -> None:
    first, second, encoder, subset = arms(0.03)
    interval = crossed_bootstrap(first - second, encoder, subset)
    assert interval.estimate == pytest.approx(0.03, abs=1e-12)
    # Unpaired, the subsets' luck alone would make the interval ±0.04.
    assert 0.002 < interval.high - interval.low < 0.008
    assert interval.excludes(0)
    assert interval.n == 50


def test_paired_difference_of_equal_arms_is_nothing() -> None:
    _, second, encoder, subset = arms(0.0)
    interval = crossed_bootstrap(second - second, encoder, subset)
    assert (interval.low, interval.estimate, interval.high) == (0, 0, 0)
    assert interval.p_value() == 1
    assert not interval.excludes(0)


@pytest.mark.parametrize("seed", range(8))
def test_p_value_agrees_with_the_interval(seed: int) -> None:
    first, second, encoder, subset = arms(0.0, seed)
    interval = crossed_bootstrap(first - second, encoder, subset)
    assert interval.p_value(interval.high) == pytest.approx(0.05)
    assert interval.p_value(interval.low) == pytest.approx(0.05)
    beyond = interval.high + 1e-6
    assert interval.excludes(beyond) and interval.p_value(beyond) < 0.05


def test_exchanging_the_arms_changes_the_sign() -> None:
    first, second, encoder, subset = arms(0.03)
    forth = crossed_bootstrap(first - second, encoder, subset)
    back = crossed_bootstrap(second - first, encoder, subset)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert back.p_value() == pytest.approx(forth.p_value())


# Many comparisons, trends, sentences


def test_holm_on_a_textbook_example() -> None:
    # Ordered 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_caps_and_leaves_out_what_was_not_tested() -> None:
    adjusted = holm([0.02, math.nan, 0.9, 0.8])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.06, 1.0, 1.0])
    assert math.isnan(adjusted[1])
    assert holm([]).shape == (0,)
    assert holm([0, 1]).tolist() == [0.0, 1.0]


def test_trend_is_the_interval_of_group_slopes() -> None:
    dimension = np.array([2.0, 4, 8, 16, 32])
    slopes = [-0.9, -1.0, -1.1, -1.4]
    x = np.tile(np.log2(dimension), 4)
    y = np.concatenate([5 + slope * np.log2(dimension) for slope in slopes])
    interval = trend(x, y, np.repeat(np.arange(4), 5))
    expected = mean_interval(slopes)
    assert (interval.low, interval.estimate, interval.high) == pytest.approx(
        (expected.low, expected.estimate, expected.high)
    )
    assert (interval.n, interval.kind) == (4, "95 % Student t over the slope of each group")


def test_trend_of_one_group_has_its_slope_and_no_bounds() -> None:
    x, y = np.arange(12.0), np.random.default_rng(5).normal(size=12)
    interval = trend(x, y, np.zeros(12))
    assert interval.estimate == pytest.approx(np.polyfit(x, y, 1)[0])
    assert interval.n == 1 and not interval.bounded


@pytest.mark.parametrize("which", ["x", "y"])
def test_trend_names_bad_input(which: str) -> None:
    points = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "group": [0, 0, 0]}
    with pytest.raises(ValueError, match=f"{which} has 1 NaN"):
        trend(**{**points, which: [0.0, 1.0, math.nan]})


def test_trend_needs_two_places() -> None:
    with pytest.raises(ValueError, match=phrase("two different x, got [1.0]")):
        trend([1.0, 1.0], [0.0, 1.0], [0, 0])
    with pytest.raises(ValueError, match="two different x"):
        trend([1.0, 2.0], [0.0, 1.0], [0, 1])


def test_group_with_one_x_does_not_count() -> None:
    interval = trend([1.0, 2, 1, 2, 1], [0.0, 1, 0, 3, 7], [0, 0, 1, 1, 2])
    assert (interval.estimate, interval.n) == (pytest.approx(2.0), 2)


SENTENCES = ("the error grows with d", "the error falls with d", "undecided")


def test_opposite_trend_gives_the_opposite_sentence() -> None:
    generator = np.random.default_rng(6)
    replicate = np.repeat(np.arange(5), 4)
    x = np.tile(np.log2([2.0, 8, 14, 30]), 5)
    noise = 0.05 * generator.normal(size=20)
    assert verdict(trend(x, -0.3 * x + noise, replicate), *SENTENCES) == "the error falls with d"
    assert verdict(trend(x, 0.3 * x - noise, replicate), *SENTENCES) == "the error grows with d"
    assert verdict(trend(x, noise, replicate), *SENTENCES) == "undecided"
    one_replicate = trend(x[:4], -0.3 * x[:4], replicate[:4])
    assert verdict(one_replicate, *SENTENCES) == "undecided"


def test_verdict_is_undecided_at_a_touching_bound() -> None:
    def says(low: float, high: float) -> str:
        return verdict(Interval((low + high) / 2, low, high, 9, "given"), "+", "-", "?")

    assert [says(0.1, 0.2), says(-0.2, -0.1), says(-0.1, 0.1)] == ["+", "-", "?"]
    assert [says(0.0, 0.2), says(-0.2, 0.0)] == ["?", "?"]


def print_coverages(simulations: int) -> None:
    """Print the coverage of the intervals used and of plain bootstrap percentiles."""
    mixes = [(1, 0, 1), (0, 1, 1), (1, 1, 1), (1, 3, 1), (3, 1, 0.3), (1, 0, 0.1), (0, 1, 0.1)]
    shapes = [(3, 6, True), (3, 10, True), (5, 6, True), (5, 10, True)]
    shapes += [(3, 9, False), (5, 10, False), (5, 5, False), (10, 10, False)]
    print(f"{simulations} simulations each; sd of encoder, subset, noise")
    for encoders, subsets, full in shapes:
        print(f"\nE = {encoders}, S = {subsets}, {'crossed' if full else 'nested'}")
        for mix in [(0, 0, 1), *mixes]:
            design = Design(encoders, subsets, *mix, full=full)
            ours = coverage(design, bootstrap_with(draws=2000), 0, simulations)
            plain = coverage(design, percentiles, 0, simulations)
            print(f"  {mix}: mean {ours:.3f}, percentiles {plain:.3f}", flush=True)


if __name__ == "__main__":
    print_coverages(simulations=int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
