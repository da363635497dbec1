"""A cell's tables: one line per replicate, and reported means."""

import pytest
import torch

from trainables.metrics import lines, record


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
