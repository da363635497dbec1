"""Question 3's sentences against known truths; the measures are test_redundancy's."""

import numpy as np
import pandas as pd
import pytest

from analysis import correlation, redundancy


def table_where(off_diagonal):
    """Measures of models whose mean off-diagonal correlation is `off_diagonal(d, replicate)`."""
    lines = []
    for dim in (2, 4, 8, 16):
        for replicate in range(4):
            off = off_diagonal(dim, replicate)
            original = 1 / dim + (1 - 1 / dim) * off
            lines.append(
                {"cell": str(dim), "replicate": replicate, "latent_dim": dim, "images": 5000,
                 "mean_absolute_off_diagonal": off, "rms_off_diagonal": off,
                 "whitened": 0.01,
                 "original_number": original, "diagonal_share": 1 / dim / original}
            )  # fmt: skip
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("off_diagonal", "word"),
    [
        (lambda dim, replicate: 0.4 / dim + 0.001 * replicate, "falls with d"),
        (lambda dim, replicate: 0.02 * dim + 0.001 * replicate, "rises with d"),
        (lambda dim, replicate: 0.2 + 0.01 * (-1) ** replicate * np.log2(dim), "undecided"),
    ],
)
def test_the_sentence_follows_the_data(off_diagonal, word):
    assert word in correlation.conclusions(table_where(off_diagonal))[0]


def test_uncorrelated_codes_still_make_the_original_number_fall():
    sentences = correlation.conclusions(table_where(lambda dim, replicate: 1e-4 * replicate))
    assert "undecided" in sentences[0] or "-0.0000" in sentences[0]
    assert "at d = 2 the diagonal is 100 % of it" in sentences[1]
    assert "from 0.50 to 0.062" in sentences[1]


def test_one_dimension_shows_no_trend():
    table = table_where(lambda dim, replicate: 0.1)
    only = correlation.conclusions(table[table["latent_dim"] == 4])
    assert only == ["One latent dimension above 1 alone shows no trend."]


def test_the_figure_has_the_noise_floor_of_the_images_used():
    drawn = correlation.draw_correlation(table_where(lambda dim, replicate: 0.1))
    floor = [line for line in drawn.axes[0].lines if "noise floor" in str(line.get_label())]
    assert floor[0].get_ydata()[0] == pytest.approx(redundancy.noise_floor(5000))


def test_what_is_not_finite_is_left_out_of_sentence_table_and_figure_and_counted():
    table = table_where(lambda dim, replicate: 0.4 / dim + 0.001 * replicate)
    table = table.assign(
        total_correlation_per_dimension=0.1, effective_rank=2.0, participation_ratio=1.5
    )
    whole = correlation.conclusions(table)
    dead = (table["latent_dim"] == 4) & (table["replicate"] == 0)
    names = ["mean_absolute_off_diagonal", "rms_off_diagonal", "whitened", "original_number",
             "diagonal_share"]  # fmt: skip
    table.loc[dead, names] = np.nan
    table.loc[dead, "total_correlation_per_dimension"] = np.inf
    said = correlation.conclusions(table)
    assert "falls with d" in said[0] and "n = 4)" in said[0]  # of its other three d
    assert said[2].startswith("Left out: 1 of 16 models (d = 4)")
    assert len(whole) == 2
    lines = correlation.summary(table).set_index(["latent_dim", "measure"])
    line = lines.loc[(4, "total_correlation_per_dimension")]
    assert (line["mean"], line["replicates"], line["left_out"]) == (pytest.approx(0.1), 3, 1)
    assert (lines["left_out"] > 0).sum() == 5
    for drawn in (correlation.draw_correlation(table), correlation.draw_information(table)):
        dots = [line for line in drawn.axes[0].lines if line.get_marker() == "."]
        assert len(dots[0].get_xdata()) == 15
