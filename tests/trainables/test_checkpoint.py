"""An interrupted and resumed cell ends with the same bits as an undisturbed one."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from study.store.checkpoint import FileCheckpoint
from study.store.places import Folder
from tests.trainables.helpers import weights_by_replicate, without_time
from trainables.autoencoder import train as autoencoder
from trainables.contract import Progress, Report
from trainables.fewshot import train as fewshot
from trainables.rotation import train as rotation
from trainables.supervised import train as supervised

AUTOENCODER = autoencoder.Config(latent_dim=3, depth=1, batch_size=20, epochs=6, width=2)
BLOCK = range(3, 5)


class Killed(BaseException):
    """Ends a `train` like a signal would, after its last save."""


def checkpoint(folder, key="this", interval=0.0):
    return FileCheckpoint(Folder(folder), "progress/cell.safetensors", key, interval)


def train_cell(module, config, data, killed_in=None, **options):
    """The outcome of a cell, or None if it was killed in its `killed_in`-th report."""
    reports = []

    def send(metrics):
        reports.append(metrics)
        if len(reports) == killed_in:
            raise Killed

    try:
        return module.train(config, BLOCK, data, Report(send), **options)
    except Killed:
        return None


def assert_same_bits(one, other):
    assert without_time(one.rows) == without_time(other.rows)
    assert one.history == other.history
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name
    assert np.array_equal(one.predictions, other.predictions)


@pytest.fixture
def assert_resumes(few_digits, tmp_path):
    """Kills a cell in a report, resumes it, and compares it with an undisturbed one."""

    def check(module, config, killed_in, resumed_after, **options):
        undisturbed = train_cell(module, config, few_digits, **options)
        first, second = checkpoint(tmp_path), checkpoint(tmp_path)
        killed = train_cell(module, config, few_digits, killed_in, checkpoint=first, **options)
        assert killed is None and first.resumed_after is None
        resumed = train_cell(module, config, few_digits, checkpoint=second, **options)
        assert second.resumed_after == resumed_after
        assert_same_bits(resumed, undisturbed)

    return check


# A report comes before its epoch's save: a cell killed in report 4 has last saved epoch 3.


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("strategy", ["loop", "vectorised"])
def test_autoencoder_resumes_where_it_was_killed(strategy, optimiser, assert_resumes, use_strategy):
    use_strategy(strategy)
    config = dataclasses.replace(AUTOENCODER, optimiser=optimiser)
    assert_resumes(autoencoder, config, 4, 3)


def test_cell_may_be_killed_again_and_again(few_digits, tmp_path):
    undisturbed = train_cell(autoencoder, AUTOENCODER, few_digits)
    for epoch in range(1, 6):
        kept = checkpoint(tmp_path)
        assert train_cell(autoencoder, AUTOENCODER, few_digits, 2, checkpoint=kept) is None
        assert kept.resumed_after == (epoch - 1 or None)
    resumed = train_cell(autoencoder, AUTOENCODER, few_digits, checkpoint=checkpoint(tmp_path))
    assert_same_bits(resumed, undisturbed)


@pytest.mark.parametrize("objective", ["reconstruction", "variational", "contrastive"])
def test_augmentation_and_noise_resume_their_draws(objective, assert_resumes):
    settings = {"contrastive_updates": 6 * 5, "augment": 1.0, "noise": 0.2}
    config = dataclasses.replace(AUTOENCODER, objective=objective, **settings)
    assert_resumes(autoencoder, config, 4, 3)


@pytest.mark.parametrize("loss", ["absolute", "von_mises"])
def test_turns_resume_their_draws(loss, assert_resumes):
    config = rotation.Config(loss, depth=1, width=2, batch_size=20, epochs=6)
    assert_resumes(rotation, config, 4, 3)


@pytest.mark.parametrize(
    "freeze", ["fixed", "full", "scratch", "lp-ft", "propagation", "consistency"]
)
def test_classifier_resumes_where_it_was_killed(freeze, few_digits, assert_resumes):
    config = fewshot.Config(
        latent_dim=3,
        labels=20,
        freeze=freeze,
        depth=1,
        width=2,
        batch_size=10,
        epochs=120 if freeze == "lp-ft" else 60,
        pseudo_epochs=60,
        pseudo_batch_size=50,
    )
    # The head's three reports come before those of the whole network.
    killed_in = 5 if freeze == "lp-ft" else 2
    parent = weights_by_replicate(train_cell(autoencoder, AUTOENCODER, few_digits))
    assert_resumes(fewshot, config, killed_in, 39, parent=parent)


def test_supervised_network_resumes_with_its_batch_norms(assert_resumes):
    config = supervised.Config(labels=20, augment=0.0, batch_size=10, epochs=60, width=2)
    assert_resumes(supervised, config, 2, 39)


def test_time_of_earlier_tries_counts(few_digits, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def run_slowly(killed_in):
        def report(metrics):
            now[0] += 10.0
            if metrics["epoch"] == killed_in:
                raise Killed

        return autoencoder.train(AUTOENCODER, BLOCK, few_digits, Report(report), checkpoint=kept)

    kept = checkpoint(tmp_path)
    with pytest.raises(Killed):
        run_slowly(killed_in=4)
    kept = checkpoint(tmp_path)
    outcome = run_slowly(killed_in=None)
    assert kept.earlier_seconds == 30
    # Epochs 1 to 3, then 4 to 6; the unsaved epoch 4 of the first try is not in the model.
    assert [row["train_seconds"] for row in outcome.rows] == [60.0 / 2] * 2


def test_checkpoint_never_due_keeps_and_changes_nothing(few_digits, tmp_path):
    kept = checkpoint(tmp_path, interval=1e9)
    found = train_cell(autoencoder, AUTOENCODER, few_digits, checkpoint=kept)
    assert_same_bits(found, train_cell(autoencoder, AUTOENCODER, few_digits))
    assert list(tmp_path.iterdir()) == []


# --- the file --------------------------------------------------------------------------------

PROGRESS = Progress(
    3,
    {"weight": torch.tensor([[0.1, -0.0], [1e-40, 3.0]]), "bytes": torch.arange(9).byte(),
     "step": torch.tensor(7.0), "double": torch.tensor([1 / 3], dtype=torch.float64)},
    {"rates": [0.1, 1 / 3, 5e-324], "history": [{"epoch": 1, "loss": 1 / 7}]},
)  # fmt: skip


def test_checkpoint_is_read_as_it_was_written(tmp_path):
    checkpoint(tmp_path).save(PROGRESS)
    read = checkpoint(tmp_path).load()
    assert read.epoch == 3
    assert read.numbers == PROGRESS.numbers
    assert read.tensors.keys() == PROGRESS.tensors.keys()
    for name, value in PROGRESS.tensors.items():
        assert read.tensors[name].dtype == value.dtype
        assert torch.equal(read.tensors[name], value)
    assert os.listdir(tmp_path / "progress") == ["cell.safetensors"]


def test_saves_are_some_time_apart(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    kept = checkpoint(tmp_path, interval=10.0)
    assert not kept.due()
    now[0] = 110.0
    assert kept.due()
    kept.save(PROGRESS)
    assert not kept.due()
    now[0] = 120.0
    assert kept.due()
