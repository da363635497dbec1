"""Codes that are computed once are those that would be computed again."""

import copy

import pytest
import torch

from trainables import codes
from trainables.codes import encode
from trainables.networks import Classifier
from trainables.replicates import initialise
from trainables.settings.shape import Shape

SHAPE = Shape(latent_dim=3, depth=2, width=2)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(codes, "_kept", type(codes._kept)())


def test_kept_codes_are_those_of_the_same_encoder_and_images(digits, encoded):
    one, other = initialise(lambda: Classifier(SHAPE), 3, 2)
    images = torch.from_numpy(digits.test.images).unsqueeze(1)
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


def test_no_more_codes_are_kept_than_said(digits, monkeypatch):
    monkeypatch.setattr(codes, "KEPT", 2 * 1000 * 3 * 4)
    images = torch.from_numpy(digits.test.images).unsqueeze(1)
    for member in initialise(lambda: Classifier(SHAPE), 4, 4):
        encode(member, images)
    assert len(codes._kept) == 2
