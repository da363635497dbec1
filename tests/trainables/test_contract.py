"""Properties of all settings, the replicates that a divergence names, and a cell's tables."""

from dataclasses import dataclass

import pytest
import torch

from trainables.autoencoder import settings as autoencoder
from trainables.contract import (
    Diverged,
    Settings,
    added_defaults,
    added_field,
    lines,
    record,
    require_finite,
)
from trainables.fewshot import settings as fewshot
from trainables.rotation import settings as rotation


@dataclass(frozen=True)
class Later(Settings):
    """Settings, one of which was added later."""

    width: int = 16
    tied: bool = added_field(False)


def test_added_setting_is_known_with_its_default():
    assert added_defaults(Later) == {"tied": False}
    assert Later(tied=True).tied


@pytest.mark.parametrize("module", [autoencoder, fewshot, rotation])
def test_cell_has_no_number_of_replicates(module):
    assert "replicates" not in module.Config.__dataclass_fields__


def test_replicate_builds_on_the_one_of_its_number():
    assert [Later().parent_replicate(replicate) for replicate in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("freeze", "encoders", "sources"),
    [("fixed", 0, [0, 1, 2, 3, 4]), ("full", 2, [0, 1, 0, 1, 0]), ("scratch", 2, [0, 1, 2, 3, 4])],
)
def test_classifiers_share_the_encoders_asked_for(freeze, encoders, sources):
    config = fewshot.Config(2, 20, freeze, encoders=encoders)
    assert [config.parent_replicate(replicate) for replicate in range(5)] == sources


def test_diverged_replicates_are_named_by_number():
    require_finite(torch.ones(3), range(7, 10), "a loss")
    values = torch.tensor([1.0, torch.nan, torch.inf])
    with pytest.raises(Diverged, match="a loss of replicate 8, 9 is not a finite number"):
        require_finite(values, range(7, 10), "a loss")


def test_record_keeps_lines_and_reports_their_means():
    history, reported = [{"replicate": 0, "epoch": 1}], []
    metrics = {"train_loss": torch.tensor([1.0, 2.0]), "val_error": torch.tensor([10.0, 40.0])}
    record(history, reported.append, (4, 5), 2, metrics, parameters=7)
    assert history[1:] == [
        {"replicate": 4, "epoch": 2, "train_loss": 1.0, "val_error": 10.0},
        {"replicate": 5, "epoch": 2, "train_loss": 2.0, "val_error": 40.0},
    ]
    assert reported == [{"epoch": 2, "train_loss": 1.5, "val_error": 25.0, "parameters": 7}]


def test_columns_of_different_lengths_make_no_lines():
    found = lines(range(2), {"parameters": 3}, {"a": [0.1, 0.2], "b": ["x", "y"]})
    assert found == [
        {"replicate": 0, "parameters": 3, "a": 0.1, "b": "x"},
        {"replicate": 1, "parameters": 3, "a": 0.2, "b": "y"},
    ]
    with pytest.raises(ValueError, match="shorter"):
        lines(range(2), {}, {"a": [0.1, 0.2], "b": ["x"]})
