"""The fits that the common way gets, and the comparison of its results with the same fits."""

import pytest
import torch

from benchmarks import plain_tune
from benchmarks.measure import Options, Stratum
from benchmarks.overhead import FitSample, few_shot_grid, fits_of, with_target_errors
from benchmarks.plain_tune import (
    fit_autoencoder,
    fit_autoencoder_plainly,
    fit_classifier,
    read,
)
from study.grid import plan
from study.store import Block, Store
from trainables.contract import Outcome

DATA = "0123456789abcdef"


def test_every_replicate_is_a_fit_of_its_cells_kind(tmp_path):
    dataset, experiments = few_shot_grid(Options())
    assert dataset == "mnist"
    encoders, classifiers = plan(experiments, DATA)
    assert {cell.config["batch_size"] for cell in encoders} == {32}
    kinds = fits_of(classifiers, tmp_path)
    assert set(kinds) == {"fixed", "full"}
    assert len(kinds["fixed"]) == len(kinds["full"]) == 7 * 5 * 8
    assert {fit["replicate"] for fit in kinds["full"]} == set(range(8))
    parents = {f"{tmp_path}/{c.id}-{r}.safetensors" for c in encoders for r in range(8)}
    assert {fit["encoder"] for fit in kinds["fixed"]} == parents
    (alone,) = fits_of(encoders, tmp_path).values()
    assert len(alone) == 7 * 8 and {fit["encoder"] for fit in alone} == {""}


def store_with(folder, **column):
    """A store with a block of three replicates, whose rows have these values."""
    store = Store(folder)
    store.create()
    ((name, values),) = column.items()
    rows = [{"replicate": r, name: value} for r, value in enumerate(values)]
    store.write_block(Block(DATA, range(3)), {"seed": 0}, None, Outcome(rows), {})
    return store


def test_same_fits_are_compared(tmp_path):
    store = store_with(tmp_path, test_accuracy=(0.5, 0.7, 0.9))
    fits = [{"cell": DATA, "kind": "fewshot", "replicate": r} for r in (2, 0)]
    sampled = FitSample(Stratum(3, 1.0, (1.0, 1.0)), fits, [0.6, 0.8], [0, 0])
    assert sampled.quality_text(store) == (
        "test_accuracy of the same 2 fits: 0.7000 here, 0.7000 there"
    )


def test_common_recipe_gets_target_errors(tmp_path):
    store = store_with(tmp_path, test_mse=(0.05, 0.06, 0.07))
    fits = [{"cell": DATA, "kind": "autoencoder", "replicate": r} for r in (2, 0)]
    reaching = with_target_errors(fits, store)
    assert [(fit["replicate"], fit["target_error"]) for fit in reaching] == [(2, 0.07), (0, 0.05)]
    sampled = FitSample(Stratum(3, 1.0, (1.0, 1.0)), reaching, [0.06, 0.05], [7, 12])
    assert sampled.quality_text(store) == (
        "test_mse of the same 2 fits: 0.0600 here, 0.0550 there after 10 epochs (7 … 12)"
    )


def test_common_recipe_stops_at_a_good_enough_error(monkeypatch):
    settings = {"latent_dim": 8, "depth": 2, "width": 4, "batch_size": 32}
    monkeypatch.setattr(plain_tune, "MOST_EPOCHS", 3)
    torch.manual_seed(0)
    never, all_epochs = fit_autoencoder_plainly(settings, 0, "mnist-5k", "", 0.0)
    assert all_epochs == 3 and 0.03 < never < 0.2
    torch.manual_seed(0)
    first, epochs = fit_autoencoder_plainly(settings, 0, "mnist-5k", "", 1.0)
    assert epochs == 1 and never < first < 0.3


def test_common_way_learns():
    settings = {"latent_dim": 8, "depth": 2, "width": 4, "epochs": 1}
    for recipe in ({}, {"optimiser": "muon", "learning_rate": 0.02}):
        torch.manual_seed(0)
        error = fit_autoencoder({**settings, **recipe}, 0, "mnist-5k", "")
        assert 0.03 < error < 0.06  # the mean image has 0.067
    few = {"labels": 20, "freeze": "scratch", "epochs": 50}
    del settings["epochs"]
    assert 0.25 < fit_classifier({**settings, **few}, 1, "mnist-5k", "", "") < 0.9


def test_common_way_reads_the_studys_data(digits):
    train, labels, test = read("mnist-5k", "")
    assert (len(train), len(test)) == (3600, 1000)
    assert labels.tolist() == digits.train.labels.tolist()
    image, label = test[7]
    assert image.shape == (1, 28, 28) and label == digits.test.labels[7]
    assert image.max().item() == pytest.approx(digits.test.images[7].max() / 255)
