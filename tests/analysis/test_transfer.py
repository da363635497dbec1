"""Question 4's tables and sentences against known truths."""

import numpy as np
import pandas as pd
import pytest

from analysis import transfer

ENCODERS, SUBSETS = 4, 8


def rows_with(advantage, spread=0.05, dims=(2, 8), labels=(20, 40), seed=0):
    """Rows where `fixed` beats `full` by `advantage` on every pair, up to noise of 0.002; luck of
    the label subset, SD `spread`, is common to both."""
    draw = np.random.default_rng(seed)
    luck = draw.normal(0, spread, SUBSETS)
    lines = []
    for dim in dims:
        for count in labels:
            for arm, shift in (("fixed", advantage), ("full", 0.0), ("scratch", -0.1)):
                for replicate in range(SUBSETS):
                    accuracy = 0.6 + luck[replicate] + shift + draw.normal(0, 0.002)
                    lines.append(
                        {"cell": f"{arm}-{dim}-{count}", "latent_dim": dim, "depth": 3,
                         "labels": count, "freeze": arm, "replicate": replicate,
                         "label_subset": replicate,
                         "encoder_replicate": replicate if arm == "scratch"
                         else replicate % ENCODERS,
                         "encoder_cell": None if arm == "scratch" else f"encoder-{dim}",
                         "val_accuracy": accuracy, "test_accuracy": accuracy}
                    )  # fmt: skip
    return pd.DataFrame(lines)


def test_paired_differences_find_what_the_luck_of_the_subset_hides():
    rows = rows_with(advantage=0.02)
    table = transfer.differences(rows)
    assert len(table) == 4
    assert table["difference"].to_numpy() == pytest.approx(0.02, abs=0.003)
    assert (table["low"] > 0).all()
    assert (table["p_holm"] < 0.05).all()
    assert (table["p_holm"] >= table["p"]).all()
    assert (table["probability"] > 0.95).all()
    assert table["cells"][0] == "fixed-2-20 full-2-20"
    # Unpaired, the intervals of the two arms overlap: the luck is 25 times the noise.
    arms = transfer.summary(rows).set_index(["latent_dim", "labels", "freeze"])
    assert arms.loc[(2, 20, "fixed"), "low"] < arms.loc[(2, 20, "full"), "high"]


@pytest.mark.parametrize(
    ("advantage", "word"),
    [
        (0.02, "“encoder fixed” beats “everything trained”"),
        (-0.02, "“everything trained” beats “encoder fixed”"),
        (0.0, "undecided whether “encoder fixed” or “everything trained”"),
    ],
)
def test_the_sentence_follows_the_data(advantage, word):
    sentences = transfer.conclusions(rows_with(advantage))
    assert word in sentences[1]


def test_accuracies_at_chance_are_called_a_bug():
    rows = rows_with(0.02)
    assert not any("chance" in sentence for sentence in transfer.conclusions(rows))
    rows.loc[rows["cell"] == "full-2-20", "test_accuracy"] = 0.1
    assert "1 of 12 cells are at chance" in transfer.conclusions(rows)[-1]


def test_the_best_classifier_is_chosen_by_validation():
    rows = rows_with(0.02)
    rows.loc[5, "val_accuracy"], rows.loc[6, "test_accuracy"] = 1.0, 1.0
    assert transfer.best_classifier(rows).name == 5


def test_the_original_numbers_are_the_56_and_at_chance():
    theirs = transfer.original()
    assert len(theirs) == 56
    means = theirs.groupby("freeze")["test_accuracy"].mean()
    assert means["fixed"] == pytest.approx(0.1118, abs=5e-5)
    assert means["full"] == pytest.approx(0.0875, abs=5e-5)
    assert "11.18 %" in transfer.original_conclusion(theirs)


def test_an_arm_that_is_not_known_is_drawn_under_its_own_name():
    rows = rows_with(0.02)
    rows.loc[rows["freeze"] == "scratch", "freeze"] = "lp-ft"
    pixels = pd.DataFrame({"classifier": ["one", "one"], "labels": [20, 40],
                           "label_subset": [0, 0], "test_accuracy": [0.5, 0.6]})  # fmt: skip
    drawn = transfer.draw_by_labels(rows, pixels)
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert {"lp-ft", "encoder fixed", "everything trained", "one"} == set(names)
