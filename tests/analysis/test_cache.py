"""What `analysis.cache` keeps, and what makes it compute again."""

import os

import pandas as pd
import pytest
import torch

from analysis import cache
from analysis.interpolation import judge


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of the cache."""
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def measure():
    """Measures a model, and counts its calls."""

    def measure(model):
        measure.calls += 1
        return pd.DataFrame({"pair": ["4-7", "8-9"], "weight": [model.weight.item(), float("nan")]})

    measure.calls = 0
    return measure


def linear(weight):
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, weight)
    return model


def test_a_model_is_measured_once(measure):
    first = cache.measured("pairs", linear(2.0), [1, "x"], measure)
    again = cache.measured("pairs", linear(2.0), [1, "x"], measure)
    assert measure.calls == 1
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert first["weight"][0] == 2.0


@pytest.mark.parametrize(
    ("name", "weight", "inputs"),
    [("others", 2.0, [1]), ("pairs", 3.0, [1]), ("pairs", 2.0, [2])],
    ids=["another measure", "other weights", "other inputs"],
)
def test_what_differs_is_measured_anew(name, weight, inputs, measure):
    cache.measured("pairs", linear(2.0), [1], measure)
    assert cache.measured(name, linear(weight), inputs, measure)["weight"][0] == weight
    assert measure.calls == 2


def test_other_code_measures_anew(measure, monkeypatch):
    cache.measured("pairs", linear(2.0), [1], measure)
    monkeypatch.setattr(cache, "_code", lambda: ["other sources", {}])
    cache.measured("pairs", linear(2.0), [1], measure)
    assert measure.calls == 2


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"\x80\x04\x8c\x05hello\x94."])
def test_damaged_measures_are_replaced(content, kept, measure):
    for calls in (1, 2, 2):
        cache.measured("pairs", linear(2.0), [1], measure)
        assert measure.calls == calls
        (path,) = kept.iterdir()
        if measure.calls == 1:
            path.write_bytes(content)


@pytest.mark.parametrize("where", ["", "/proc/nowhere"])
def test_without_a_cache_all_is_measured(where, measure, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", where)
    for _ in range(2):
        cache.measured("pairs", linear(2.0), [1], measure)
    cache.tidy()
    assert measure.calls == 2


def test_what_was_not_used_for_longest_goes(kept, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 25)
    for age, name in enumerate(("read", "old", "older", "oldest")):
        cache.keep(name, b"0123456789")
        os.utime(kept / name, (1e9 - age, 1e9 - age))
    assert cache.read("oldest") == b"0123456789"  # is the latest now
    cache.tidy()
    assert sorted(path.name for path in kept.iterdir()) == ["oldest", "read"]


def test_judges_are_trained_once(small_results, kept, monkeypatch):
    data, trained = small_results.dataset, []
    train = judge._trained

    def counted(network, *rest):
        trained.append(network)
        return train(network, *rest[:1], 2, *rest[2:])

    monkeypatch.setattr(judge, "_trained", counted)
    monkeypatch.setattr(judge, "_JUDGES", {})
    first = judge.judges_of(data)
    assert judge.judges_of(data) is first
    judge._JUDGES.clear()  # as another process begins
    again = judge.judges_of(data)
    assert len(trained) == judge.JUDGES and again is not first
    assert again.digest == first.digest and again.accuracies == first.accuracies
    assert not any(network.training for network in again.networks)
    for damage in (b"", b"{}"):
        judge._JUDGES.clear()
        (path,) = kept.iterdir()
        path.write_bytes(damage)
        assert judge.judges_of(data).digest == first.digest
    assert len(trained) == 3 * judge.JUDGES
