"""Reports of incomplete studies: failed cells, collapsed models, a single replicate, several
networks where one was expected."""

import re

import pandas as pd
import pytest
import torch

from analysis import report, transfer
from analysis.results import load
from analysis.transfer.arms import at_one_setting
from study.experiments import EXPERIMENTS
from study.grid import override
from study.store import Block
from trainables.contract import Outcome

pytestmark = pytest.mark.slow

TINY = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 4, "width": 4, "replicates": 2},
    "rotation": {"epochs": 1, "width": 4, "replicates": 2},
}


@pytest.fixture(scope="module")
def compute_folder(digits, compute_study, tmp_path_factory):
    """Compute a study with these axes by experiment, without Ray; its folder."""

    def compute(axes, **fixed):
        experiments = [
            override(EXPERIMENTS[name], of_it, {**TINY[name], **fixed})
            for name, of_it in axes.items()
        ]
        folder = tmp_path_factory.mktemp("study")
        compute_study("study", experiments, digits, folder)
        return folder

    return compute


def sentences(folder, section):
    table = pd.read_csv(folder / "report" / "tables" / "conclusions.csv")
    return table[table["section"] == section]["sentence"].tolist()


def table(folder, name):
    return pd.read_csv(folder / "report" / "tables" / f"{name}.csv")


# --- cells that failed -------------------------------------------------------------------------


def test_slope_leaves_out_settings_with_a_missing_cell(compute_folder, remove_cell):
    axes = {"latent_dim": (2, 8), "depth": (2, 3), "batch_size": (64, 128)}
    folder = compute_folder({"autoencoder": axes})
    rows = load(folder).rows
    gone = rows.query("latent_dim == 8 and depth == 3 and batch_size == 64")
    remove_cell(folder, gone["cell"].iloc[0])
    report.write(folder)
    (slope,) = [s for s in sentences(folder, "reconstruction") if "a doubling" in s]
    # Two replicates, not the eight of depth x batch size x replicate.
    assert "Student t over the slope of each group, n = 2)" in slope
    assert "over the 3 of 4 settings" in slope


# --- cells with different numbers of replicates ------------------------------------------------


def test_encoders_may_have_more_replicates_than_others(digits, compute_study, tmp_path):
    autoencoders = {"depth": (2,), "batch_size": (64,), "latent_dim": (2, 8)}
    classifiers = {"depth": (2,), "latent_dim": (8,), "labels": (20,), "freeze": ("fixed", "full")}
    experiments = [
        override(EXPERIMENTS["autoencoder"], autoencoders, TINY["autoencoder"]),
        override(
            EXPERIMENTS["fewshot"], classifiers, {**TINY["fewshot"], "replicates": 4, "encoders": 3}
        ),
    ]
    compute_study("study", experiments, digits, tmp_path)
    report.write(tmp_path)
    results = load(tmp_path)
    assert results.of("autoencoder").groupby("latent_dim").size().to_dict() == {2: 2, 8: 3}
    fewshot = results.of("fewshot")
    assert fewshot["encoder_replicate"].tolist() == [0, 1, 2, 0] * 2
    shown = table(tmp_path, "reconstruction").set_index("latent_dim")
    assert shown["replicates"].to_dict() == {2: 2, 8: 3}
    # The two d are compared over the two replicates that both have.
    assert "n = 2)" in sentences(tmp_path, "correlation")[0]
    assert all("n = 3" not in said for said in sentences(tmp_path, "interpolation"))
    (slope,) = [s for s in sentences(tmp_path, "reconstruction") if "a doubling" in s]
    assert "n = 2)" in slope
    page = (tmp_path / "report" / "index.html").read_text()
    assert "at α = 0.5, over 2 or 3 replicates" in page.replace("\n", " ")


# --- models that collapsed ---------------------------------------------------------------------


def collapse(folder, remove_cell, latent_dim, replicates):
    """Set the code layer of these replicates to 0: every image has the same code."""
    results = load(folder)
    store, rows = results.store, results.of("autoencoder")
    cell = rows[rows["latent_dim"] == latent_dim]["cell"].iloc[0]
    models = store.weights(cell, range(2))
    for replicate in replicates:
        for name in ("encoder.code.weight", "encoder.code.bias"):
            models[replicate][name] = torch.zeros_like(models[replicate][name])
    config, provenance = store.config(cell), store.provenance([cell])[0]
    history = store.history({cell: 2}).drop(columns="cell").to_dict("records")
    mine = rows[rows["cell"] == cell].drop(columns=["experiment", "cell"]).to_dict("records")
    weights = {name: torch.stack([models[r][name] for r in range(2)]) for name in models[0]}
    remove_cell(folder, cell)
    outcome = Outcome(mine, history, weights=weights)
    store.write_block(Block(cell, range(2)), config, None, outcome, provenance)


@pytest.mark.parametrize(
    ("latent_dim", "replicates", "trend", "left_out"),
    [
        (8, [0, 1], "Too few models have codes that vary", "2 of 4 models (d = 8)"),
        # The pictures and the plane shown are those of replicate 0.
        (2, [0], "(n = 1, no interval)", "1 of 4 models (d = 2)"),
    ],
)
def test_collapsed_models_are_left_out_and_counted(
    results_copy, remove_cell, latent_dim, replicates, trend, left_out
):
    folder = results_copy
    collapse(folder, remove_cell, latent_dim, replicates)
    report.write(folder)
    said = sentences(folder, "correlation")
    assert trend in said[0]
    assert said[-1].startswith(f"Left out: {left_out}")
    lines = table(folder, "correlation").set_index(["latent_dim", "measure"])
    line = lines.loc[(latent_dim, "mean_absolute_off_diagonal")]
    assert (line["replicates"], line["left_out"]) == (2 - len(replicates), len(replicates))
    assert pd.isna(line["mean"]) == (len(replicates) == 2)
    between = sentences(folder, "interpolation")
    assert f"{len(replicates)} of 4 models of d = 2 and 8" in between[-1]
    assert not [s for s in said + between if re.search(r"\bnan\b|\binf\b", s)]


# --- one replicate -----------------------------------------------------------------------------


def test_one_replicate_has_values_and_no_intervals(compute_folder):
    """Captions mention no bars either."""
    folder = compute_folder(
        {
            "autoencoder": {"latent_dim": (2, 8), "depth": (2, 3), "batch_size": (64,)},
            "fewshot": {"latent_dim": (2, 8), "depth": (3,), "labels": (20,)},
            "rotation": {"depth": (2,), "loss": ("absolute", "cosine")},
        },
        replicates=1,
    )
    captions = re.findall(r"<figcaption>.*?</span> (.*?)<", report.write(folder).read_text(), re.S)
    of_images = ("intervals over images", "Circular", "Functions")
    assert not [c for c in captions if "95 %" in c and not any(word in c for word in of_images)]
    assert sum("one model each, so no interval" in c for c in captions) >= 10
    said = table(folder, "conclusions")["sentence"].tolist()
    assert not [s for s in said if re.search(r"\bnan\b", s)]
    assert not [s for s in said if "beats" in s or "includes 0" in s]
    assert sum("(n = 1, no interval)" in s for s in said) >= 8


# --- several networks --------------------------------------------------------------------------


def test_report_shows_few_shot_at_one_depth_and_batch(compute_folder):
    axes = {"latent_dim": (2,), "depth": (2, 3), "labels": (20, 40), "batch_size": (20, 10)}
    folder = compute_folder(
        {
            "autoencoder": {"latent_dim": (2,), "depth": (2, 3), "batch_size": (64,)},
            "fewshot": {**axes, "freeze": ("fixed", "full", "scratch", "propagation")},
        },
        pseudo_epochs=1,
    )
    text = report.write(folder).read_text()
    assert text.count("the deepest encoders (3 layers), then the least batch size (10)") >= 4
    rows = transfer.rows_of(load(folder))
    shown = at_one_setting(rows)
    assert set(shown["arm"]) == {"fixed", "full", "scratch", "propagation"}
    assert len(shown) == len(rows) / 4
    # Every setting has its own line; pairs are within one setting.
    assert len(table(folder, "transfer_differences")) == 2 * 2 * 2
    against = table(folder, "transfer_against_fixed")
    assert len(against) == 3 * 2
    assert (against["pairs"] == 2).all()
    assert set(" ".join(against["cells"]).split()) == set(shown["cell"])
    assert len(table(folder, "transfer_original")) == 56
