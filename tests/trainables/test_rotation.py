"""Angle prediction: the same turns for every loss, true errors, and replicates as if alone."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.trainables.helpers import no_report
from trainables.contract import Diverged
from trainables.rotation import losses
from trainables.rotation import train as rotation
from trainables.rotation.settings import LOSSES
from trainables.rotation.train import Config, held_out_angles, loss_function, train

TINY = Config("cosine", depth=2, width=2, batch_size=20, epochs=3)
BLOCK = range(4, 6)


@pytest.fixture
def turns(monkeypatch):
    """The degrees by which each call turned its images."""
    calls = []

    def record(images, degrees):
        calls.append(degrees.clone())
        return losses_turned(images, degrees)

    losses_turned = rotation.rotate
    monkeypatch.setattr(rotation, "rotate", record)
    return calls


def test_every_loss_is_registered():
    assert set(LOSSES) == {*losses.LOSSES, "sine_cosine"}


@pytest.mark.parametrize("loss", LOSSES)
def test_name_gives_its_loss(loss):
    """The network says 350° with a vector of length 2; 10° is true."""
    vector = 2 * losses.encode_direction(torch.tensor([350.0], dtype=torch.float64))
    value = loss_function(loss)(lambda images: vector, None, torch.tensor([10.0]).double()).item()
    expected = {
        "absolute": 340.0,
        "wrapped": 20.0,
        "cosine": 1 - np.cos(np.radians(20)),
        "von_mises": np.log(2 * np.pi * np.i0(2.0)) - 2 * np.cos(np.radians(20)),
        "sine_cosine": 1 + 4 - 4 * np.cos(np.radians(20)),
    }
    assert value == pytest.approx(expected[loss], rel=1e-9)


def test_turns_are_uniform_and_the_same_under_every_loss(few_digits, turns):
    seen = []
    for loss in LOSSES:
        turns.clear()
        train(dataclasses.replace(TINY, loss=loss), BLOCK, few_digits, no_report)
        seen.append(torch.cat(turns))
    for other in seen[1:]:
        assert torch.equal(other, seen[0])
    # 30 validation and 50 test images; 3 epochs of 5 minibatches of 2 · 20 images.
    assert len(seen[0]) == 30 + 50 + 3 * 5 * 40
    drawn = seen[0][80:]
    assert drawn.min() >= 0 and drawn.max() < 360
    assert len(drawn.unique()) == len(drawn)
    assert np.histogram(drawn, 4, (0, 360))[0].min() > 100


def test_held_out_angles_follow_seed_and_split_alone():
    assert np.array_equal(held_out_angles(0, 50, "test"), held_out_angles(0, 50, "test"))
    assert not np.array_equal(held_out_angles(0, 50, "test"), held_out_angles(1, 50, "test"))
    assert not np.array_equal(held_out_angles(0, 50, "test"), held_out_angles(0, 50, "validation"))


@pytest.mark.parametrize("loss", LOSSES)
def test_reported_errors_match_the_stored_angles(loss, few_digits):
    outcome = train(dataclasses.replace(TINY, loss=loss), BLOCK, few_digits, no_report)
    assert outcome.predictions.shape == (2, 50)
    assert outcome.predictions.dtype == np.float32
    true = held_out_angles(0, 50, "test")
    for row, predicted in zip(outcome.rows, outcome.predictions, strict=True):
        away = np.abs((predicted - true + 180) % 360 - 180)
        assert row["test_error"] == pytest.approx(away.mean(), abs=1e-3)
        assert row["test_median_error"] == pytest.approx(np.sort(away)[24], abs=1e-3)
        assert 0 < row["val_error"] < 180
    assert len({row["parameters"] for row in outcome.rows}) == 1
    assert len(outcome.history) == 3 * 2
    for replicate in range(2):
        assert outcome.history[4 + replicate]["val_error"] == outcome.rows[replicate]["val_error"]


def test_turned_digits_can_be_learnt(digits):
    """Chance is 90 ± 2°. This is 60° (n = 1)."""
    config = Config("von_mises", width=8, epochs=5)
    (row,) = train(config, range(1), digits, no_report).rows
    assert row["test_error"] < 70


def test_divergence_fails_the_whole_cell(few_digits):
    with pytest.raises(Diverged, match="replicate 4, 5 is not a finite number"):
        train(dataclasses.replace(TINY, learning_rate=1e30), BLOCK, few_digits, no_report)
