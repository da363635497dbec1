"""Exported models: chosen on validation images, with the study's numbers, for torch alone."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from PIL import Image
from safetensors.torch import load as load_weights

from analysis import export
from analysis.model_card import ACCURACY, ERROR, markdown
from analysis.results import load
from analysis.statistics import mean_interval
from analysis.transfer import rows_of
from study.__main__ import main
from study.experiments import EXPERIMENTS
from study.grid import override
from study.store import Block, Store
from trainables.contract import Outcome
from trainables.data import load as load_data
from trainables.data import pixels
from trainables.fewshot.settings import FREEZE, HEADS

AXES = {
    "autoencoder": {"latent_dim": (2, 4), "depth": (2,), "batch_size": (64,)},
    "fewshot": {"latent_dim": (4,), "depth": (2,), "labels": (20,), "freeze": FREEZE},
    "supervised": {"labels": (20, 40), "augment": (0.0, 1.0)},
}
FIXED = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 10, "width": 4, "replicates": 2, "pseudo_epochs": 1},
    "supervised": {"epochs": 10, "width": 4, "replicates": 2},
}
NASTY = 'a|b <img src=x> [c](d) `e` "f": *g*'
"""Name of a class, that is, of a folder of images."""


def experiments(axes=AXES):
    return [override(EXPERIMENTS[name], axes[name], FIXED[name]) for name in axes]


@pytest.fixture(scope="module")
def results(compute_study, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "results"
    return load(compute_study("assignment", experiments(), digits, folder).address)


@pytest.fixture(scope="module")
def exported(results, tmp_path_factory):
    """The folder with the models of `results`."""
    folder = tmp_path_factory.mktemp("exported") / "models"
    export.write(results.store.address, folder)
    return folder


def load_program(content, tmp_path):
    path = tmp_path / "network.pt2"
    path.write_bytes(content)
    return torch.export.load(path).module()


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


# --- the choice --------------------------------------------------------------------------------


@pytest.mark.parametrize(("measure", "sign"), [(ERROR, 1), (ACCURACY, -1)])
def test_choice_follows_validation_not_test(measure, sign):
    validation = [0.30, 0.34, 0.10, 0.50, 0.31, 0.31]  # means 0.32, 0.30, 0.31
    test = [0.10, 0.10, 0.60, 0.60, 0.50, 0.40]
    rows = pd.DataFrame(
        {
            "cell": list("aabbcc"),
            "replicate": [0, 1] * 3,
            f"val_{measure.column}": [sign * value for value in validation],
            f"test_{measure.column}": [sign * value for value in test],
        }
    )
    groups = list(export.by_validation(rows, measure))
    assert [group["cell"].iloc[0] for group in groups] == ["b", "c", "a"]
    assert [group["replicate"].tolist() for group in groups] == [[0, 1], [0, 1], [0, 1]]
    swapped = rows.iloc[::-1]
    assert next(iter(export.by_validation(swapped, measure)))["replicate"].tolist() == [0, 1]


def test_best_cells_are_exported(results, exported):
    card = (exported / "README.md").read_text()
    rows = pd.concat([rows_of(results), results.of("autoencoder")])
    rows = rows[~rows["freeze"].isin(HEADS)]
    means = rows.groupby("cell")[["val_mse", "val_accuracy", "labels"]].mean()
    chosen = re.findall(r"\| ([0-9a-f]{16}), replicate (\d) \|", card)
    wanted = [
        means["val_mse"].idxmin(),
        *(means[means["labels"] == labels]["val_accuracy"].idxmax() for labels in (20, 40)),
    ]
    assert [cell for cell, _ in chosen] == wanted
    values = [row["metrics"][0]["value"] for row in front_matter(card)["model-index"][0]["results"]]
    for (cell, replicate), value, column in zip(
        chosen, values, ["mse", *["accuracy"] * 2], strict=True
    ):
        group = rows[rows["cell"] == cell].set_index("replicate")
        best = (
            group[f"val_{column}"].idxmin()
            if column == "mse"
            else (group[f"val_{column}"].idxmax())
        )
        assert int(replicate) == best
        assert value == group.loc[best, f"test_{column}"]
        interval = mean_interval(group[f"test_{column}"]).within(0, 1)
        scale = (4, 1.0, "") if column == "mse" else (1, 100.0, " %")
        assert f"| {interval.text(*scale)} | 2 | {cell}, replicate {replicate} |" in card


# --- the programs ------------------------------------------------------------------------------


def test_exported_autoencoder_matches_the_stored_one(results, exported):
    row = next(iter(export.by_validation(results.of("autoencoder"), ERROR))).iloc[0]
    (model,) = results.autoencoders(row["cell"], [row["replicate"]])
    encode, decode = (
        torch.export.load(exported / f"{n}.pt2").module() for n in ("encoder", "decoder")
    )
    images = pixels(results.test_images)
    for count in (1, 2, 7, 1000):
        codes = encode(images[:count])
        assert codes.shape == (count, row["latent_dim"]) and not codes.requires_grad
        torch.testing.assert_close(codes, model.encoder(images[:count]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decode(codes), model.decoder(codes), rtol=1e-4, atol=1e-5)
    error = (decode(encode(images)) - images).square().mean().item()
    assert error == pytest.approx(row["test_mse"], abs=1e-6)
    weights = load_weights((exported / "encoder.safetensors").read_bytes())
    assert weights.keys() == model.encoder.state_dict().keys()
    assert all(torch.equal(weights[n], v) for n, v in model.encoder.state_dict().items())


@pytest.mark.parametrize("arm", [*(arm for arm in FREEZE if arm not in HEADS), "supervised"])
def test_each_arms_classifier_is_retrained_bit_for_bit(arm, results, tmp_path):
    rows = rows_of(results)
    rows = rows[(rows["freeze"] == arm) & (rows["labels"] == 20)]
    group = next(iter(export.by_validation(rows, ACCURACY)))
    model, stored = export.classifier(results, group), group.iloc[0]
    assert "; 1000 of 1000 test predictions are the stored ones" in model.origin
    for split in ("val", "test"):
        assert model.score(split) == stored[f"{split}_accuracy"]
    classify = load_program(model.files["classifier-20-labels.pt2"], tmp_path)
    scores = classify(pixels(results.test_images))
    assert scores.shape == (1000, 10) and not scores.requires_grad
    predicted = scores.argmax(dim=1).numpy()
    # Other batches round differently: a tie or two may be broken the other way.
    stored_predictions = results.predictions(stored["cell"], [stored["replicate"]])[0]
    assert (predicted != stored_predictions).sum() <= 2
    weights = load_weights(model.files["classifier-20-labels.safetensors"])
    assert (
        sum(
            v.numel()
            for n, v in weights.items()
            if "running" not in n and "num_" not in n and "standardise" not in n
        )
        == stored["parameters"]
    )


def test_head_that_is_no_network_is_left_out_by_name(results):
    rows = rows_of(results)
    support = rows["freeze"] == "svm"
    rows = rows.assign(val_accuracy=rows["val_accuracy"].mask(support, 1.0))
    lines = []
    changed = type(results)(results.store, results.plan, results.damaged, results.source)
    changed.__dict__["_tables"] = {"fewshot": rows[rows["labels"] == 20].drop(columns="chance")}
    (model,) = export.best_models(changed, lines)
    assert model.row["freeze"] not in HEADS
    (line,) = lines
    assert line.startswith(f"cell {rows[support]['cell'].iloc[0]}: support vector machine on codes")
    assert line.endswith(": its head is no network")


def test_programs_hold_no_path_of_this_machine(exported):
    for file in exported.glob("*.pt2"):
        assert b"/site-packages/" not in file.read_bytes()
        assert str(Path(export.__file__).parents[1]).encode() not in file.read_bytes()


# --- a fresh environment -----------------------------------------------------------------------


def with_requirements(name, found):
    """The distributions that this one needs, including itself."""
    if name in found:
        return found
    try:
        found[name] = distribution(name)
    except ModuleNotFoundError:  # optional here
        return found
    for text in found[name].requires or ():
        needed = Requirement(text)
        extras = [{"extra": extra} for extra in ("", *needed.extras)]
        if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
            with_requirements(needed.name, found)
    return found


@pytest.fixture(scope="module")
def torch_alone(tmp_path_factory):
    """A folder of packages: torch and its requirements, nothing else."""
    site = tmp_path_factory.mktemp("site")
    for found in with_requirements("torch", {}).values():
        for file in found.files or ():
            top = Path(file.parts[0])
            link, target = site / top, Path(str(found.locate_file(top)))
            if top.name not in ("..", "__pycache__") and not link.exists() and target.exists():
                link.symlink_to(target)
    return site


LOADING = """
import sys, json
sys.path.append(sys.argv[1])
for name in ("study", "trainables", "analysis", "ray", "numpy", "pandas", "safetensors"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is there")
import torch
images, _ = torch.load("../seen.pt")
exec(sys.stdin.read().replace("torch.rand(5, 1, 28, 28)", "images"))
torch.save((classify(images), decode(encode(images))), "../given.pt")
"""


@pytest.mark.slow
def test_cards_five_lines_run_with_torch_alone(results, exported, torch_alone):
    card = (exported / "README.md").read_text()
    blocks = re.findall(r"```python\n(.+?)```", card, re.DOTALL)
    assert len(blocks) == 2
    assert all(len([x for x in block.splitlines() if x]) <= 5 for block in blocks)
    images = pixels(results.test_images[:50])
    torch.save((images, None), exported.parent / "seen.pt")
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADING, str(torch_alone)],
        input="".join(blocks),
        cwd=exported,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    scores, restored = torch.load(exported.parent / "given.pt")
    names = "encoder", "decoder", "classifier-40-labels"
    encode, decode, classify = (
        torch.export.load(exported / f"{name}.pt2").module() for name in names
    )
    torch.testing.assert_close(scores, classify(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(restored, decode(encode(images)), rtol=1e-4, atol=1e-5)
    assert ran.stdout.startswith(f"{scores.argmax(dim=1)}\n")


# --- the card ----------------------------------------------------------------------------------


def test_front_matter_has_the_hubs_keys(exported, results):
    found = front_matter((exported / "README.md").read_text())
    assert found["license"] == "apache-2.0" and found["datasets"] == ["ylecun/mnist"]
    assert found["metrics"] == ["mse", "accuracy"]
    (index,) = found["model-index"]
    assert len(index["results"]) == 3
    for entry in index["results"]:
        assert entry["task"]["type"] in ("image-classification", "image-feature-extraction")
        assert entry["dataset"] == {"type": "ylecun/mnist", "name": "mnist-5k", "split": "test"}


def test_card_says_data_budget_and_choice(exported, results):
    card = (exported / "README.md").read_text()
    fingerprint, numbers = results.plan["fingerprint"], "3,600 training, 400 validation and 1,000"
    for words in (
        f"mnist-5k, fingerprint {fingerprint}: {numbers} test images",
        "1 epoch of 3,600 images without their labels, minibatches of 64",
        "The choice saw the labels of all 400 validation images",
        "    study run assignment\n",
        f"computed by {results.store.provenance(results.cells('autoencoder'))[0]['code']} on ",
    ):
        assert words in card
    assert {path.name for path in exported.iterdir()} == {"README.md"} | {
        f"{name}.{kind}"
        for name in ("encoder", "decoder", "classifier-20-labels", "classifier-40-labels")
        for kind in ("pt2", "safetensors")
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Coloured images of 12 × 10 pixels, in folders of two classes."""
    folder, draw = tmp_path_factory.mktemp("own") / "photos", np.random.default_rng(0)
    for name in (NASTY, "plain"):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            image = draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def test_own_coloured_images_are_exported_and_escaped(
    photos, compute_study, tmp_path, report_in_process
):
    data = load_data(str(photos))
    axes = {
        "autoencoder": {"latent_dim": (3,), "depth": (2,), "batch_size": (8,)},
        "supervised": {"labels": (4,), "augment": (0.0,)},
    }
    compute_study("assignment", experiments(axes), data, tmp_path / "results")
    assert main(["export", str(tmp_path / "results"), "--best", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert markdown(NASTY) in card and NASTY not in card
    assert "<" not in markdown(NASTY) and r"a\|b" in markdown(NASTY)
    assert "images of 3 × 12 × 10" in " ".join(card.split())
    assert str(photos.parent) not in card
    assert front_matter(card)["license"] == "unknown" and "datasets" not in front_matter(card)
    classify = torch.export.load(tmp_path / "out" / "classifier-4-labels.pt2").module()
    assert classify(torch.rand(3, 3, 12, 10)).shape == (3, 2)


# --- commands ----------------------------------------------------------------------------------


def test_results_without_cells_or_models_are_refused(tmp_path, report_in_process, refusal):
    store = Store(tmp_path / "results")
    store.create()
    cell = {"id": "a" * 16, "config": {"size": 1}, "parent": None, "replicates": 1}
    planned = {"name": "other", "axes": {"size": [1]}, "metric": "val_score", "cells": [cell]}
    words = {"study": "other", "command": "study run other", "dataset": "mnist-5k"}
    store.write_plan({**words, "fingerprint": "0" * 16, "experiments": [planned]})
    out = tmp_path / "out"
    assert ": nothing is finished" in refusal("export", store.address, "--best", out, late=True)
    outcome = Outcome([{"replicate": 0, "val_score": 1.0}])
    store.write_block(Block("a" * 16, range(1)), {"size": 1}, None, outcome, {})
    assert ": no model is kept: " in refusal("export", store.address, "--best", out, late=True)
    assert not out.exists()


def test_folder_that_is_not_empty_is_refused_and_kept(results, tmp_path, refusal):
    (tmp_path / "mine").write_text("precious")
    line = refusal("export", results.store.address, "--best", tmp_path)
    assert line == f"study export: --best {tmp_path}: is not empty; it must be, or not exist yet"
    assert (tmp_path / "mine").read_text() == "precious"


def test_moved_images_are_asked_for(results, tmp_path, report_in_process, refusal):
    copied = shutil.copytree(results.store.address, tmp_path / "copy")
    Store(copied).write_plan({**results.plan, "fingerprint": "0" * 16})
    line = refusal("export", copied, "--best", tmp_path / "out", late=True)
    assert "holds other data" in line and line.endswith("`--data-dir DIR` reads them from DIR")
    assert not (tmp_path / "out").exists()


def test_results_in_a_bucket_are_exported(results, tmp_path, s3, bucket):
    s3.upload(bucket, results.store.address)
    lines = export.write(s3.uri(bucket), tmp_path)
    assert lines[0].startswith("encoder, decoder: convolutional autoencoder, d = ")
    assert (tmp_path / "classifier-20-labels.pt2").exists()


@pytest.mark.slow
def test_command_exports_into_an_empty_folder(results, tmp_path, run_study):
    ran = run_study("export", results.store.address, "--best", tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    row = next(iter(export.by_validation(results.of("autoencoder"), ERROR))).iloc[0]
    assert f"encoder, decoder: convolutional autoencoder, d = {row['latent_dim']}" in ran.stdout
    assert f"{row['val_mse']:.4f} on validation images, {row['test_mse']:.4f} on" in ran.stdout
    assert ran.stderr == "" and (tmp_path / "README.md").exists()
