"""A small finished study, computed without Ray: every cell by its own `train`."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

import pytest

from analysis.results import Results, load
from study.experiments import EXPERIMENTS
from study.grid import Cell, override, plan, record
from study.provenance import code_version, device_name
from study.store import Store
from trainables.data import Dataset
from trainables.data import load as load_data

AXES = {
    "autoencoder": {"latent_dim": (2, 8), "depth": (2,), "batch_size": (64,)},
    "fewshot": {"latent_dim": (2, 8), "depth": (2,), "labels": (20, 40)},
}
FIXED = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 10, "encoder_epochs": 3, "width": 4, "replicates": 2},
}


def compute(cell: Cell, data: Dataset, store: Store) -> None:
    """What a trial of Ray Tune does, in this process."""
    module = importlib.import_module(cell.trainable)
    parent = store.weights(cell.parent) if cell.parent else None
    started = time.time()
    outcome = module.train(module.Config(**cell.config), data, lambda metrics: None, parent)
    provenance = {
        "code": code_version(),
        "device": device_name(),
        "host": "test",
        "threads": 1,
        "torch": "test",
        "started": started,
        "seconds": time.time() - started,
    }
    store.write(cell.id, cell.config, cell.parent, outcome, provenance)


@pytest.fixture(scope="session")
def compute_cell() -> Callable[[Cell, Dataset, Store], None]:
    """`compute`, for tests that have cells of their own."""
    return compute


@pytest.fixture(scope="session")
def small_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Autoencoders of 2 layers with d = 2 and 8, and few-shot classifiers on them, 2 replicates
    each, on mnist-5k: trained so briefly that their numbers mean nothing."""
    data = load_data("mnist-5k")
    experiments = [override(EXPERIMENTS[name], AXES[name], FIXED[name]) for name in AXES]
    groups = plan(experiments, data.fingerprint)
    store = Store(tmp_path_factory.mktemp("study"))
    store.create()
    store.write_plan(record("assignment", "study run assignment", data, None, experiments, groups))
    for cells in groups:
        for cell in cells:
            compute(cell, data, store)
    return load(store.folder)
