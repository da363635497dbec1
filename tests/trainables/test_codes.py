"""Kept codes equal codes computed again."""

import copy
import errno

import numpy as np
import pytest
import torch

from trainables.fewshot import codes
from trainables.fewshot.codes import encode
from trainables.networks import Classifier
from trainables.seeds import initialise
from trainables.shape import Shape

SHAPE = Shape(latent_dim=3, depth=2, width=2)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(codes, "_cache", type(codes._cache)())
    monkeypatch.setattr(codes, "_shared_folder", None)


def test_cached_codes_need_the_same_encoder_and_images(digits, encoded):
    one, other = initialise(lambda: Classifier.untrained(SHAPE), 3, range(2))
    images = torch.from_numpy(digits.test.images)
    first = encode(one, images)
    assert sum(encoded) == 1000
    assert torch.equal(encode(copy.deepcopy(one), images.clone()), first)
    assert sum(encoded) == 1000
    changed = images.clone()
    changed[500, 0, 14, 14] ^= 1
    for another in (encode(other, images), encode(one, changed)):
        assert not torch.equal(another, first)
    with torch.no_grad():
        one.encoder.code.bias[0] += 1
    assert torch.allclose(encode(one, images)[:, 0], first[:, 0] + 1)
    assert sum(encoded) == 4000


def test_number_of_cached_codes_is_limited(digits, monkeypatch):
    monkeypatch.setattr(codes, "CACHE_BYTES", 2 * 1000 * 3 * 4)
    images = torch.from_numpy(digits.test.images)
    for member in initialise(lambda: Classifier.untrained(SHAPE), 4, range(4)):
        encode(member, images)
    assert len(codes._cache) == 2


def test_processes_share_computed_codes(digits, encoded, tmp_path):
    """To the last bit; a process that doesn't share has only its own."""
    folder = tmp_path / "session" / "codes"
    (one,) = initialise(lambda: Classifier.untrained(SHAPE), 5, range(1))
    images = torch.from_numpy(digits.test.images)
    codes.share_cache(folder)
    first = encode(one, images)
    codes._cache.clear()  # as another process begins
    assert torch.equal(encode(one, images), first)
    assert sum(encoded) == 1000
    assert [path.suffix for path in folder.iterdir()] == [".npy"]
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["foreign", "empty"])
def test_damaged_codes_file_is_replaced(damage, digits, encoded, tmp_path):
    codes.share_cache(tmp_path)
    (one,) = initialise(lambda: Classifier.untrained(SHAPE), 5, range(1))
    images = torch.from_numpy(digits.test.images)
    first = encode(one, images)
    (file,) = tmp_path.glob("*.npy")
    whole = file.read_bytes()
    if damage == "foreign":
        np.save(file, np.array([print], dtype=object), allow_pickle=True)
    else:
        file.write_bytes(b"")
    for _ in range(2):
        codes._cache.clear()
        assert torch.equal(encode(one, images), first)
    assert sum(encoded) == 2000  # the second time it is whole again
    assert file.read_bytes() == whole


def test_full_disk_leaves_no_half_written_file(digits, monkeypatch, tmp_path):
    def half(file, array):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(codes.np, "save", half)
    codes.share_cache(tmp_path)
    (one,) = initialise(lambda: Classifier.untrained(SHAPE), 5, range(1))
    images = torch.from_numpy(digits.test.images)
    assert encode(one, images).shape == (1000, 3)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_costs_no_result(digits, tmp_path):
    codes.share_cache(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (one,) = initialise(lambda: Classifier.untrained(SHAPE), 5, range(1))
    images = torch.from_numpy(digits.test.images)
    assert encode(one, images).shape == (1000, 3)
