"""Summaries and conclusions follow the numbers of a scorecard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from analysis.interpolation.conclusions import (
    CRITERIA,
    Comparison,
    after_longer_training,
    at_a_glance,
    conclusions,
    trends_by_measure,
)
from analysis.interpolation.figures import draw_scorecard, draw_trade_off
from analysis.interpolation.scorecard import (
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    REAL,
    RECONSTRUCTION,
    by_pair,
    summary,
)

DIMS = (4, 8, 16)
EXAMPLES, JUDGES = 10, 3

Slopes = Mapping[str, float]


def synthetic(
    slopes: Slopes,
    counted: Mapping[int, float] = dict.fromkeys(DIMS, 1.0),
    noise: float = 0.002,
    judge_noise: float = 0.0,
    replicates: int = 4,
) -> pd.DataFrame:
    """A scorecard whose measures are 0.5 at d = 4 and change by `slopes` (default 0) per doubling
    of d, plus normal `noise` per model and `judge_noise` in each judge's slope.

    `counted` maps d to the share of pairs that count: the first examples.
    """
    draw = np.random.default_rng(0)
    whims = judge_noise * draw.standard_normal((JUDGES, len(MEASURES)))
    lines = []
    for d in counted:
        for replicate in range(replicates):
            jitter = noise * draw.standard_normal(len(MEASURES))
            for judge in range(JUDGES):
                values = {
                    measure: 0.5 + (slopes.get(measure, 0) + whim) * np.log2(d / 4) + luck
                    for measure, whim, luck in zip(MEASURES, whims[judge], jitter, strict=True)
                }
                lines += [
                    {"cell": f"{d:016x}", "replicate": replicate, "latent_dim": d, "pair": "4-7",
                     "example": example, "judge": judge, "control": control, **values,
                     "counted": float(example < counted[d] * EXAMPLES)}
                    for example in range(EXAMPLES) for control in (INTERPOLATION, RECONSTRUCTION)
                ]  # fmt: skip
    lines += [
        {"cell": "", "pair": "4-7", "example": 0, "judge": judge, "control": control,
         "counted": 1.0, "confidence": 0.6, "relative": 0.7, "both": 0.2}
        for judge in range(JUDGES) for control in (PIXEL_BLEND, REAL)
    ]  # fmt: skip
    columns = ["cell", "replicate", "latent_dim", "pair", "example", "control", "judge"]
    table = pd.DataFrame(lines).reindex(columns=[*columns, *MEASURES])
    return table.astype({"replicate": "Int64", "latent_dim": "Int64"})


LARGER_BETTER = {measure: 0.05 * sign for measure, (sign, _) in CRITERIA.items()}
TRADE_OFF = {**LARGER_BETTER, "nearest": 0.05, "cycle": 0.05, "relative": 0.0}


def test_summary_has_means_and_intervals_over_replicates() -> None:
    table = synthetic({})
    found = summary(table).set_index(["latent_dim", "control", "measure"])
    line = found.loc[(4, INTERPOLATION, "confidence")]
    rows = table[(table["latent_dim"] == 4) & (table["control"] == INTERPOLATION)]
    means = rows.groupby("replicate")["confidence"].mean().to_numpy(float)
    assert line["mean"] == pytest.approx(means.mean())
    # t(0.975, 3) = 3.1824
    assert line["high"] - line["mean"] == pytest.approx(3.1824 * means.std(ddof=1) / 2, rel=1e-4)
    assert line["n"] == 4
    assert line["interval"] == "95 % Student t"
    assert line["cells"] == f"{4:016x}"


def test_only_end_point_measures_include_all_pairs() -> None:
    table = synthetic({}, noise=0, counted={4: 0.8, 8: 1.0})
    outside = (table["example"] >= 8) & (table["latent_dim"] == 4)
    table.loc[outside, ["relative", "mse"]] = 0.0
    found = summary(table).set_index(["latent_dim", "control", "measure"])["mean"]
    assert found[(4, INTERPOLATION, "counted")] == pytest.approx(0.8)
    assert found[(4, INTERPOLATION, "relative")] == pytest.approx(0.5)
    assert found[(4, RECONSTRUCTION, "mse")] == pytest.approx(0.8 * 0.5)
    pairs = by_pair(table).set_index(["latent_dim", "control"])
    assert pairs.loc[(4, INTERPOLATION), "relative"] == pytest.approx(0.5)


def test_trends_are_slopes_over_doublings_of_d() -> None:
    table = synthetic({"nearest": 0.03, "relative": -0.02}, noise=0)
    trends = trends_by_measure(Comparison.of(table))
    assert trends.loc["nearest", "a_doubling"] == pytest.approx(0.03)
    assert trends.loc["nearest", "at d = 4"] == pytest.approx(0.5)
    assert trends.loc["nearest", "at d = 16"] == pytest.approx(0.56)
    assert trends.loc["relative", "a_doubling"] == pytest.approx(-0.02)
    assert set(trends["replicates"]) == {4}


def test_every_measure_can_favour_larger_or_smaller_d() -> None:
    larger = conclusions(synthetic(LARGER_BETTER, counted={4: 0.6, 8: 0.8, 16: 1.0}))[0]
    assert larger.startswith(
        "A larger d interpolates better from d = 4 to d = 16: it is better by "
    )
    assert "and worse by no measure" in larger
    assert "ndecided" not in larger
    opposite = {measure: -slope for measure, slope in LARGER_BETTER.items()}
    smaller = conclusions(synthetic(opposite, counted={4: 1.0, 8: 0.8, 16: 0.6}))[0]
    assert smaller.startswith(
        "A smaller d interpolates better from d = 4 to d = 16: it is better by "
    )


def test_trade_off_names_the_measures_of_both_sides() -> None:
    found = conclusions(synthetic(TRADE_OFF, counted={4: 0.6, 8: 0.8, 16: 1.0}))[0]
    assert found.startswith("Which d interpolates better is a trade-off from d = 4 to d = 16.")
    larger, smaller = found.split("; a smaller d is better by ")
    assert "the error of the end points" in larger
    assert "the distance from cross-dissolve" in larger
    assert smaller.startswith("the distance to the nearest real image and the cycle error (p <")
    assert found.endswith("Undecided: the confidence relative to the end points.")
    assert "interpolates better from" not in found


def test_table_and_sentences_use_the_same_replicates() -> None:
    """An autoencoder that many classifiers start from may have more replicates than others."""
    table = synthetic({}, counted={4: 0.6, 8: 1.0, 16: 1.0})
    more = synthetic({}, counted={4: 0.0}, replicates=8)
    table = pd.concat([table, more[more["replicate"] >= 4]], ignore_index=True)
    assert "60 % at d = 4" in conclusions(table)[1]
    assert Comparison.of(table).dims == [4, 8, 16]


def test_glance_has_the_better_d_and_the_confidence_trend() -> None:
    sentences = conclusions(synthetic({"relative": 0.05, "mse": -0.05}))
    glance = at_a_glance(sentences)
    assert glance.startswith(sentences[0].split(". ")[0])
    assert " The judges' confidence in midpoints relative to the end points rises with d" in glance
    assert "blend of pixels" not in glance
    flat = at_a_glance(conclusions(synthetic({}, noise=0.02)))
    assert " Whether the judges' confidence in midpoints relative to the end points" in flat
    (only,) = conclusions(synthetic({}, counted={8: 1.0}))
    assert at_a_glance([only]) == only


def test_longer_training_may_confirm_or_turn_a_measure() -> None:
    table = synthetic(LARGER_BETTER, counted={4: 0.6, 8: 0.8, 16: 1.0})
    same = synthetic(LARGER_BETTER, counted={4: 0.6, 16: 1.0}, replicates=3)
    (said,) = after_longer_training(table, same, "16 epochs")
    assert said.startswith(
        "After 16 epochs instead, at d = 4 and 16 (n = 3), a larger d is better by the share of "
    )
    assert said.endswith("that decide there both times, none changed sides.")
    turned = synthetic({**LARGER_BETTER, "cycle": 0.05}, counted={4: 0.6, 16: 1.0}, replicates=3)
    (said,) = after_longer_training(table, turned, "16 epochs")
    assert "; a smaller d is better by the cycle error; of the" in said
    assert said.endswith("both times, these changed sides: the cycle error.")
    undecided = synthetic({**LARGER_BETTER, "cycle": 0.0}, counted={4: 0.6, 8: 0.8, 16: 1.0})
    (said,) = after_longer_training(undecided, same, "16 epochs")
    assert said.endswith("of the 9 measures that decide there both times, none changed sides.")


def test_longer_training_at_one_d_says_nothing() -> None:
    table = synthetic(LARGER_BETTER)
    assert after_longer_training(table, synthetic({}, counted={4: 1.0}), "16 epochs") == []
    few = synthetic({}, counted={4: 0.2, 8: 1.0})  # fewer than half of the pairs count at d = 4
    assert after_longer_training(table, few, "16 epochs") == []


def test_flat_relative_confidence_decides_nothing() -> None:
    found = conclusions(synthetic({"confidence": 0.1}, noise=0.02))
    assert found[0] == (
        "Whether a larger or a smaller d interpolates better from d = 4 to d = 16 is undecided by "
        "all 10 measures."
    )
    assert "relative to the end points rises or falls with d is undecided" in found[2]
    assert not any("better from" in sentence for sentence in found[1:])


def test_better_end_points_are_no_better_interpolation() -> None:
    found = conclusions(synthetic({"mse": -0.05}, counted={4: 0.6, 8: 0.8, 16: 1.0}))[0]
    assert found == (
        "A larger d has better end points from d = 4 to d = 16: it is better by the share of "
        "pairs whose end points keep their class and the error of the end points (p < 0.05 after "
        "Holm's correction for 10 measures). No measure of midpoints decides."
    )


@pytest.mark.parametrize(("slope", "word"), [(0.05, "rises"), (-0.05, "falls")])
def test_confidence_sentence_has_trend_and_pixel_blend(slope: float, word: str) -> None:
    found = conclusions(synthetic({"relative": slope}, noise=0))[2]
    assert found.startswith(
        f"The judges' confidence in midpoints relative to the end points {word} with d: 0.500 at "
        f"d = 4, {0.5 + 2 * slope:.3f} at d = 16, {slope:+.3f} a doubling"
    )
    assert "n = 4)" in found
    assert "over replicates and 3 judges" in found
    assert found.endswith("In a blend of pixels it is 0.700.")


def test_judges_that_disagree_widen_the_interval() -> None:
    agreed = Comparison.of(synthetic({"relative": 0.02})).trend("relative")
    disputed = synthetic({"relative": 0.02}, judge_noise=0.05)
    interval = Comparison.of(disputed).trend("relative")
    assert agreed.excludes(0)
    assert not interval.excludes(0)
    assert interval.high - interval.low > 5 * (agreed.high - agreed.low)
    said = conclusions(disputed)[2]
    assert "is undecided" in said
    slopes = Comparison.of(disputed).slopes("relative").groupby("judge").mean()
    assert f"by judge {slopes.min():+.3f} to {slopes.max():+.3f}" in said
    # A measure without judges varies over replicates alone.
    assert Comparison.of(disputed).trend("nearest").kind == "95 % Student t"


def test_d_with_few_counted_pairs_is_not_compared() -> None:
    table = synthetic({"relative": 0.05}, counted={2: 0.2, 4: 0.7, 8: 0.9, 16: 1.0})
    table.loc[table["latent_dim"] == 2, "relative"] = 9.0
    compared = Comparison.of(table)
    assert compared.dims == [4, 8, 16]
    assert set(compared.pair_counts) == {7}
    said = conclusions(table)[1]
    assert "20 % at d = 2, 70 % at d = 4, 90 % at d = 8 and 100 % at d = 16" in said
    assert "Fewer than half count at d = 2, which is not compared." in said
    assert "Only the 7 pairs that count at each of the other d are compared." in said
    assert compared.trend("relative").estimate == pytest.approx(0.05, abs=0.002)


def test_same_pairs_are_compared_at_every_d() -> None:
    """The hard pairs, which d = 4 doesn't keep, are far from real images at any d."""
    table = synthetic({}, counted={4: 0.6, 8: 1.0, 16: 1.0}, noise=0)
    table.loc[table["example"] >= 6, "nearest"] += 5
    assert Comparison.of(table).trend("nearest").estimate == pytest.approx(0)


def test_one_replicate_is_undecided_without_interval() -> None:
    single = conclusions(synthetic(TRADE_OFF, replicates=1, noise=0))
    assert single[0].endswith("is undecided by all 10 measures.")
    assert "(n = 1, no interval)" in single[2]
    assert not any("nan" in sentence for sentence in single)


def test_both_digits_seen_is_a_failure() -> None:
    more = conclusions(synthetic({"both": 0.03}))[3]
    assert more.startswith("The judges see both classes at once more at a larger d: 0.50")
    assert more.endswith("it is 0.200, without any model: more of it is a failure to interpolate.")
    less = conclusions(synthetic({"both": -0.03}))[3]
    assert "see both classes at once less at a larger d" in less


def test_one_dimension_allows_no_conclusion() -> None:
    (only,) = conclusions(synthetic({}, counted={8: 1.0}))
    assert only == "Which d interpolates better can't be said: only d = 8 is finished."
    few = conclusions(synthetic({}, counted={2: 0.2, 8: 1.0}))
    assert few[0].endswith("most pairs count at one d only.")
    assert "20 % at d = 2 and 100 % at d = 8" in few[1]
    none = conclusions(synthetic({}, counted={2: 0.2, 8: 0.1}))
    assert none[0].endswith("most pairs count at no d.")


def test_nonfinite_replicates_are_left_out_and_counted() -> None:
    table = synthetic(TRADE_OFF)
    collapsed = (table["latent_dim"] == 8) & (table["replicate"] == 0)
    table.loc[collapsed, "counted"] = 0.0
    table.loc[collapsed, ["cross_dissolve", "cycle"]] = [np.nan, np.inf]
    found = conclusions(table)
    assert "n = 3)" in found[2]
    assert found[-2:] == [
        "Left out: 1 of 4 replicates, in which no pair counts at every d.",
        "Left out: 1 of 12 models of d = 4, 8 and 16, which show the same picture at both ends.",
    ]
    trends = trends_by_measure(Comparison.of(table))
    assert trends.loc["mse", "replicates"] == 4
    draw_scorecard(table)
    draw_trade_off(table)
    # Pairs count in every replicate, but no pair counts at every d.
    table.loc[table["latent_dim"] == 4, "counted"] = (table["example"] < 5).astype(float)
    table.loc[table["latent_dim"] == 16, "counted"] = (table["example"] >= 5).astype(float)
    apart = conclusions(table)
    assert apart[2] == "Midpoints can't be compared: no pair counts at every d."
    assert not any("nan" in sentence for sentence in apart)


def test_bars_of_shares_stay_between_0_and_1() -> None:
    table = synthetic({})
    table.loc[(table["replicate"] == 0) & (table["example"] >= 7), "counted"] = 0.0
    axes = draw_scorecard(table).axes[0]
    tops = [path.vertices[:, 1].max() for bars in axes.collections for path in bars.get_paths()]
    assert max(tops) == pytest.approx(1)
