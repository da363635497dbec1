"""Question 4's tables and sentences against known truths."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import transfer
from analysis.results import load
from analysis.statistics import sequential_p_value
from analysis.transfer.arms import at_one_setting, name_of, with_arms
from study.errors import StoreError
from study.experiments import EXPERIMENTS
from study.grid import override

ENCODERS, SUBSETS = 4, 8


def as_rows(lines):
    """These lines as `transfer.rows_of` gives them, of one budget and one rate."""
    settings = {
        "epochs": 100,
        "learning_rate": 0.01,
        "encoder_learning_rate": 0.001,
        "asked_batch_size": 0,
    }
    rows = pd.DataFrame(lines).assign(**settings)
    return with_arms(rows if "pretraining" in rows else rows.assign(pretraining="plain"))


def rows_with(advantage, spread=0.05, dims=(2, 8), labels=(20, 40), seed=0):
    """Rows where `fixed` beats `full` by `advantage` on every pair, up to noise of 0.002. Both
    share the luck of the label subset, SD `spread`."""
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
                         "val_accuracy": accuracy, "test_accuracy": accuracy, "chance": 0.1}
                    )  # fmt: skip
    return as_rows(lines)


def test_pairing_removes_the_luck_of_the_subset():
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


def test_tie_counts_as_half_a_win():
    rows = rows_with(0.0, dims=(2,), labels=(20,))
    rows["test_accuracy"] = 0.5
    gains = [0.1, 0.1, 0.2, 0.1, 0.1, -0.1, -0.2, 0.0]
    rows.loc[rows["freeze"] == "fixed", "test_accuracy"] += gains
    table = transfer.differences(rows)
    assert table["probability"].tolist() == [5.5 / 8]
    assert table["difference"].tolist() == pytest.approx([np.mean(gains)])


@pytest.mark.parametrize("compare", [transfer.differences, transfer.against])
def test_pair_that_occurs_twice_is_refused(compare):
    rows = rows_with(0.02)
    again = rows[rows["cell"] == "full-2-20"].assign(cell="another")
    with pytest.raises(StoreError, match="cells another fixed-2-20 full-2-20: ") as refused:
        compare(pd.concat([rows, again], ignore_index=True))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("advantage", "word"),
    [
        (0.02, "better with 20 labels (+1.9"),
        (-0.02, "worse with 20 labels (-"),
        (0.0, "undecided with 20 labels ("),
    ],
)
def test_sentence_follows_the_data(advantage, word):
    sentences = transfer.conclusions(rows_with(advantage))
    assert sentences[1].startswith("“encoder fixed” against “everything trained”")
    assert word in sentences[1]


def test_accuracies_at_chance_are_called_a_bug():
    rows = rows_with(0.02)
    assert not any("chance" in sentence for sentence in transfer.conclusions(rows))
    rows.loc[rows["cell"] == "full-2-20", "test_accuracy"] = 0.1
    assert "1 of 12 cells are at chance" in transfer.conclusions(rows)[-1]


@pytest.mark.parametrize(
    ("classes", "accuracy", "warned"),
    [(2, 0.52, True), (2, 0.73, False), (10, 0.149, True), (10, 0.151, False),
     (100, 0.014, True), (100, 0.04, False)],
)  # fmt: skip
def test_bound_of_chance_follows_the_number_of_classes(classes, accuracy, warned):
    rows = rows_with(0.02).assign(chance=1 / classes, test_accuracy=accuracy)
    assert any("at chance level" in said for said in transfer.conclusions(rows)) == warned


def test_best_classifier_is_chosen_by_validation():
    rows = rows_with(0.02)
    rows.loc[5, "val_accuracy"], rows.loc[6, "test_accuracy"] = 1.0, 1.0
    assert transfer.best_classifier(rows).name == 5


def test_original_56_numbers_are_at_chance():
    theirs = transfer.original()
    assert len(theirs) == 56
    means = theirs.groupby("freeze")["test_accuracy"].mean()
    assert means["fixed"] == pytest.approx(0.1118, abs=5e-5)
    assert means["full"] == pytest.approx(0.0875, abs=5e-5)
    assert "11.18 %" in transfer.original_conclusion(theirs)


def test_unknown_arm_is_drawn_under_its_own_name():
    rows = rows_with(0.02)
    rows.loc[rows["freeze"] == "scratch", ["freeze", "arm"]] = "new-way"
    pixels = pd.DataFrame({"classifier": ["one", "one"], "labels": [20, 40],
                           "label_subset": [0, 0], "test_accuracy": [0.5, 0.6]})  # fmt: skip
    drawn = transfer.draw_by_labels(rows, transfer.summary(rows), pixels)
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert {"new-way", "encoder fixed", "everything trained", "one"} == set(names)


def test_arm_looks_the_same_in_every_panel():
    rows = rows_with(0.02)
    first = rows["latent_dim"].min()
    rows = rows[(rows["latent_dim"] != first) | (rows["freeze"] != "fixed")]
    drawn = transfer.draw_by_labels(rows, transfer.summary(rows), pd.DataFrame())
    legend = drawn.legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == ["encoder fixed", "everything trained", "not pretrained"]
    colours = {}
    for axes in drawn.axes:
        for bars in axes.containers:
            colours.setdefault(bars.get_label(), set()).add(bars[0].get_color())
    assert "encoder fixed" not in [bars.get_label() for bars in drawn.axes[0].containers]
    assert all(len(used) == 1 for used in colours.values())
    assert len(set.union(*colours.values())) == 3


# --- any arms --------------------------------------------------------------------------------

SHIFTS = {
    ("fixed", "plain"): 0.0,
    ("lp-ft", "plain"): 0.02,
    ("propagation", "plain"): 0.2,
    ("scratch", "plain"): -0.1,
    ("fixed", "augmented"): 0.05,
    ("lp-ft", "augmented"): 0.1,
    ("scratch", "augmented"): -0.05,
}


def many_arms(base=0.65, labels=(20, 40), dims=(32,), noise=0.002):
    """Rows whose arms differ from the plain, fixed one by `SHIFTS`, up to noise."""
    draw = np.random.default_rng(3)
    luck = draw.normal(0, 0.05, SUBSETS)
    luck -= luck.mean()
    lines = []
    for dim in dims:
        for count in labels:
            for (freeze, pretraining), shift in SHIFTS.items():
                for replicate in range(SUBSETS):
                    accuracy = base + luck[replicate] + shift + draw.normal(0, noise)
                    scratch = freeze == "scratch"
                    lines.append(
                        {"cell": f"{freeze}-{pretraining}-{dim}-{count}", "latent_dim": dim,
                         "depth": 3, "labels": count, "freeze": freeze, "pretraining": pretraining,
                         "replicate": replicate, "label_subset": replicate,
                         "encoder_replicate": replicate if scratch else replicate % ENCODERS,
                         "encoder_cell": None if scratch else f"encoder-{pretraining}-{dim}",
                         "val_accuracy": accuracy, "test_accuracy": accuracy, "chance": 0.1}
                    )  # fmt: skip
    return as_rows(lines)


def test_arm_joins_freeze_and_pretraining_unless_plain():
    rows = many_arms()
    assert list(dict.fromkeys(rows["arm"]))[:2] == ["fixed", "lp-ft"]
    assert "lp-ft + augmented" in set(rows["arm"])
    assert name_of("lp-ft + augmented") == "probe, then tuned, augmented"
    assert name_of("fixed") == "encoder fixed"
    assert set(rows_with(0.0)["arm"]) == {"fixed", "full", "scratch"}


def test_every_arm_is_paired_with_the_fixed_one():
    table = transfer.against(many_arms()).set_index(["arm", "labels"])
    assert len(table) == 6 * 2
    for (freeze, pretraining), shift in SHIFTS.items():
        arm = freeze if pretraining == "plain" else f"{freeze} + {pretraining}"
        if arm == "fixed":
            continue
        line = table.loc[(arm, 20)]
        assert line["difference"] == pytest.approx(shift, abs=0.003)
        assert line["low"] < line["difference"] < line["high"]
        assert line["high"] - line["low"] < 0.02  # the luck of the subset, SD 0.05, is gone
        assert line["pairs"] == SUBSETS
        assert (line["p_holm"] < 0.05) == (line["low"] > 0 or line["high"] < 0)
        assert f"{freeze}-{pretraining}-32-20" in line["cells"]


def test_arms_without_shared_encoders_compare_by_subset():
    table = transfer.against(many_arms(), "scratch").set_index(["arm", "labels"])
    line = table.loc[("scratch + augmented", 20)]
    assert line["difference"] == pytest.approx(0.05, abs=0.003)
    assert line["interval"] == "95 % Student t"
    assert line["pairs"] == SUBSETS


def test_sentences_compare_each_further_arm():
    sentences = transfer.conclusions(many_arms())
    (lp_ft,) = [s for s in sentences if s.startswith("“probe, then tuned” against")]
    assert "better with 20 labels (+2." in lp_ft
    (worse,) = [s for s in sentences if s.startswith("“not pretrained, augmented” against")]
    assert "worse with 40 labels (-5." in worse
    (best,) = [s for s in sentences if s.startswith("Best arm")]
    assert best.count("“labels propagated”") == 2
    undecided = transfer.conclusions(many_arms(noise=0.2))
    assert any("undecided with 20 labels" in sentence for sentence in undecided)


def test_arms_are_judged_against_targets_on_mnist_only():
    table = transfer.arms_table(many_arms(base=0.75, noise=0.0), "mnist")
    lines = table.set_index(["arm", "labels"])
    assert len(table) == len(SHIFTS) * 2
    for arm, labels, target, verdict in (
        ("fixed", 20, 0.65, "met"),
        ("fixed", 40, 0.74, "undecided"),
        ("lp-ft + augmented", 40, 0.86, "undecided"),
        ("propagation", 20, 0.92, "undecided"),
    ):
        line = lines.loc[(arm, labels)]
        assert line["target"] == target
        assert line["verdict"] == verdict, (arm, labels, line)
        assert line["low"] < line["test_accuracy"] < line["high"]
    assert np.isnan(lines.loc[("lp-ft", 20), "target"])
    assert lines.loc[("lp-ft", 20), "verdict"] == ""
    low = transfer.arms_table(many_arms(base=0.5, noise=0.0), "mnist").set_index(["arm", "labels"])
    assert low.loc[("fixed", 20), "verdict"] == "not met"
    (sentence,) = transfer.target_sentence(table)
    assert sentence.startswith("Of 6 target accuracies")
    elsewhere = transfer.arms_table(many_arms(), "mnist-5k")
    assert elsewhere["target"].isna().all()
    assert transfer.target_sentence(elsewhere) == []


def test_arms_table_takes_the_d_best_in_validation():
    rows = many_arms(dims=(8, 32))
    fixed = (rows["freeze"] == "fixed") & (rows["pretraining"] == "plain")
    rows.loc[fixed & (rows["latent_dim"] == 8), "val_accuracy"] += 0.1
    rows.loc[~fixed & (rows["latent_dim"] == 32), "val_accuracy"] += 0.1
    table = transfer.arms_table(rows, "mnist")
    assert set(table[table["arm"] == "fixed"]["latent_dim"]) == {8}
    assert set(table[table["arm"] != "fixed"]["latent_dim"]) == {32}


def test_figures_take_any_arms_and_tell_them_apart():
    rows = many_arms()
    pixels = pd.DataFrame({"classifier": ["one", "one"], "labels": [20, 40],
                           "label_subset": [0, 0], "test_accuracy": [0.5, 0.6]})  # fmt: skip
    for drawn in (
        transfer.draw_by_labels(rows, transfer.summary(rows), pixels),
        transfer.draw_by_dimension(rows, transfer.summary(rows)),
    ):
        names = [text.get_text() for text in drawn.legends[0].get_texts()]
        assert {name_of(arm) for arm in set(rows["arm"])} <= set(names)
        containers = drawn.axes[0].containers
        looks = {(c[0].get_color(), c[0].get_linestyle(), c[0].get_marker()) for c in containers}
        assert len(looks) == len(SHIFTS)
    drawn = transfer.draw_against(transfer.against(rows))
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == [
        "not pretrained", "probe, then tuned", "labels propagated", "encoder fixed, augmented",
        "not pretrained, augmented", "probe, then tuned, augmented",
    ]  # fmt: skip


# --- verdicts ----------------------------------------------------------------------------------


def drawn_with(p, n=SUBSETS):
    """Differences of `n` pairs whose two-sided p value in a t test is `p`."""
    steps = np.linspace(-1, 1, n)
    steps /= steps.std(ddof=1) / np.sqrt(n)  # a standard error of 1
    return 0.01 * (stats.t.isf(p / 2, n - 1) + steps)


def rows_of_arms(p_values, labels=(20, 40)):
    """Rows of arms without a pretrained encoder, so that label subsets alone are random. Their
    advantage over the first one has these p values at every number of labels."""
    lines = []
    for count in labels:
        for arm, p in p_values.items():
            gain = np.zeros(SUBSETS) if p is None else drawn_with(p)
            for replicate in range(SUBSETS):
                lines.append(
                    {"cell": f"{arm}-{count}", "latent_dim": 2, "depth": 3, "labels": count,
                     "freeze": arm, "replicate": replicate, "label_subset": replicate,
                     "encoder_replicate": replicate, "encoder_cell": None,
                     "val_accuracy": 0.5, "test_accuracy": 0.5 + gain[replicate], "chance": 0.1}
                )  # fmt: skip
    return as_rows(lines)


def test_verdict_uses_the_corrected_p_value():
    rows = rows_of_arms({"fixed": None, "full": 0.03, "lp-ft": 0.002})
    table = transfer.against(rows).set_index(["arm", "labels"])
    line = table.loc[("full", 20)]
    assert line["p"] == pytest.approx(0.03)
    assert line["low"] > 0  # the interval of this comparison alone excludes 0
    assert line["p_holm"] > 0.05
    sentences = transfer.conclusions(rows)
    (pair,) = [s for s in sentences if s.startswith("“encoder fixed” against")]
    assert f"undecided with 20 labels ({-100 * line['difference']:+.1f} [" in pair
    assert pair.count("]; p = 0.06 after Holm's correction)") == 2  # with 20 and 40 labels
    (other,) = [s for s in sentences if s.startswith("“probe, then tuned” against")]
    assert "better with 20 labels" in other and "better with 40 labels" in other
    (basis,) = [s for s in sentences if s.startswith("These are means")]
    assert "in brackets: unadjusted 95 % interval, Student t, n = 8 pairs" in basis
    assert "p < 0.05 after Holm's correction" in basis


def test_pair_without_reference_is_corrected_by_labels():
    rows = rows_of_arms({"scratch": None, "full": 0.03})
    pair = "“everything trained” against “not pretrained” at 100 steps each, in percentage points: "
    assert transfer.conclusions(rows)[1].startswith(f"{pair}undecided with 20 labels")
    one = transfer.conclusions(rows[rows["labels"] == 20])
    assert one[1].startswith(f"{pair}better with 20 labels")


# --- missing cells and single replicates -------------------------------------------------------


def test_shape_without_the_hard_cells_is_not_chosen():
    rows = many_arms(dims=(8, 32))
    easy = (rows["labels"] == 40) & (rows["freeze"] == "fixed")
    rows.loc[easy, "val_accuracy"] += 0.2
    rows.loc[rows["latent_dim"] == 32, "val_accuracy"] += 0.02
    # d = 8 has the easy cell alone: a better mean of fewer cells.
    rows = rows[~((rows["latent_dim"] == 8) & (rows["labels"] == 20))]
    table = transfer.arms_table(rows, "mnist")
    assert set(table["latent_dim"]) == {32}
    assert len(table) == 2 * len(SHIFTS)


def test_one_replicate_has_no_bars():
    rows = many_arms()
    rows = rows[rows["replicate"] == 0]
    against = transfer.against(rows)
    drawn = transfer.draw_against(against)
    assert not any(bars.has_xerr for bars in drawn.axes[0].containers)
    assert against["p_holm"].isna().all()
    drawn = transfer.draw_by_dimension(rows, transfer.summary(rows))
    assert not any(bars.has_yerr for bars in drawn.axes[0].containers)
    said = " ".join(transfer.conclusions(rows))
    assert "nan" not in said
    assert "undecided with 20 labels (+" in said


def test_one_setting_has_the_deepest_encoders():
    rows = many_arms()
    assert len(at_one_setting(rows)) == len(rows)
    assert transfer.setting_words(rows) == ""
    several = pd.concat([rows, rows.assign(asked_batch_size=10, depth=2)])
    assert len(at_one_setting(several)) == len(rows)
    assert "(3 layers), then the least batch size (all labels at once)" in (
        transfer.setting_words(several)
    )


def test_asked_batch_size_differs_from_the_one_used(digits, compute_study, tmp_path):
    """0 asks for all labels at once; the rows have the number that was used."""
    place = {"latent_dim": (2,), "depth": (2,)}
    brief = {"epochs": 1, "width": 4, "replicates": 1}
    arms = {"labels": (20,), "freeze": ("fixed", "propagation"), "batch_size": (0, 10)}
    experiments = [
        override(EXPERIMENTS["autoencoder"], {**place, "batch_size": (64,)}, brief),
        override(EXPERIMENTS["fewshot"], {**place, **arms}, {**brief, "pseudo_epochs": 1}),
    ]
    results = load(compute_study("fewshot", experiments, digits, tmp_path).address)
    configs = {cell["id"]: cell["config"] for cell in results.planned("fewshot")["cells"]}
    rows = transfer.rows_of(results).set_index("cell")
    assert rows["asked_batch_size"].to_dict() == {
        cell: config["batch_size"] for cell, config in configs.items()
    }
    used = {
        (config["freeze"], config["batch_size"]): rows.loc[cell, "batch_size"]
        for cell, config in configs.items()
    }
    assert used.items() >= {("fixed", 0): 20, ("fixed", 10): 10, ("propagation", 0): 256}.items()


# --- decided by looking again and again ----------------------------------------------------------


def with_own_encoders(rows):
    return rows.assign(encoder_replicate=rows["label_subset"])


def test_decisions_use_the_anytime_valid_test():
    rows = with_own_encoders(rows_with(advantage=0.02))
    table = transfer.decision_table(rows, 0.005)
    assert table["arm"].tolist() == ["fixed", "fixed", "full", "full"]
    assert table["interval"].unique().tolist() == ["95 % anytime-valid"]
    means = rows.pivot_table(
        index="label_subset", columns=["freeze", "labels", "latent_dim"], values="test_accuracy"
    )
    values = (means["fixed"][20] - means["full"][20]).mean(axis=1)
    first = table.iloc[0]
    assert first["difference"] == pytest.approx(values.mean())
    assert first["p"] == pytest.approx(sequential_p_value(values))
    assert (table["p_holm"] < 0.05).all()
    sentences = transfer.conclusions(rows, negligible_below=0.005)
    assert "better with 20 labels (+" in sentences[1]
    assert any("stay valid however often one looks" in sentence for sentence in sentences)


def test_differences_too_small_to_matter_are_named():
    rows = with_own_encoders(rows_with(advantage=0.0))
    rows["test_accuracy"] = rows["test_accuracy"].round(2)
    said = transfer.conclusions(rows, negligible_below=0.05)[1]
    assert said.count("no difference that matters") == 2


def test_each_comparison_has_a_panel_with_its_path():
    rows = with_own_encoders(rows_with(advantage=0.02))
    paths = transfer.decision_paths(rows)
    assert len(paths) == 2 * 2 * SUBSETS
    drawn = transfer.draw_decisions(paths, 0.005)
    assert len(drawn.axes) == 4
    line = drawn.axes[0].lines[-1]
    assert line.get_xdata().tolist() == list(range(1, SUBSETS + 1))
    last = paths[(paths["labels"] == 20) & (paths["arm"] == "fixed")]["estimate"].iloc[-1]
    assert line.get_ydata()[-1] == pytest.approx(100 * last)


# --- other steps and rates -----------------------------------------------------------------------


def at_other_steps(gains):
    """Results of arms at 50 and 100 steps, where `fixed` beats `full` by these gains."""
    lines = [
        {"cell": f"{arm}-{steps}", "latent_dim": 14, "depth": 3, "labels": 20, "freeze": arm,
         "pretraining": "plain", "epochs": steps, "replicate": replicate,
         "label_subset": replicate, "encoder_replicate": replicate,
         "val_accuracy": 0.5, "test_accuracy": 0.5 + gain * (arm == "fixed")}
        for arm in ("fixed", "full")
        for steps in (50, 100)
        for replicate, gain in enumerate(gains)
    ]  # fmt: skip
    tables = {"steps": pd.DataFrame(lines)}
    return SimpleNamespace(
        plan={"experiments": []},
        classes=tuple("0123456789"),
        of=lambda name: tables.get(name, pd.DataFrame()),
    )


def test_sensitivity_has_corrected_p_values_beside_p():
    table = transfer.sensitivity(at_other_steps([0.02, 0.03, 0.04]))
    assert list(table) == [
        "latent_dim", "varied", "value", "labels", "difference", "low", "high", "pairs", "interval",
        "p", "p_holm", "fixed", "full", "cells",
    ]  # fmt: skip
    tested = stats.ttest_1samp([0.02, 0.03, 0.04], 0)
    assert table["varied"].tolist() == ["steps", "steps", "tuned"]
    assert table["p_holm"].tolist() == pytest.approx([3 * tested.pvalue] * 3)


def test_sensitivity_of_one_replicate_has_no_interval():
    (said,) = transfer.sensitivity_conclusions(transfer.sensitivity(at_other_steps([0.02])))
    assert "d = 14, 20 labels, n = 1, in percentage points: " in said
    assert ": +2.0 (n = 1, no interval) at 50, +2.0 (n = 1, no interval) at 100 steps: " in said
    assert "steps: undecided at each." in said
    assert "nan" not in said


def test_arm_of_two_cells_at_the_same_steps_is_refused():
    results = at_other_steps([0.02, 0.03])
    steps = results.of("steps")
    again = steps[steps["cell"] == "full-50"].assign(cell="another")
    results.of = lambda name: pd.concat([steps, again]) if name == "steps" else pd.DataFrame()
    with pytest.raises(StoreError, match="cells another fixed-50 full-50: "):
        transfer.sensitivity(results)
