"""Blocks to write, and stores on each kind of place."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import obstore
import pytest
import torch

from study.store import Block, Store
from study.store.places import Folder, open_place
from trainables.contract import Outcome

CELL, PARENT = "0123456789abcdef", "fedcba9876543210"
CONFIG = {"latent_dim": 3, "batch_size": 0, "freeze": "fixed", "seed": 0}


@pytest.fixture
def outcome():
    """Makes what a trainable returns for some replicates; every number identifies its replicate."""

    def make(replicates, plus=0.0):
        numbers = list(replicates)
        return Outcome(
            rows=[{"replicate": r, "batch_size": 20, "test_mse": r + plus} for r in numbers],
            history=[{"replicate": r, "epoch": e, "loss": r / e} for e in (1, 2) for r in numbers],
            weights={
                "weight": torch.tensor([[r, 0.1, -0.0] for r in numbers]),
                "steps": torch.tensor(numbers),
            },
            predictions=np.array([[r, r + 1] for r in numbers], dtype=np.uint8),
        )

    return make


@pytest.fixture
def write(outcome):
    """Writes a block of some replicates to a store, and returns it."""

    def write(store, first=0, last=1, cell=CELL, plus=0.0):
        block = Block(cell, range(first, last + 1))
        results = outcome(block.replicates, plus)
        store.write_block(block, CONFIG, PARENT, results, {"device": f"plus {plus:g}"})
        return block

    return write


@pytest.fixture
def run_concurrently():
    """Calls a function with 0, 1, … below `number`, each in a thread, all at the same time."""

    def run(number, function):
        ready = threading.Barrier(number)

        def call(argument):
            ready.wait()
            function(argument)

        with ThreadPoolExecutor(number) as pool:
            list(pool.map(call, range(number)))

    return run


@pytest.fixture
def change_obstore(monkeypatch):
    """Replaces functions of obstore, by name, as buckets see them."""

    def change(**functions):
        changed = SimpleNamespace(**vars(obstore) | functions)
        monkeypatch.setattr("study.store.bucket.obstore", changed)

    return change


@pytest.fixture
def change_os(monkeypatch):
    """Replaces functions of os, by name, as folders see them."""

    def change(**functions):
        changed = SimpleNamespace(**vars(os) | functions)
        monkeypatch.setattr("study.store.places.os", changed)

    return change


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path):
    """An empty place of each kind."""
    if request.param == "folder":
        (tmp_path / "results").mkdir()
        return Folder(tmp_path / "results")
    s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
    return open_place(s3.uri(bucket))


@pytest.fixture
def store(place):
    """An empty store on each kind of place."""
    store = Store(place)
    store.create()
    return store


@pytest.fixture
def remote_store(s3, bucket):
    """An empty store in a bucket."""
    store = Store(s3.uri(bucket))
    store.create()
    return store
