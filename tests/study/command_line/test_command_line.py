"""The smoke preset of the whole assignment, as a user runs it, on a real Ray."""

import pandas as pd
import pytest

from analysis.results import load
from study.store import Store
from trainables.data import load as load_data

pytestmark = [pytest.mark.ray, pytest.mark.slow]

AUTOENCODERS, FEW_SHOT = 2, 2 * 2 * 6
EVERY = AUTOENCODERS + FEW_SHOT + 4 + (1 + 2 + 2 + 3 + 6 + 4)
"""Different cells: the control has 4, the checks 18 that are not on the grids."""
LISTED = EVERY + 1 + 2 + 2
"""Cells of all experiments: of the widths, steps and rates, some are on the grids."""
COMMAND = ["run", "assignment", "--preset", "smoke"]

LARGE = ["ray", "torch", "torchvision", "pandas", "sklearn"]
"""Modules that take longer to import than planning 100,000 cells takes."""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("assignment") / "results"


@pytest.fixture(scope="module")
def finished(out, run_study):
    """The command, run once."""
    ran = run_study(*COMMAND, "--out", out)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.fixture(scope="module")
def results(finished, out):
    return load(out)


def files_of_blocks(out):
    """When each file of each block was written."""
    return {path: path.stat().st_mtime_ns for path in sorted((out / "blocks").rglob("*.*"))}


def test_every_cell_is_done(results, out):
    store = Store(out)
    planned = [cell["id"] for group in results.plan["experiments"] for cell in group["cells"]]
    assert len(planned) == LISTED
    assert len(set(planned)) == EVERY
    assert set(store.blocks()) == set(planned)
    assert store.failures() == {}
    assert results.missing.empty


def test_rows_have_the_promised_columns(results):
    rows = results.rows
    assert len(rows) == 2 * LISTED
    assert {
        "experiment", "cell", "replicate", "seed", "latent_dim", "depth", "batch_size", "epochs",
        "parameters", "train_seconds", "val_mse", "test_mse", "freeze", "labels", "label_subset",
        "encoder_cell", "encoder_replicate", "test_accuracy",
    } <= set(rows.columns)  # fmt: skip
    common = ["seed", "latent_dim", "depth", "batch_size", "epochs", "parameters", "train_seconds"]
    with_code = rows[rows["experiment"] != "supervised"]
    assert with_code[common].notna().all(axis=None)
    assert (rows["train_seconds"] > 0).all()

    autoencoders, few_shot = results.of("autoencoder"), results.of("fewshot")
    assert len(autoencoders) == 2 * AUTOENCODERS
    assert autoencoders[["val_mse", "test_mse"]].notna().all(axis=None)
    assert sorted(set(autoencoders["latent_dim"])) == [2, 8]
    assert len(few_shot) == 2 * FEW_SHOT
    assert few_shot["test_accuracy"].between(0, 1).all()
    assert sorted(set(few_shot["label_subset"])) == [0, 1]
    pretrained = few_shot[few_shot["freeze"] != "scratch"]
    assert set(pretrained["encoder_cell"]) == set(autoencoders["cell"])
    assert few_shot[few_shot["freeze"] == "scratch"]["encoder_cell"].isna().all()


def test_stored_models_give_the_stored_numbers(results):
    import torch

    images = results.test_images.float() / 255
    for cell, rows in results.of("autoencoder").groupby("cell"):
        models = results.autoencoders(cell)
        with torch.no_grad():
            errors = [(model(images) - images).square().mean().item() for model in models]
        assert errors == pytest.approx(rows["test_mse"].tolist(), abs=1e-6)
    for cell, rows in results.of("fewshot").groupby("cell"):
        right = results.predictions(cell) == results.test_labels.numpy()
        assert right.mean(axis=1) == pytest.approx(rows["test_accuracy"].to_numpy(), abs=1e-6)


def test_results_have_the_studys_data(results):
    assert results.plan["dataset"] == "mnist-5k"
    assert results.plan["fingerprint"] == load_data("mnist-5k").fingerprint
    assert results.dataset.name == "mnist-5k"


def test_trial_leaves_one_file_for_tensorboard(results, out):
    boards = list((out / "tune").rglob("events.out.tfevents.*"))
    assert all(path.stat().st_size > 100 for path in boards)
    # Short blocks travel together, and the file has the name of the first.
    names = [path.parent.name.partition("_")[2] for path in boards]
    further = [
        int(name.split("_and_")[1].removesuffix("_more")) for name in names if "_and_" in name
    ]
    assert len(boards) + sum(further) == EVERY
    assert {name.partition(".")[0] for name in names} <= set(results.rows["cell"])
    assert not list((out / "tune").rglob("result.json"))


def test_piped_output_has_event_lines_and_no_ray_noise(finished):
    lines = finished.stdout.splitlines()
    assert sum(line.startswith("autoencoder: done ") for line in lines) == AUTOENCODERS
    assert sum(line.startswith("fewshot: done ") for line in lines) == FEW_SHOT
    assert any(f"[{EVERY} done, 0 failed, 0 running of {EVERY}; best" in x for x in lines)
    assert "\x1b" not in finished.stdout
    for noise in ("(raylet)", "pid=", "INFO", "WARNING", "Traceback", "FutureWarning", "Trial "):
        assert noise not in finished.stdout + finished.stderr


def test_planning_and_finished_runs_import_nothing_large(finished, out, run_study):
    for arguments in (["plan", *COMMAND[1:]], COMMAND):
        ran = run_study(*arguments, "--out", out, without=LARGE)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "fewshot: 24 cells, 24 done, 0 missing; 48 replicates, 0 missing" in ran.stdout


def test_second_time_nothing_is_computed(finished, out, run_study):
    before, tune = files_of_blocks(out), sorted((out / "tune").iterdir())
    again = run_study(*COMMAND, "--out", out, without=["ray"])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "autoencoder: 2 cells, 2 done, 0 missing; 4 replicates, 0 missing" in again.stdout
    assert "nothing to compute" in again.stdout
    assert "starting Ray" not in again.stdout
    assert files_of_blocks(out) == before
    assert sorted((out / "tune").iterdir()) == tune
    assert "(up to date)" in again.stdout


def test_existing_replicates_are_reused(finished, out, run_study):
    """Two, then four, then three. `test_launch` compares 2 + 2 with 4 at once."""
    before = files_of_blocks(out)
    first_two = dict.fromkeys(sorted(Store(out).blocks()), 2)
    rows_before = Store(out).rows(first_two)
    # A report takes as long as all the rest, and has its own tests.
    command = ["run", "autoencoder", "--preset", "smoke", "--no-report", "--out"]
    more = run_study(*command, out, "--replicates", 4)
    assert more.returncode == 0, more.stdout + more.stderr
    assert "autoencoder: 2 cells, 0 done, 2 missing; 8 replicates, 4 missing" in more.stdout
    after = files_of_blocks(out)
    assert {path: after[path] for path in before} == before
    pd.testing.assert_frame_equal(Store(out).rows(first_two), rows_before, check_exact=True)
    fewer = run_study(*command, out, "--replicates", 3, without=["ray"])
    assert "autoencoder: 2 cells, 2 done, 0 missing; 6 replicates, 0 missing" in fewer.stdout
    assert "nothing to compute" in fewer.stdout
    assert files_of_blocks(out) == after


def test_grown_grid_computes_only_the_new_cells(finished, out, run_study):
    """Runs last: it leaves the larger study in the folder."""
    before = files_of_blocks(out)
    options = ["--out", out, "--latent-dims", 2, 3, 8, "--no-report"]
    at_its_end = "import atexit; atexit.register(lambda: print('torch', 'torch' in sys.modules))"
    grown = run_study(*COMMAND, *options, first=at_its_end)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    assert "torch False" in grown.stdout  # the driver computes nothing
    assert "autoencoder: 3 cells, 2 done, 1 missing; 6 replicates, 2 missing" in grown.stdout
    assert "fewshot: 36 cells, 24 done, 12 missing; 72 replicates, 24 missing" in grown.stdout
    lines = grown.stdout.splitlines()
    # Its two replicates take seconds, so it isn't divided among workers.
    assert sum(line.startswith("autoencoder: done ") for line in lines) == 1
    assert sum(line.startswith("fewshot: done ") for line in lines) == 12
    after = files_of_blocks(out)
    assert {path: after[path] for path in before} == before
    results = load(out)
    assert len(results.rows) == 2 * (LISTED + 1 + 12)
    added = {path.parent.name for path in set(after) - set(before)}
    assert set(results.rows[results.rows["latent_dim"] == 3]["cell"]) == added
    assert len(added) == 1 + 12
