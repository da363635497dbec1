"""Figures for a page: marks are where the drawing has them and give its values."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.inline import MOST_MARKS, inline, shows_pictures
from analysis.style import Series, draw_estimates, draw_series, figure, latent_dim_axis
from analysis.transfer.figures import draw_confusion

ROWS = pd.DataFrame(
    {
        "latent_dim": [2, 2, 8, 8],
        "replicate": [0, 1, 0, 1],
        "cell": ["aa", "aa", "bb", "bb"],
        "test_mse": [0.04, 0.06, 0.01, 0.03],
    }
)


@pytest.fixture
def chart():
    made, axes = figure()
    draw_series(axes, ROWS, "latent_dim", "test_mse", Series("batch 64", 0, offset=0.02))
    axes.axhline(0.02, color="#666666", label="PCA")
    latent_dim_axis(axes, [2, 8])
    axes.set_ylabel("mean squared error")
    axes.legend()
    made.canvas.draw()
    return made


def marks_with(shown, text):
    return [mark for mark in shown.marks if text in mark.says]


def test_mean_tells_series_value_interval_n_and_cell(chart):
    (at_two, at_eight) = marks_with(inline(chart), "mean, n = 2")
    # mean 0.05 of 0.04 and 0.06: half-width t(0.975, 1) · s / √2 = 12.706 · 0.01
    assert at_two.says.split("\n") == [
        "batch 64",
        "mean squared error: 0.05 [-0.07706, 0.1771]",
        "latent dimension d: 2",
        "mean, n = 2",
    ]
    assert (at_two.cell, at_eight.cell) == ("aa", "bb")


def test_dot_is_a_replicate(chart):
    dots = marks_with(inline(chart), "replicate")
    assert [mark.cell for mark in dots] == ["aa", "aa", "bb", "bb"]
    assert [mark.says.split("\n")[1] for mark in dots] == [
        f"mean squared error: {value:g}" for value in ROWS["test_mse"]
    ]


def test_level_has_no_x(chart):
    assert marks_with(inline(chart), "PCA")[0].says == "PCA\nmean squared error: 0.02"


def test_marks_stand_where_the_svg_draws_them(chart):
    """The drawing's `<use>` elements have the positions of the two means."""
    shown = inline(chart)
    means = marks_with(shown, "mean, n = 2")
    places = np.array(
        [
            [float(x), float(y)]
            for x, y in re.findall(r'<use [^>]*?x="([\d.]+)" y="([\d.]+)"', shown.file)
        ]
    )
    for mark in means:
        assert np.abs(places - [mark.x, mark.y]).max(axis=1).min() < 0.1


def test_marks_and_legend_carry_their_series_number(chart):
    shown = inline(chart)
    series = {(mark.series, mark.says.split("\n")[0]) for mark in shown.marks}
    assert series == {(0, "batch 64"), (1, "PCA")}
    # Dots, line, bars and caps of the first; one line of the second; a legend entry each.
    assert len(re.findall('data-series="0"', shown.svg)) >= 4
    assert len(re.findall('data-series="1"', shown.svg)) == 1
    assert sorted(re.findall(r'data-legend="(\d)"', shown.svg)) == ["0", "1"]


def test_colours_follow_the_page_except_in_matrices(chart):
    assert "var(--c0,#0072b2)" in inline(chart).svg
    confusion = draw_confusion(np.eye(3, dtype=int) * 10, ["a", "b", "c"])
    shown = inline(confusion)
    assert not shown.themed and "var(--c" not in shown.svg


def test_matrix_marks_give_classes_and_values():
    shown = inline(draw_confusion(np.array([[3, 1], [0, 4]]), ["cat", "dog"]))
    assert [mark.says.split("\n") for mark in shown.marks] == [
        [f"true class: {y}", f"predicted class: {x}", value]
        for y, x, value in (
            ("cat", "cat", "75"), ("cat", "dog", "25"), ("dog", "cat", "0"), ("dog", "dog", "100")
        )
    ]  # fmt: skip


def test_texts_keep_their_digits(chart):
    chart.axes[0].set_title("0.12345")
    assert ">0.12345<" in inline(chart).svg


def test_horizontal_bars_have_their_interval_on_x():
    made, axes = figure()
    axes.errorbar([1.5], [0], xerr=[[0.5], [1.0]], label="a")
    axes.set_xlabel("change")
    made.canvas.draw()
    assert inline(made).marks[0].says.split("\n")[2] == "change: 1.5 [1, 2.5]"


def test_estimates_say_their_pairs():
    made, axes = figure()
    table = pd.DataFrame(
        {
            "d": [2],
            "difference": [0.01],
            "low": [0.0],
            "high": [0.02],
            "pairs": [8],
            "cells": ["aa bb"],
        }
    )
    draw_estimates(axes, table, "d", "difference", Series("20 labels", 0, scale=100))
    made.canvas.draw()
    (mark,) = inline(made).marks
    assert mark.says == "20 labels\nvalue: 1 [0, 2]\nat: 2\nn = 8" and mark.cell == "aa bb"


def test_alternative_text_describes_the_curves(chart):
    assert inline(chart).alt == (
        "mean squared error by latent dimension d. "
        "batch 64: from 0.05 at 2 to 0.02 at 8; PCA: 0.02."
    )


def test_letters_are_at_least_ten_pixels_high(chart):
    shown = inline(chart)
    smallest = min(
        map(float, re.findall(r"font-size: ([\d.]+)px|font: ([\d.]+)px", shown.file)[0][:1])
    )
    width = 72 * chart.get_size_inches()[0]
    assert shown.least / width * smallest >= 10 - 0.1


def test_pictures_stay_pictures(chart):
    made, axes = figure()
    axes.imshow(np.zeros((4, 4, 3)))
    assert shows_pictures(made) and not shows_pictures(chart)


def test_number_of_marks_is_limited():
    made, axes = figure()
    axes.plot(np.arange(MOST_MARKS + 50), np.zeros(MOST_MARKS + 50), label="long")
    made.canvas.draw()
    assert len(inline(made).marks) == MOST_MARKS
