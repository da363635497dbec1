"""Reports of studies that are not as they should be: cells that failed, models that collapsed,
one replicate alone, several networks where one was expected."""

import re
import shutil

import pandas as pd
import pytest

from analysis import report, transfer
from analysis.results import load
from study.experiments import EXPERIMENTS
from study.grid import override, plan, record
from study.store import Store
from trainables.contract import Outcome

pytestmark = pytest.mark.slow

TINY = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 4, "encoder_epochs": 2, "width": 4, "replicates": 2},
}


@pytest.fixture(scope="module")
def study(digits, compute_cell, tmp_path_factory):
    """A finished study with these axes by experiment, computed without Ray: its folder."""

    def compute(axes, **fixed):
        experiments = [
            override(EXPERIMENTS[name], of_it, {**TINY[name], **fixed})
            for name, of_it in axes.items()
        ]
        groups = plan(experiments, digits.fingerprint)
        store = Store(tmp_path_factory.mktemp("study"))
        store.create()
        store.write_plan(record("study", "study run", digits, None, experiments, groups))
        for cell in [cell for cells in groups for cell in cells]:
            compute_cell(cell, digits, store)
        return store.folder

    return compute


def sentences(folder, section):
    table = pd.read_csv(folder / "report" / "tables" / "conclusions.csv")
    return table[table["section"] == section]["sentence"].tolist()


def table(folder, name):
    return pd.read_csv(folder / "report" / "tables" / f"{name}.csv")


# --- cells that failed -------------------------------------------------------------------------


def test_one_failed_autoencoder_leaves_a_report_whose_slope_is_over_the_other_settings(study):
    axes = {"latent_dim": (2, 8), "depth": (2, 3), "batch_size": (64, 128)}
    folder = study({"autoencoder": axes})
    rows = load(folder).rows
    gone = rows.query("latent_dim == 8 and depth == 3 and batch_size == 64")
    shutil.rmtree(folder / "cells" / gone["cell"].iloc[0])
    report.write(folder)
    (slope,) = [s for s in sentences(folder, "reconstruction") if "a doubling" in s]
    # Two replicates, not the eight of depth x batch size x replicate.
    assert "Student t over the slope of each group, n = 2)" in slope
    assert "over the 3 of 4 settings" in slope


# --- models that collapsed ---------------------------------------------------------------------


def collapse(folder, latent_dim, replicates):
    """Set the code layer of these replicates to 0: every image has the same code."""
    results = load(folder)
    rows = results.of("autoencoder")
    cell = rows[rows["latent_dim"] == latent_dim]["cell"].iloc[0]
    config, weights = results.store.config(cell), results.store.weights(cell)
    for replicate in replicates:
        for name in ("encoder.code.weight", "encoder.code.bias"):
            weights[name][replicate] = 0
    history = results.store.history([cell]).drop(columns="cell").to_dict("records")
    mine = rows[rows["cell"] == cell].drop(columns=["experiment", "cell"]).to_dict("records")
    shutil.rmtree(folder / "cells" / cell)
    outcome = Outcome(mine, history, weights=weights)
    results.store.write(cell, config, None, outcome, PROVENANCE)


PROVENANCE = {"code": "test", "device": "test", "host": "test", "threads": 1, "torch": "test",
              "started": 0.0, "seconds": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("latent_dim", "replicates", "trend", "left_out"),
    [
        (8, [0, 1], "Too few models have codes that vary", "2 of 4 models (d = 8)"),
        # Replicate 0 is the one whose pictures and whose plane are shown.
        (2, [0], "(n = 1, no interval)", "1 of 4 models (d = 2)"),
    ],
)
def test_models_whose_code_never_varies_are_left_out_and_counted(
    small_results, tmp_path, latent_dim, replicates, trend, left_out
):
    folder = tmp_path / "results"
    shutil.copytree(small_results.store.folder, folder)
    collapse(folder, latent_dim, replicates)
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


def test_one_replicate_has_values_and_no_intervals(study):
    folder = study(
        {
            "autoencoder": {"latent_dim": (2, 8), "depth": (2, 3), "batch_size": (64,)},
            "fewshot": {"latent_dim": (2, 8), "depth": (3,), "labels": (20,)},
        },
        replicates=1,
    )
    report.write(folder)
    said = table(folder, "conclusions")["sentence"].tolist()
    assert not [s for s in said if re.search(r"\bnan\b", s)]
    assert not [s for s in said if "beats" in s or "includes 0" in s]
    assert sum("(n = 1, no interval)" in s for s in said) >= 8


# --- several networks --------------------------------------------------------------------------


def test_few_shot_with_two_depths_and_two_batch_sizes_has_a_report_at_one_of_each(study):
    axes = {"latent_dim": (2,), "depth": (2, 3), "labels": (20, 40), "batch_size": (20, 10)}
    folder = study(
        {
            "autoencoder": {"latent_dim": (2,), "depth": (2, 3), "batch_size": (64,)},
            "fewshot": {**axes, "freeze": ("fixed", "full", "scratch", "propagation")},
        },
        pseudo_epochs=1,
    )
    text = report.write(folder).read_text()
    assert text.count("the deepest encoders (3 layers), then the least batch size (10)") >= 4
    rows = transfer.rows_of(load(folder))
    shown = transfer.at_one_setting(rows)
    assert set(shown["arm"]) == {"fixed", "full", "scratch", "propagation"}
    assert len(shown) == len(rows) / 4
    # Every setting has its own line, and what is paired is of one setting.
    assert len(table(folder, "transfer_differences")) == 2 * 2 * 2
    against = table(folder, "transfer_against_fixed")
    assert len(against) == 3 * 2
    assert (against["pairs"] == 2).all()
    assert set(" ".join(against["cells"]).split()) == set(shown["cell"])
    # Codes don't depend on the batch size; those of two depths are of two encoders.
    baselines = table(folder, "transfer_code_baselines")
    assert len(baselines) == 2 * 2 * 2
    assert (baselines["subsets"] == 2).all()
    assert set(baselines["depth"]) == {2, 3}
    assert len(table(folder, "transfer_original")) == 56
