"""Blocks computed in this process, without Ray, and the tables of finished ones."""

from __future__ import annotations

import time

import pandas as pd

from study.grid import Cell
from study.provenance import code_version, device_name
from study.store import Block, Store
from trainables.contract import Report
from trainables.data import Dataset
from trainables.own import trainable_part


def compute(cell: Cell, replicates: range, data: Dataset, store: Store) -> None:
    """Compute a block as a trial of Ray Tune does, in this process."""
    parent = None
    if cell.parent:
        parent = store.weights(cell.parent.id, map(cell.settings.parent_replicate, replicates))
    started = time.time()
    train = trainable_part(cell.experiment.trainable, "train").train
    outcome = train(cell.settings, replicates, data, Report(), parent)
    provenance = {
        "code": code_version(),
        "device": device_name(),
        "host": "test",
        "threads": 1,
        "torch": "test",
        "started": started,
        "seconds": time.time() - started,
    }
    block = Block(cell.id, replicates)
    store.write_block(block, cell.config, cell.parent_id, outcome, provenance)


def tables(store: Store) -> list[pd.DataFrame]:
    """Rows and histories of all finished blocks, without measured times."""
    wanted = {cell: max(r.stop for r in found) for cell, found in sorted(store.blocks().items())}
    return [store.rows(wanted).drop(columns="train_seconds"), store.history(wanted)]


def assert_same_tables(found: list[pd.DataFrame], wanted: list[pd.DataFrame]) -> None:
    """Assert equality to the last bit."""
    for table, other in zip(found, wanted, strict=True):
        assert len(other)
        pd.testing.assert_frame_equal(table, other, check_exact=True)
