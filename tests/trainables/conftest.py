"""Fixtures that several tests of trainables share."""

import dataclasses

import pytest

from trainables.autoencoder import train as autoencoder
from trainables.fewshot import train as fewshot
from trainables.networks import Encoder
from trainables.rotation import train as rotation


class FirstEpoch:
    """A checkpoint in memory, which is saved once."""

    def __init__(self):
        self.progress = None

    def due(self):
        return self.progress is None

    def save(self, progress):
        tensors = {name: value.detach().cpu().clone() for name, value in progress.tensors.items()}
        self.progress = dataclasses.replace(progress, tensors=tensors)

    def load(self):
        return self.progress


@pytest.fixture
def first_epoch():
    """A checkpoint that keeps the first epoch that it is given."""
    return FirstEpoch()


@pytest.fixture
def use_strategy(monkeypatch):
    """Return a function that makes networks without batch norm train by one strategy."""

    def use(strategy):
        for module in (autoencoder, fewshot, rotation):
            monkeypatch.setattr(module, "fastest_strategy", lambda model, device: strategy)

    return use


@pytest.fixture
def encoded(monkeypatch):
    """The number of images in each call of an encoder."""
    calls = []
    forward = Encoder.forward

    def count(self, images):
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", count)
    return calls
