"""The report of a study with every few-shot arm, computed without Ray."""

import dataclasses

import pandas as pd
import pytest

from analysis import report
from analysis.results import load
from study.experiments import STUDIES, members
from study.grid import override
from trainables.data import load as load_data
from trainables.fewshot.settings import FREEZE

AXES = {"latent_dim": (4,), "depth": (2,), "labels": (20, 40)}
FIXED = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2, "contrastive_updates": 7},
    "fewshot": {"epochs": 20, "width": 4, "replicates": 3, "views": 4, "pseudo_epochs": 1,
                "encoders": 0},
    "supervised": {"epochs": 20, "width": 4, "replicates": 3, "views": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(compute_study, tmp_path_factory):
    experiments = [override(e, AXES, FIXED[e.name]) for e in members("few-labels")]
    folder = tmp_path_factory.mktemp("few-labels")
    compute_study("few-labels", experiments, load_data("digits"), folder, STUDIES["few-labels"])
    report.write(folder)
    return load(folder)


def table(results, name):
    return pd.read_csv(results.store.place.where(f"report/tables/{name}.csv"))


def test_every_arm_is_in_one_table_with_its_interval(results):
    arms = table(results, "transfer_arms")
    # Three kinds of pretraining; the supervised network has two.
    assert len(arms) == (3 * len(FREEZE) + 2) * 2
    assert arms["arm"].nunique() == 3 * 9 + 2
    means = results.rows.groupby("cell")["test_accuracy"].mean()
    for _, line in arms.iterrows():
        assert line["test_accuracy"] == pytest.approx(means[line["cells"]])
        assert line["low"] < line["test_accuracy"] < line["high"]
        assert line["n"] == 3


def test_every_other_arm_is_paired_with_the_fixed_one(results):
    compared = table(results, "transfer_against_fixed")
    assert len(compared) == 28 * 2
    assert (compared["pairs"] == 3).all()


def test_arms_share_subsets_and_encoders_per_pretraining(results):
    rows = results.of("fewshot")
    pretrained = rows[rows["freeze"] != "scratch"]
    assert len(pretrained.drop_duplicates(["pretraining", "encoder_cell"])) == 3
    for _, group in rows.groupby(["freeze", "pretraining", "labels"]):
        assert group["label_subset"].tolist() == [0, 1, 2]


def test_reconstruction_shows_plain_autoencoders_only(results):
    assert len(results.cells("autoencoder")) == 3
    shown = table(results, "reconstruction")
    (plain,) = results.with_plain_autoencoders().cells("autoencoder")
    assert shown["cells"].tolist() == [plain]
    assert results.store.config(plain)["augment"] == 0


def test_autoencoders_alone_all_count_as_plain(results):
    """The winner of a search may use noise though nothing builds on it."""
    alone = [e for e in results.plan["experiments"] if e["name"] == "autoencoder"]
    searched = dataclasses.replace(results, plan={**results.plan, "experiments": alone})
    assert len(searched.with_plain_autoencoders().cells("autoencoder")) == 3


def test_supervised_network_is_an_arm_without_dimension(results):
    arms = table(results, "transfer_arms").set_index("arm")
    assert arms.loc["supervised", "latent_dim"].tolist() == [0, 0]
    found = results.of("supervised").query("augment == 0 and labels == 20")["test_accuracy"].mean()
    assert arms.loc["supervised", "test_accuracy"].iloc[0] == pytest.approx(found)
    compared = table(results, "transfer_against_fixed").set_index("arm")
    fixed = results.of("fewshot").query("freeze == 'fixed' and pretraining == 'plain'")
    fixed = fixed[fixed["labels"] == 20].sort_values("label_subset")["test_accuracy"].to_numpy()
    other = results.of("supervised").query("augment == 0 and labels == 20")
    other = other.sort_values("label_subset")["test_accuracy"].to_numpy()
    line = compared.loc["supervised"].iloc[0]
    assert line["difference"] == pytest.approx((other - fixed).mean())
    assert line["interval"] == "95 % Student t"  # every replicate has an encoder of its own


def test_best_arms_show_what_unlabelled_images_add(results):
    added = table(results, "transfer_unlabelled")
    assert added["labels"].tolist() == [20, 40]
    assert set(added["without"]) <= {
        "scratch",
        "supervised",
        "scratch + augmented",
        "supervised + augmented",
    }
    assert not set(added["with"]) & set(added["without"])
    assert (added["pairs"] == 3).all()
