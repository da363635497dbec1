"""Values are cached by their inputs and the code; damaged ones are computed again."""

import os

import pandas as pd
import pytest
import torch

from analysis import cache
from analysis.interpolation import judge


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
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


def test_model_is_measured_once(measure):
    first = cache.model_table("pairs", linear(2.0), [1, "x"], measure)
    again = cache.model_table("pairs", linear(2.0), [1, "x"], measure)
    assert measure.calls == 1
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert first["weight"][0] == 2.0


@pytest.mark.parametrize(
    ("name", "weight", "inputs"),
    [("others", 2.0, [1]), ("pairs", 3.0, [1]), ("pairs", 2.0, [2])],
    ids=["another measure", "other weights", "other inputs"],
)
def test_other_inputs_are_measured_anew(name, weight, inputs, measure):
    cache.model_table("pairs", linear(2.0), [1], measure)
    assert cache.model_table(name, linear(weight), inputs, measure)["weight"][0] == weight
    assert measure.calls == 2


def test_other_code_measures_anew(measure, monkeypatch):
    cache.model_table("pairs", linear(2.0), [1], measure)
    monkeypatch.setattr(cache, "CODE", ["other sources"])
    cache.model_table("pairs", linear(2.0), [1], measure)
    assert measure.calls == 2


@pytest.mark.parametrize("at", [0, 10, 64, 65, 70, 200, 400, -1])
def test_damaged_measures_are_replaced(at, cache_folder, measure):
    cache.model_table("pairs", linear(2.0), [1], measure)
    (path,) = cache_folder.iterdir()
    whole = bytearray(path.read_bytes())
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at:][1:]):
        path.write_bytes(damaged)
        assert cache.model_table("pairs", linear(2.0), [1], measure)["weight"][0] == 2.0
        assert path.read_bytes() == whole
    assert measure.calls == 3


def test_weights_of_any_type_are_told_apart():
    model = torch.nn.Linear(2, 2).to(torch.bfloat16)
    before = cache.weights_hash(model)
    assert before == cache.weights_hash(model) != cache.weights_hash(model.to(torch.float32))
    with torch.no_grad():
        model.bias[0] += 1
    assert cache.weights_hash(model) != before


def unusable_folders(folder):
    """Places where nothing can be kept: none, a file, below a file, where nobody can write."""
    (folder / "file").write_text("")
    return "", f"{folder / 'file'}", f"{folder / 'file' / 'below'}", "/proc/nowhere"


def test_without_a_cache_all_is_measured(tmp_path, measure, monkeypatch):
    for calls, where in enumerate(unusable_folders(tmp_path)):
        monkeypatch.setenv("STUDY_CACHE_DIR", where)
        for _ in range(2):
            cache.model_table("pairs", linear(2.0), [1], measure)
        cache.tidy()
        assert measure.calls == 2 * (calls + 1) and not cache.is_usable()


def test_least_recently_used_value_goes_first(cache_folder, monkeypatch):
    monkeypatch.setattr(cache, "MAX_BYTES", 160)  # two values of 10 bytes and their hashes
    keys = [cache.key("pairs-0123456789abcdef", name) for name in ("new", "old", "oldest")]
    for age, key in enumerate(keys):
        cache.write(key, b"0123456789")
        os.utime(cache_folder / key, (1e9 - age, 1e9 - age))
    killed = cache_folder / f"{cache.key('judges', 0)}.4711"  # its writer was killed
    killed.write_bytes(b"01234")
    os.utime(killed, (0, 0))
    (cache_folder / "a folder").mkdir()
    (cache_folder / "thesis.pdf").write_bytes(b"0" * 1000)
    assert cache.read(keys[2]) == b"0123456789"  # is the latest now
    cache.tidy()
    left = {path.name for path in cache_folder.iterdir()}
    assert left == {keys[0], keys[2], "a folder", "thesis.pdf"}


def only_file(folder):
    """The only file of a folder."""
    (path,) = folder.iterdir()
    return path


def test_judges_are_trained_once(small_results, cache_folder, monkeypatch):
    data, trained = small_results.dataset, []
    train = judge._trained

    def counted(network, data, steps, seed):
        trained.append(network)
        return train(network, data, 2, seed)

    monkeypatch.setattr(judge, "_trained", counted)
    monkeypatch.setattr(judge, "_JUDGES", {})
    first = judge.judges_of(data)
    assert judge.judges_of(data) is first
    judge._JUDGES.clear()  # as another process begins
    again = judge.judges_of(data)
    assert len(trained) == judge.JUDGES and again is not first
    assert again.weights_hash == first.weights_hash and again.accuracies == first.accuracies
    assert not any(network.training for network in again.networks)
    for damage in (b"", b"{}", only_file(cache_folder).read_bytes()[:-4] + b"0000"):
        judge._JUDGES.clear()
        only_file(cache_folder).write_bytes(damage)
        assert judge.judges_of(data).weights_hash == first.weights_hash
    assert len(trained) == 4 * judge.JUDGES
