"""The report of a study with every few-shot arm, computed without Ray."""

import dataclasses

import pandas as pd
import pytest

from analysis import report
from analysis.results import load
from study.experiments import STUDIES, members
from study.grid import override
from trainables.settings.fewshot import FREEZE, PRETRAINING

AXES = {"latent_dim": (4,), "depth": (2,), "labels": (20, 40)}
FIXED = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 20, "encoder_epochs": 4, "width": 4, "replicates": 3, "views": 4,
                "pseudo_epochs": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(digits, compute_study, tmp_path_factory):
    experiments = [override(e, AXES, FIXED[e.name]) for e in members("few-labels")]
    folder = tmp_path_factory.mktemp("few-labels")
    compute_study("few-labels", experiments, digits, folder, STUDIES["few-labels"])
    report.write(folder)
    return load(folder)


def table(results, name):
    return pd.read_csv(results.store.place.where(f"report/tables/{name}.csv"))


def test_every_arm_is_in_one_table_with_its_interval(results):
    arms = table(results, "transfer_arms")
    assert len(arms) == len(FREEZE) * len(PRETRAINING) * 2
    assert arms["arm"].nunique() == 10
    means = results.of("fewshot").groupby("cell")["test_accuracy"].mean()
    for _, line in arms.iterrows():
        assert line["test_accuracy"] == pytest.approx(means[line["cells"]])
        assert line["low"] < line["test_accuracy"] < line["high"]
        assert line["n"] == 3


def test_every_other_arm_is_paired_with_the_fixed_one(results):
    compared = table(results, "transfer_against_fixed")
    assert len(compared) == 9 * 2
    assert (compared["pairs"] == 3).all()


def test_arms_share_label_subsets_and_those_of_one_pretraining_their_encoders(results):
    rows = results.of("fewshot")
    pretrained = rows[rows["freeze"] != "scratch"]
    assert len(pretrained.drop_duplicates(["pretraining", "encoder_cell"])) == 2
    for _, group in rows.groupby(["freeze", "pretraining", "labels"]):
        assert group["label_subset"].tolist() == [0, 1, 2]


def test_autoencoders_that_saw_augmented_images_are_no_answer_to_the_first_question(results):
    assert len(results.cells("autoencoder")) == 2
    shown = table(results, "reconstruction")
    (plain,) = results.without_augmented().cells("autoencoder")
    assert shown["cells"].tolist() == [plain]
    assert results.store.config(plain)["augment"] == 0


def test_an_autoencoder_with_noise_that_nothing_builds_on_is_one_like_the_others(results):
    """As the winner of a search may be."""
    alone = [e for e in results.plan["experiments"] if e["name"] == "autoencoder"]
    searched = dataclasses.replace(results, plan={**results.plan, "experiments": alone})
    assert len(searched.without_augmented().cells("autoencoder")) == 2


def test_codes_of_both_kinds_of_encoders_have_baselines_of_their_own(results):
    baselines = table(results, "transfer_code_baselines")
    assert set(baselines["pretraining"]) == set(PRETRAINING)
    assert len(baselines) == 2 * 2 * 2
