"""The rotation section's tables and sentences against known truths, and from stored angles."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import rotation
from analysis.document import Document
from analysis.report import rotation as rotation_section
from analysis.results import load
from study.experiments import EXPERIMENTS
from study.grid import override

REPLICATES = 6
IMAGES = 720


def rows_with(cost, seed=0):
    """Rows where the naive loss errs by `cost` degrees more than every other on each seed, up to
    noise of 0.1. All losses share the luck of a seed, SD 3."""
    draw = np.random.default_rng(seed)
    luck = draw.normal(0, 3, REPLICATES)
    lines = []
    for loss in rotation.NAMES:
        for replicate in range(REPLICATES):
            error = 15 + luck[replicate] + (cost if loss == "absolute" else 0)
            error += draw.normal(0, 0.1)
            lines.append(
                {"cell": loss, "loss": loss, "depth": 3, "batch_size": 32, "seed": 0,
                 "replicate": replicate, "val_error": error + (loss != "wrapped"),
                 "test_error": error, "test_median_error": error / 2}
            )  # fmt: skip
    return pd.DataFrame(lines)


def errors_with(excess):
    """Errors of 10 on every image, and `excess` more within 30° of 0 under the naive loss."""
    angle = np.arange(IMAGES) / 2
    near = np.minimum(angle, 360 - angle) <= rotation.NEAR
    tables = [
        pd.DataFrame(
            {
                "loss": loss,
                "replicate": replicate,
                "angle": angle,
                "cell": loss,
                "digit": np.arange(IMAGES) % 10,
                "error": 10
                + replicate
                + excess * near * (loss == "absolute")
                + 0.1 * replicate * near,
            }
        )
        for loss in rotation.NAMES
        for replicate in range(REPLICATES)
    ]
    return pd.concat(tables, ignore_index=True)


def test_pairing_removes_the_luck_of_the_seed():
    table = rotation.differences(rows_with(1.0))
    assert table["loss"].tolist() == ["wrapped", "cosine", "von_mises", "sine_cosine"]
    assert table["difference"].to_numpy() == pytest.approx(1.0, abs=0.2)
    assert (table["low"] > 0).all()
    assert (table["p_holm"] < 0.05).all()
    assert (table["pairs"] == REPLICATES).all()
    assert table["cells"][0] == "absolute wrapped"
    arms = rotation.summary(rows_with(1.0)).set_index("loss")
    assert arms.loc["absolute", "low"] < arms.loc["wrapped", "high"]


@pytest.mark.parametrize(
    ("cost", "phrase", "all_of_them"),
    [
        (1.0, "The naive loss is worse than “wrapped |δ|”", True),
        (-1.0, "The naive loss is better than “wrapped |δ|”", False),
        (0.0, "It is undecided whether the naive loss or “wrapped |δ|” is worse", False),
    ],
)
def test_sentences_follow_the_data(cost, phrase, all_of_them):
    sentences = rotation.conclusions(rows_with(cost), errors_with(20))
    assert phrase in sentences[1]
    assert any("every one of the 4 circular losses" in s for s in sentences) == all_of_them


@pytest.mark.parametrize(("excess", "word"), [(20, "larger"), (-20, "smaller"), (-0.25, "same")])
def test_excess_error_near_the_break_is_stated(excess, word):
    sentences = rotation.conclusions(rows_with(1.0), errors_with(excess))
    (naive,) = [s for s in sentences if s.startswith("Under “naive")]
    assert word in naive
    interval = rotation.excess_near_the_break(errors_with(excess), "absolute")
    assert interval.estimate == pytest.approx(excess + 0.25)
    assert interval.n == REPLICATES


def test_best_loss_is_chosen_by_validation():
    rows = rows_with(1.0)
    rows.loc[rows["loss"] == "cosine", "test_error"] = 1.0
    assert "under “wrapped |δ|”" in rotation.conclusions(rows, errors_with(1))[0]


def test_verdict_uses_the_corrected_p_value():
    rows = rows_with(0.0)
    naive = rows[rows["loss"] == "absolute"]["test_error"].to_numpy()
    for loss, p in (("wrapped", 0.03), ("cosine", 0.8), ("von_mises", 0.9), ("sine_cosine", 0.7)):
        steps = np.linspace(-1, 1, REPLICATES)
        steps /= steps.std(ddof=1) / np.sqrt(REPLICATES)  # a standard error of 1
        gain = stats.t.isf(p / 2, REPLICATES - 1) + steps
        rows.loc[rows["loss"] == loss, "test_error"] = naive - gain
    line = rotation.differences(rows).iloc[0]
    assert line["p"] == pytest.approx(0.03)
    assert line["low"] > 0  # the interval of this comparison alone excludes 0
    assert line["p_holm"] > 0.05
    sentence = rotation.conclusions(rows, errors_with(20))[1]
    assert sentence.startswith("It is undecided whether the naive loss or “wrapped |δ|” is worse")
    assert "(unadjusted 95 % interval, Student t, in pairs of the same seed, n = 6)" in sentence


def test_network_without_the_naive_loss_is_not_chosen():
    deep, flat = rows_with(20.0), rows_with(20.0).assign(depth=2)
    flat["val_error"] += 1
    deep["val_error"] += 2
    assert set(rotation.chosen(pd.concat([deep, flat]))["depth"]) == {2}
    flat = flat[flat["loss"] != "absolute"]
    deep_only = rotation.chosen(pd.concat([deep, flat]))
    assert set(deep_only["depth"]) == {3}


def test_one_replicate_has_values_without_intervals():
    rows = rows_with(1.0)
    rows = rows[rows["replicate"] == 0]
    table = errors_with(20)
    table = table[table["replicate"] == 0]
    said = " ".join(rotation.conclusions(rows, table))
    assert "nan" not in said
    assert said.count("(n = 1, no interval)") == 1 + 4 + 2
    assert said.count("undecided") == 4 + 2
    drawn = rotation.draw_errors(rows)
    assert not any(bars.has_yerr for bars in drawn.axes[0].containers)
    rotation.draw_by_angle(rotation.by_angle(table))
    rotation.draw_by_digit(rotation.by_digit(table))


def test_ten_degree_bins_have_intervals_over_replicates():
    table = rotation.by_angle(errors_with(20)).set_index(["loss", "angle"])
    assert len(table) == 5 * 36
    assert table.loc[("absolute", 5.0), "error"] == pytest.approx(10 + 2.5 + 20 + 0.25)
    assert table.loc[("absolute", 185.0), "error"] == pytest.approx(12.5)
    assert table.loc[("cosine", 355.0), "error"] == pytest.approx(12.75)
    assert (table["low"] < table["error"]).all() and (table["error"] < table["high"]).all()
    assert (table["replicates"] == REPLICATES).all()


def errors_of_half_turns(share, alike_more=0.0):
    """Errors of 10; 0, 1, 6, 8 and 9 have `alike_more` more, or 180 in this share of images."""
    table = errors_with(0)
    alike = table["digit"].isin(rotation.HALF_TURN)
    table.loc[alike, "error"] += alike_more
    images = np.arange(len(table)) // 10 % 10
    table.loc[alike & (images < 10 * share), "error"] = 180
    return table


def test_half_turn_digits_are_compared_with_the_others():
    by_digit = rotation.by_digit(errors_of_half_turns(0.5)).set_index(["loss", "digit"])
    assert len(by_digit) == 5 * 10
    assert by_digit.loc[("cosine", 3), "error"] == pytest.approx(12.5, abs=0.1)
    assert by_digit.loc[("cosine", 8), "error"] > 80
    assert by_digit.loc[("cosine", 8), "turned_over"] == pytest.approx(0.5, abs=0.05)
    assert by_digit.loc[("cosine", 3), "turned_over"] == 0
    said = rotation.conclusions_by_digit(rows_with(1.0), errors_of_half_turns(0.5))
    assert "have a larger error than the other digits under “wrapped |δ|”: +8" in said[0]
    assert "5" in said[0].split("; ")[-1]


@pytest.mark.parametrize(("more", "words"), [(5.0, "have a larger"), (-5.0, "have a smaller")])
def test_sentence_on_digits_follows_the_data(more, words):
    said = rotation.conclusions_by_digit(rows_with(1.0), errors_of_half_turns(0, more))
    assert words in said[0]
    assert f"{more:+.1f} degrees" in said[0]
    assert "; 0.0 % of their images are off by more than 135°" in said[0]


def test_digits_may_have_the_same_error():
    luck = np.random.default_rng(0).normal(0, 3, len(errors_with(0)))
    table = errors_with(0)
    table["error"] += luck
    (said,) = rotation.conclusions_by_digit(rows_with(1.0), table)
    assert "may have the same error as the other digits (undecided)" in said


def test_best_network_by_validation_is_shown():
    rows = rows_with(1.0)
    deeper = rows.assign(depth=4, cell=rows["cell"] + "-4", val_error=rows["val_error"] - 5)
    both = pd.concat([rows, deeper], ignore_index=True)
    assert set(rotation.chosen(both)["depth"]) == {4}
    assert len(rotation.summary(both)) == 10
    assert len(rotation.differences(both)) == 8


@pytest.fixture(scope="module")
def results(few_digits, compute_study, tmp_path_factory):
    experiment = override(
        EXPERIMENTS["rotation"], {}, {"depth": 2, "width": 2, "epochs": 1, "replicates": 2}
    )
    folder = tmp_path_factory.mktemp("rotation")
    compute_study("rotation", [experiment], few_digits, folder)
    loaded = load(folder)
    renamed = dataclasses.replace(loaded, plan={**loaded.plan, "dataset": "mnist-5k"})
    renamed.__dict__["dataset"] = few_digits
    return renamed


def test_errors_from_stored_angles_match_the_rows(results):
    rows = results.of("rotation")
    errors = rotation.errors(results, rows)
    assert len(errors) == 5 * 2 * 50
    digits = rotation.with_digits(errors, results.test_labels.numpy())
    digits = digits.groupby(["cell", "replicate"])["digit"]
    assert all(list(of_one) == results.test_labels.tolist() for _, of_one in digits)
    means = errors.groupby(["cell", "replicate"])["error"].mean()
    for _, row in rows.iterrows():
        expected = means[(row["cell"], row["replicate"])]
        assert row["test_error"] == pytest.approx(expected, abs=1e-3)


def test_section_is_written(results):
    document = Document()
    rotation_section.write(document, results)
    figures = "rotation", "rotation_by_angle", "rotation_by_digit"
    assert set(document.files) == {
        *(
            f"tables/{name}.{kind}"
            for name in (*figures, "rotation_differences")
            for kind in ("csv", "parquet")
        ),
        *(f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")),
    }
    (section,) = document.sections
    assert len(section.conclusions) >= 7
    assert set(section.cells) == set(results.of("rotation")["cell"])
