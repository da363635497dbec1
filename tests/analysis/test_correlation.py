"""Question 3's sentences against known truths; test_redundancy tests the measures."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import correlation, redundancy


def flat(value):
    """A measure that has this value at every d, up to the luck of a replicate."""
    return lambda dim, replicate: value + 0.001 * (-1) ** replicate * np.log2(dim)


TENTH, HALF = flat(0.1), flat(0.5)


def table_where(off_diagonal, total=TENTH, share=HALF):
    """Measures of models whose mean off-diagonal correlation, total correlation per dimension and
    effective rank over d are functions of d and replicate."""
    lines = []
    for dim in (2, 4, 8, 16):
        for replicate in range(4):
            off = off_diagonal(dim, replicate)
            original = 1 / dim + (1 - 1 / dim) * off
            lines.append(
                {
                    "cell": str(dim),
                    "replicate": replicate,
                    "latent_dim": dim,
                    "images": 5000,
                    "mean_absolute_off_diagonal": off,
                    "rms_off_diagonal": off,
                    "total_correlation_per_dimension": total(dim, replicate),
                    "effective_rank_share": share(dim, replicate),
                    "effective_rank": dim * share(dim, replicate),
                    "participation_ratio": 1.0,
                    "whitened": 0.01,
                    "original_number": original,
                    "diagonal_share": 1 / dim / original,
                }
            )
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("off_diagonal", "word"),
    [
        (lambda dim, replicate: 0.4 / dim + 0.001 * replicate, "falls with d"),
        (lambda dim, replicate: 0.02 * dim + 0.001 * replicate, "rises with d"),
        (lambda dim, replicate: 0.2 + 0.01 * (-1) ** replicate * np.log2(dim), "undecided"),
    ],
)
def test_sentence_follows_the_data(off_diagonal, word):
    assert word in correlation.conclusions(table_where(off_diagonal))[2]


RISING, FALLING = (
    lambda dim, replicate: 0.1 * np.log2(dim) + 0.002 * replicate,
    lambda dim, replicate: 0.9 - 0.1 * np.log2(dim) + 0.002 * replicate,
)


def test_growing_redundancy_is_stated():
    said = correlation.conclusions(table_where(flat(0.2), RISING, FALLING))
    assert said[0].startswith(
        "The total correlation per dimension rises with d: from 0.103 nats at d = 2 to 0.403 nats "
        "at d = 16, +0.100 nats a doubling"
    )
    assert said[1].startswith("The effective rank over d falls with d: from 0.803 at d = 2")
    assert said[3].startswith("So codes grow more redundant with d.")
    # exp(-2 * 0.103) and exp(-2 * 0.403)
    assert "leaves 81 % of its variance unexplained at d = 2 and 45 % at d" in said[3]
    assert "fills a smaller share" in said[3]
    assert "The mean |r| does not show it" in said[3]
    pairs_too = correlation.conclusions(table_where(RISING, RISING, FALLING))[3]
    assert pairs_too.endswith("Single pairs of coordinates are more correlated, too.")


def test_falling_redundancy_is_stated():
    said = correlation.conclusions(table_where(FALLING, FALLING, RISING))
    assert said[3].startswith("So codes grow less redundant with d.")
    assert "fills a larger share" in said[3]
    assert said[3].endswith("Single pairs of coordinates are less correlated, too.")


def longer_where(total, share):
    """Like `table_where`, with three replicates at d = 4 and 16."""
    table = table_where(flat(0.2), total, share)
    return table[table["latent_dim"].isin([4, 16]) & (table["replicate"] < 3)]


def test_longer_training_may_confirm_or_turn_a_trend():
    table = table_where(flat(0.2), RISING, FALLING)
    (said,) = correlation.after_longer_training(table, longer_where(RISING, RISING), "16 epochs")
    assert said.startswith(
        "After 16 epochs instead, at d = 4, 16, the total correlation per dimension still rises: "
        "+0.100 nats a doubling"
    )
    assert "; the effective rank over d rises: +0.100 a doubling" in said
    assert said.endswith("instead of -0.100 a doubling [-0.100, -0.100].")
    (said,) = correlation.after_longer_training(table, longer_where(TENTH, FALLING), "16 epochs")
    assert "the total correlation per dimension is undecided: " in said
    assert "; the effective rank over d still falls: -0.100 a doubling" in said


def test_longer_training_at_one_d_says_nothing():
    table = table_where(flat(0.2), RISING, FALLING)
    one = table[table["latent_dim"] == 4]
    assert correlation.after_longer_training(table, one, "16 epochs") == []


@pytest.mark.parametrize(("total", "share"), [(TENTH, FALLING), (RISING, HALF),
                                              (RISING, RISING)])  # fmt: skip
def test_disagreeing_measures_decide_nothing(total, share):
    said = correlation.conclusions(table_where(flat(0.2), total, share))[3]
    assert said.startswith("These two trends don't decide")


def test_total_correlation_matches_regression_residuals():
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(500, 4)) @ draw.normal(size=(4, 4))
    codes -= codes.mean(axis=0)
    left = [1.0]
    for column in range(1, 4):
        before, this = codes[:, :column], codes[:, column]
        residual = this - before @ np.linalg.lstsq(before, this, rcond=None)[0]
        left.append(residual.var() / this.var())
    total = redundancy.summary(codes)["total_correlation_per_dimension"]
    assert np.exp(-2 * total) == pytest.approx(np.exp(np.mean(np.log(left))))


def test_trend_of_pairs_leaves_out_a_single_pair():
    """|r| is 0.1 at every d except 2, where it depends on the seed."""
    accident = lambda dim, replicate: 0.1 + (dim == 2) * 0.2 * replicate  # noqa: E731
    said = correlation.conclusions(table_where(lambda d, r: accident(d, r) + 0.01 * np.log2(d)))[2]
    assert said.startswith("The mean |r| between different coordinates rises with d: from 0.120 at")
    assert "+0.010 a doubling [+0.010, +0.010]" in said
    assert "This leaves out d = 2, which has only one pair of coordinates (|r| 0.410)" in said
    two = table_where(lambda dim, replicate: 0.1 * dim + 0.001 * replicate)
    two = two[two["latent_dim"] < 8]
    assert "left out" not in correlation.conclusions(two)[2]


def test_original_number_falls_even_without_correlation():
    sentences = correlation.conclusions(table_where(lambda dim, replicate: 1e-4 * replicate))
    assert "undecided" in sentences[2] or "-0.0000" in sentences[2]
    assert "at d = 2 the diagonal is 100 % of it" in sentences[4]
    assert "from 0.50 to 0.062" in sentences[4]


def test_one_dimension_shows_no_trend():
    table = table_where(lambda dim, replicate: 0.1)
    only = correlation.conclusions(table[table["latent_dim"] == 4])
    assert only == ["A trend needs two latent dimensions above 1."]


def test_figure_has_the_noise_floor_of_its_images():
    drawn = correlation.draw_correlation(table_where(lambda dim, replicate: 0.1))
    floor = [line for line in drawn.axes[0].lines if "noise floor" in str(line.get_label())]
    assert floor[0].get_ydata()[0] == pytest.approx(redundancy.noise_floor(5000))


def test_bars_stay_within_possible_values():
    table = table_where(
        lambda dim, replicate: 0.5 + 0.15 * (-1) ** replicate * (dim == 2),
        share=lambda dim, replicate: 0.97 + 0.03 * (-1) ** replicate,
    )
    table.loc[table["latent_dim"] == 2, "whitened"] = [0.0, 0.2, 0.0, 0.0]
    drawn = (correlation.draw_correlation(table), correlation.draw_information(table))
    panels = [drawn[0].axes[0], drawn[0].axes[1], drawn[1].axes[1]]
    ends = [
        path.vertices[:, 1]
        for axes in panels
        for bars in axes.collections
        for path in bars.get_paths()
    ]
    assert max(end.max() for end in ends) == 1
    assert min(end.min() for end in ends) == 0


def test_training_images_replace_too_few_test_images(small_results):
    images, which = correlation.images_to_encode(small_results)
    assert which == "3,600 training images (there are 1,000 test images)"
    assert len(images) == 3600
    data = small_results.dataset
    more = dataclasses.replace(data, test=data.train)
    results = dataclasses.replace(small_results)
    results.__dict__["dataset"] = more
    assert correlation.images_to_encode(results)[1] == "3,600 test images"


def test_nonfinite_models_are_left_out_and_counted():
    table = table_where(lambda dim, replicate: 0.4 / dim + 0.001 * replicate)
    table = table.assign(
        total_correlation_per_dimension=0.1, effective_rank_share=0.5, participation_ratio=1.5
    )
    whole = correlation.conclusions(table)
    dead = (table["latent_dim"] == 4) & (table["replicate"] == 0)
    names = [
        "mean_absolute_off_diagonal",
        "rms_off_diagonal",
        "whitened",
        "original_number",
        "diagonal_share",
    ]
    table.loc[dead, names] = np.nan
    table.loc[dead, "total_correlation_per_dimension"] = np.inf
    said = correlation.conclusions(table)
    assert "falls with d" in said[2] and "n = 4)" in said[2]  # of its other three d
    assert said[5].startswith("Left out: 1 of 16 models (d = 4)")
    assert len(whole) == 5
    lines = correlation.summary(table).set_index(["latent_dim", "measure"])
    line = lines.loc[(4, "total_correlation_per_dimension")]
    assert (line["mean"], line["replicates"], line["left_out"]) == (pytest.approx(0.1), 3, 1)
    assert (lines["left_out"] > 0).sum() == 5
    for drawn in (correlation.draw_correlation(table), correlation.draw_information(table)):
        dots = [line for line in drawn.axes[0].lines if line.get_marker() == "."]
        assert len(dots[0].get_xdata()) == 15
