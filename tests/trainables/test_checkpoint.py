"""An interrupted and resumed cell ends with the same bits as an undisturbed one."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from study.store.checkpoint import FileCheckpoint
from study.store.places import Folder
from tests.trainables.helpers import nothing, without_time
from trainables.autoencoder import train as autoencoder
from trainables.contract import Progress
from trainables.fewshot import train as fewshot
from trainables.rotation import train as rotation
from trainables.supervised import train as supervised

AUTOENCODER = autoencoder.Config(latent_dim=3, depth=1, batch_size=20, epochs=6, width=2)
BLOCK = range(3, 5)


class Killed(BaseException):
    """Ends a `train` like a signal would, after its last save."""


def checkpoint(folder, key="this", interval=0.0):
    return FileCheckpoint(Folder(folder), "progress/cell.safetensors", key, interval)


def run(module, config, data, parent=None, strategy=None, kept=None, killed_in=None):
    """The outcome of a cell, or None if it was killed in its `killed_in`-th report."""
    reports = []

    def report(metrics):
        reports.append(metrics)
        if len(reports) == killed_in:
            raise Killed

    options = {} if kept is None else {"checkpoint": kept}
    try:
        return module.train(config, BLOCK, data, report, parent, strategy, **options)
    except Killed:
        return None


def assert_same_bits(one, other):
    assert without_time(one.rows) == without_time(other.rows)
    assert one.history == other.history
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name
    assert np.array_equal(one.predictions, other.predictions)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("strategy", ["loop", "vectorised"])
def test_autoencoder_resumes_where_it_was_killed(strategy, optimiser, few_digits, tmp_path):
    config = dataclasses.replace(AUTOENCODER, optimiser=optimiser)
    undisturbed = run(autoencoder, config, few_digits, strategy=strategy)
    first = checkpoint(tmp_path)
    # Killed in the report of epoch 4, which comes before its save: the last save is epoch 3's.
    options = {"strategy": strategy, "kept": first, "killed_in": 4}
    assert run(autoencoder, config, few_digits, **options) is None
    second = checkpoint(tmp_path)
    resumed = run(autoencoder, config, few_digits, strategy=strategy, kept=second)
    assert first.resumed_after is None
    assert second.resumed_after == 3
    assert_same_bits(resumed, undisturbed)
    assert len(resumed.history) == 6 * 2


def test_seconds_of_earlier_tries_count(few_digits, tmp_path):
    first = checkpoint(tmp_path)
    assert run(autoencoder, AUTOENCODER, few_digits, kept=first, killed_in=4) is None
    saved = first.load()
    first.save(dataclasses.replace(saved, numbers={**saved.numbers, "seconds": 1000.0}))
    again = checkpoint(tmp_path)
    resumed = run(autoencoder, AUTOENCODER, few_digits, kept=again)
    assert again.earlier_seconds == 1000
    assert sum(row["train_seconds"] for row in resumed.rows) > 1000


def test_cell_may_be_killed_again_and_again(few_digits, tmp_path):
    undisturbed = run(autoencoder, AUTOENCODER, few_digits)
    for epoch in range(1, 6):
        kept = checkpoint(tmp_path)
        assert run(autoencoder, AUTOENCODER, few_digits, kept=kept, killed_in=2) is None
        assert kept.resumed_after == (epoch - 1 or None)
    assert_same_bits(run(autoencoder, AUTOENCODER, few_digits, kept=checkpoint(tmp_path)),
                     undisturbed)  # fmt: skip


AUGMENTED = {"augment": 1.0, "noise": 0.2}


@pytest.mark.parametrize("objective", ["reconstruction", "variational", "contrastive"])
def test_augmentation_and_noise_resume_their_draws(objective, few_digits, tmp_path):
    settings = {"objective": objective, "contrastive_updates": 6 * 5, **AUGMENTED}
    config = dataclasses.replace(AUTOENCODER, **settings)
    undisturbed = run(autoencoder, config, few_digits)
    assert run(autoencoder, config, few_digits, kept=checkpoint(tmp_path), killed_in=4) is None
    again = checkpoint(tmp_path)
    assert_same_bits(run(autoencoder, config, few_digits, kept=again), undisturbed)
    assert again.resumed_after == 3


@pytest.mark.parametrize("loss", ["absolute", "von_mises"])
def test_turns_resume_their_draws(loss, few_digits, tmp_path):
    config = rotation.Config(loss, depth=1, width=2, batch_size=20, epochs=6)
    undisturbed = run(rotation, config, few_digits)
    assert run(rotation, config, few_digits, kept=checkpoint(tmp_path), killed_in=4) is None
    again = checkpoint(tmp_path)
    assert_same_bits(run(rotation, config, few_digits, kept=again), undisturbed)
    assert again.resumed_after == 3


@pytest.mark.parametrize(
    "freeze", ["fixed", "full", "scratch", "lp-ft", "propagation", "consistency"]
)
def test_classifier_resumes_where_it_was_killed(freeze, few_digits, tmp_path):
    config = fewshot.Config(
        latent_dim=3, labels=20, freeze=freeze, depth=1, width=2, batch_size=10,
        epochs=120 if freeze == "lp-ft" else 60, pseudo_epochs=60, pseudo_batch_size=50,
    )  # fmt: skip
    # The head's three reports come before those of the whole network.
    killed_in = 5 if freeze == "lp-ft" else 2
    weights = run(autoencoder, AUTOENCODER, few_digits).weights
    parent = {r: {name: value[i] for name, value in weights.items()} for i, r in enumerate(BLOCK)}
    undisturbed = run(fewshot, config, few_digits, parent)
    kept = checkpoint(tmp_path)
    assert run(fewshot, config, few_digits, parent, kept=kept, killed_in=killed_in) is None
    again = checkpoint(tmp_path)
    resumed = run(fewshot, config, few_digits, parent, kept=again)
    assert again.resumed_after == 39
    assert_same_bits(resumed, undisturbed)


def test_supervised_network_resumes_with_its_batch_norms(few_digits, tmp_path):
    config = supervised.Config(labels=20, augment=0.0, batch_size=10, epochs=60, width=2)
    undisturbed = supervised.train(config, BLOCK, few_digits, nothing)
    reports = []

    def end(metrics):
        reports.append(metrics)
        if len(reports) == 2:
            raise Killed

    with pytest.raises(Killed):
        supervised.train(config, BLOCK, few_digits, end, checkpoint=checkpoint(tmp_path))
    again = checkpoint(tmp_path)
    resumed = supervised.train(config, BLOCK, few_digits, nothing, checkpoint=again)
    assert again.resumed_after == 39
    assert_same_bits(resumed, undisturbed)


def test_time_of_earlier_tries_counts(few_digits, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def run_slowly(killed_in):
        def report(metrics):
            now[0] += 10.0
            if metrics["epoch"] == killed_in:
                raise Killed

        kept = checkpoint(tmp_path)
        return autoencoder.train(AUTOENCODER, BLOCK, few_digits, report, checkpoint=kept)

    with pytest.raises(Killed):
        run_slowly(killed_in=4)
    outcome = run_slowly(killed_in=None)
    # Epochs 1 to 3, then 4 to 6; the unsaved epoch 4 of the first try is not in the model.
    assert [row["train_seconds"] for row in outcome.rows] == [60.0 / 2] * 2


def test_checkpoint_never_due_keeps_and_changes_nothing(few_digits, tmp_path):
    kept = checkpoint(tmp_path, interval=1e9)
    assert_same_bits(run(autoencoder, AUTOENCODER, few_digits, kept=kept),
                     run(autoencoder, AUTOENCODER, few_digits))  # fmt: skip
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


def test_last_save_counts(tmp_path):
    kept = checkpoint(tmp_path)
    kept.save(PROGRESS)
    kept.save(Progress(4, {"weight": torch.zeros(1)}, {}))
    assert kept.load().epoch == 4
    kept.remove()
    assert kept.load() is None
    kept.remove()


def test_other_code_starts_anew(tmp_path):
    checkpoint(tmp_path, key="this").save(PROGRESS)
    assert checkpoint(tmp_path, key="that").load() is None
    assert checkpoint(tmp_path, key="this").load().epoch == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped tensor", "flipped header", "empty"])
def test_damaged_checkpoint_starts_anew(damage, tmp_path):
    checkpoint(tmp_path).save(PROGRESS)
    path = tmp_path / "progress" / "cell.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped tensor":
        content[-1] ^= 1
    elif damage == "flipped header":
        content[content.index(b"0.1")] ^= 1  # the rate 0.1 becomes 1.1
    path.write_bytes({"truncated": content[:-1], "empty": b""}.get(damage, content))
    assert checkpoint(tmp_path).load() is None


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
