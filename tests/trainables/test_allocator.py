"""Freed memory stays with the process: tested in another one, as the setting can't be undone."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAULTS = """
import resource, torch
from trainables.allocator import keep_freed_memory
from trainables.networks import Autoencoder
from trainables.shape import Shape
torch.set_num_threads(1)
if {keep}:
    assert keep_freed_memory()
torch.manual_seed(0)
model = Autoencoder(Shape(latent_dim=14, depth=3, width=16))
images = torch.rand(64, 1, 28, 28)
def step():
    loss = (model(images) - images).square().mean()
    loss.backward()
    return loss.item()
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
losses = [step() for _ in range(20)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, losses[-1].hex())
"""


def twenty_steps(keep: bool) -> tuple[int, str]:
    """Page faults, and the bits of the last loss."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    faults, loss = done.stdout.split()
    return int(faults), loss


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_page_faults():
    given_back, loss = twenty_steps(keep=False)
    kept, same_loss = twenty_steps(keep=True)
    assert kept < 20 * 50
    assert kept < given_back / 5
    assert same_loss == loss
