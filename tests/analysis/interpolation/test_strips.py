"""Strips: decoded points of one line, by latent dimension."""

from __future__ import annotations

import io

import pytest
import torch

from analysis.interpolation.strips import draw_strip, strips
from analysis.results import Results


def test_strips_have_the_finished_dimensions(small_results: Results) -> None:
    shown = strips(small_results, (5, 1))
    assert list(shown.decoded) == [2, 8]
    assert shown.decoded[8].shape == (11, 28, 28)
    assert shown.blend[0] == pytest.approx(shown.second)
    assert shown.blend[-1] == pytest.approx(shown.first)
    network = small_results.autoencoders(shown.cells[8])[0]
    with torch.no_grad():
        restored = network(torch.from_numpy(shown.first)[None, None])[0, 0].numpy()
    assert shown.decoded[8][-1] == pytest.approx(restored, abs=1e-5)


def test_a_missing_digit_is_named(small_results: Results) -> None:
    with pytest.raises(ValueError, match="has no 12"):
        strips(small_results, (4, 12))


def test_a_strip_can_be_drawn(small_results: Results) -> None:
    figure = draw_strip(strips(small_results, (4, 7)))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getbuffer().nbytes > 10_000
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["d = 2", "d = 8", "pixel blend"]
