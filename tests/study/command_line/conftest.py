"""Commands in this process, on a machine without a network or a GPU."""

import pytest
import ray
import torch

import study.commands as command_line
from trainables.data import load


@pytest.fixture
def isolated(monkeypatch, no_network, digits):
    """Starting Ray fails the test; there is no network and no GPU; `mnist-5k` is in memory."""
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(
        command_line,
        "load",
        lambda name, *rest: digits if name == "mnist-5k" else load(name, *rest),
    )
