"""What several tests of trainables share."""

import pytest

from trainables.networks import Encoder


@pytest.fixture
def encoded(monkeypatch):
    """How many images each call of an encoder has had."""
    calls = []
    forward = Encoder.forward

    def count(self, images):
        calls.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Encoder, "forward", count)
    return calls
