"""Strips: decoded points of one line, by latent dimension."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from analysis.interpolation.strips import draw_strip, strips
from analysis.results import Results
from study.store import Store


def test_strips_have_the_finished_dimensions(small_results: Results) -> None:
    shown = strips(small_results, (5, 1))
    assert list(shown.decoded) == [2, 8]
    assert shown.decoded[8].shape == (11, 28, 28, 3)
    assert shown.blend[0] == pytest.approx(shown.second)
    assert shown.blend[-1] == pytest.approx(shown.first)
    network = small_results.autoencoders(shown.cells[8])[0]
    with torch.no_grad():
        image = 1 - torch.tensor(shown.first[..., 0]).float()  # black on white
        restored = 1 - network(image[None, None])[0, 0].numpy()
    for channel in range(3):
        assert shown.decoded[8][-1, ..., channel] == pytest.approx(restored, abs=1e-5)


def test_strips_load_each_model_once(
    small_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    weights = Store.weights

    def noted(store: Store, cell: str, replicates: list[int]) -> Any:
        loaded.append(cell)
        return weights(store, cell, replicates)

    monkeypatch.setattr(Store, "weights", noted)
    results = replace(small_results)
    first, second = (strips(results, pair) for pair in ((5, 1), (4, 7)))
    assert sorted(loaded) == sorted(first.cells.values()) == sorted(second.cells.values())


def test_missing_class_is_named(small_results: Results) -> None:
    test = small_results.dataset.test
    without = replace(small_results)
    without.__dict__["dataset"] = replace(
        small_results.dataset, test=test.part(np.flatnonzero(test.labels != 7))
    )
    with pytest.raises(ValueError, match="has no 7"):
        strips(without, (4, 7))


def test_strip_can_be_drawn(small_results: Results) -> None:
    figure = draw_strip(strips(small_results, (4, 7)))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getbuffer().nbytes > 10_000
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["d = 2", "d = 8", "pixel blend"]
