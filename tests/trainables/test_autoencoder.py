"""Autoencoders: a cell's report is true and reproducible, and bad settings are refused."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.helpers import no_report
from trainables.autoencoder import objectives
from trainables.autoencoder.train import Config, train
from trainables.contract import Diverged, Report
from trainables.data import load
from trainables.networks import Autoencoder

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

TINY = Config(latent_dim=3, depth=2, width=2, batch_size=16, epochs=3)
BLOCK = range(4, 6)


@pytest.fixture(scope="module")
def outcome(few_digits):
    return train(TINY, BLOCK, few_digits, no_report)


def reconstruct(outcome, config, replicate, split):
    """Pixels of a split and their reconstructions by the stored weights, in float64."""
    model = Autoencoder(config.shape)
    model.load_state_dict({name: value[replicate] for name, value in outcome.weights.items()})
    images = torch.tensor(split.images).double() / 255
    with torch.no_grad():
        return images, model.double()(images)


def test_reported_errors_match_the_stored_weights(outcome, few_digits):
    for replicate, row in enumerate(outcome.rows):
        for split, name in ((few_digits.validation, "val_mse"), (few_digits.test, "test_mse")):
            images, reconstructed = reconstruct(outcome, TINY, replicate, split)
            mse = ((images - reconstructed) ** 2).mean().item()
            assert row[name] == pytest.approx(mse, abs=1e-6)


def test_each_replicate_has_a_row(outcome):
    assert [row["replicate"] for row in outcome.rows] == [4, 5]
    assert {row["parameters"] for row in outcome.rows} == {
        sum(value[0].numel() for value in outcome.weights.values())
    }
    assert len({row["test_mse"] for row in outcome.rows}) == 2
    assert {value.shape[0] for value in outcome.weights.values()} == {2}
    assert outcome.predictions is None


def test_replicates_share_the_time_of_their_cell(few_digits):
    started = time.perf_counter()
    rows = train(TINY, BLOCK, few_digits, no_report).rows
    took = time.perf_counter() - started
    assert 0.5 * took < sum(row["train_seconds"] for row in rows) <= took
    assert rows[0]["train_seconds"] == rows[1]["train_seconds"]


def test_history_has_a_line_per_replicate_and_epoch(outcome):
    assert [(line["epoch"], line["replicate"]) for line in outcome.history] == [
        (epoch, replicate) for epoch in (1, 2, 3) for replicate in BLOCK
    ]
    for replicate, row in enumerate(outcome.rows):
        last = outcome.history[4 + replicate]
        assert row["val_mse"] == last["val_mse"]
        assert row["train_mse"] == last["train_mse"]


def test_epoch_report_is_the_mean_over_replicates(few_digits):
    reports = []
    outcome = train(TINY, BLOCK, few_digits, Report(reports.append))
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    for report in reports:
        of_epoch = [line for line in outcome.history if line["epoch"] == report["epoch"]]
        for name in ("train_mse", "val_mse"):
            assert report[name] == pytest.approx(np.mean([line[name] for line in of_epoch]))


@pytest.mark.parametrize("strategy", ["loop", "vectorised"])
def test_same_configuration_gives_the_same_bits(strategy, few_digits, use_strategy):
    use_strategy(strategy)
    first, second = (train(TINY, BLOCK, few_digits, no_report) for _ in range(2))
    for name, weights in first.weights.items():
        assert torch.equal(weights, second.weights[name])
    assert first.history == second.history


def test_another_seed_gives_other_models(outcome, few_digits):
    other = train(dataclasses.replace(TINY, seed=1), BLOCK, few_digits, no_report)
    errors = [row["test_mse"] for row in [*outcome.rows, *other.rows]]
    assert len(set(errors)) == 4


def test_target_is_clean_or_the_view_without_noise(few_digits, monkeypatch):
    """Noise is never part of the target; the augmentation is if the target is the view."""
    asked = []

    def record(model, seen, wanted):
        asked.append((seen, wanted))
        return reconstruction_loss(model, seen, wanted)

    reconstruction_loss = objectives.reconstruction_loss
    monkeypatch.setattr(objectives, "reconstruction_loss", record)
    clean = few_digits.train.images.reshape(-1, 784) / np.float32(255)
    for target, augment, noise in (("clean", 1.0, 0.0), ("view", 1.0, 0.3), ("view", 0.0, 0.3)):
        asked.clear()
        settings = {"augment": augment, "noise": noise, "target": target, "epochs": 1}
        train(dataclasses.replace(TINY, **settings), BLOCK, few_digits, no_report)
        seen, wanted = (part.flatten(1).numpy() for part in asked[0])
        nearest = np.abs(wanted[:, None] - clean).max(axis=2).min(axis=1)
        moved = target == "view" and augment > 0
        assert (nearest > 0.1).all() if moved else (nearest < 1e-6).all()
        if noise:
            assert (seen - wanted).std() == pytest.approx(noise, rel=0.05)
        else:
            assert seen.min() >= 0 and seen.max() <= 1 + 1e-6


def test_target_has_no_effect_without_augmentation(outcome, few_digits):
    other = train(dataclasses.replace(TINY, target="view"), BLOCK, few_digits, no_report)
    assert other.history == outcome.history


def test_longer_code_reconstructs_better(digits):
    """By far: 0.060 at d = 2 and 0.038 at d = 8 after one epoch."""
    errors = []
    for latent_dim in (2, 8):
        config = Config(latent_dim, depth=2, width=8, epochs=1, batch_size=32)
        errors.append(train(config, range(1), digits, no_report).rows[0]["test_mse"])
    assert errors[1] < 0.75 * errors[0]
    assert errors[1] < 0.045


@pytest.mark.parametrize("network", ["convolutional", "mlp"])
def test_affine_autoencoder_nears_but_never_beats_pca(network, digits):
    settings = {"depth": 1, "width": 4, "epochs": 4, "batch_size": 32}
    rate = 1e-2 if network == "convolutional" else 3e-3
    config = Config(2, activation="none", network=network, learning_rate=rate, **settings)
    outcome = train(config, range(1), digits, no_report)
    images = digits.train.images.reshape(3600, 784) / 255
    mean = images.mean(axis=0)
    axes = np.linalg.svd(images - mean, full_matrices=False)[2][:2]
    bound = np.square((images - mean) - (images - mean) @ axes.T @ axes).mean()
    wanted, reconstructed = reconstruct(outcome, config, 0, digits.train)
    error = ((wanted - reconstructed) ** 2).mean().item()
    assert bound == pytest.approx(0.0557, abs=1e-4)
    assert bound < error < 1.05 * bound  # 1.016


def test_divergence_fails_the_whole_cell(few_digits):
    reports = []
    config = dataclasses.replace(TINY, learning_rate=1e30)
    with pytest.raises(Diverged, match="epoch 1 of replicate 4, 5 is not a finite number"):
        train(config, BLOCK, few_digits, Report(reports.append))
    assert reports == []


@pytest.mark.skipif(
    not (REAL_DATA / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file(),
    reason="full MNIST is not in ../shared/data",
)
def test_cell_of_full_mnist_beats_pca():
    data = load("mnist", REAL_DATA)
    config = Config(8, depth=2, width=4, epochs=1, batch_size=250)
    config.check_data(data)
    (row,) = train(config, range(1), data, no_report).rows
    assert row["test_mse"] < 0.0374  # PCA with 8 components; this is 0.0325
    assert row["val_mse"] == pytest.approx(row["test_mse"], rel=0.05)


@pytest.mark.parametrize(("updates", "passes"), [(1, 1), (6, 1), (7, 2), (30, 5)])
def test_contrastive_updates_replace_epochs(updates, passes, few_digits):
    """100 images make 6 minibatches of 16 a pass."""
    config = dataclasses.replace(TINY, objective="contrastive", contrastive_updates=updates)
    assert train(config, BLOCK, few_digits, no_report).history[-1]["epoch"] == passes
