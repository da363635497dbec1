"""Cells of a results folder that count as done, and their tables."""

import numpy as np
import pandas as pd
import pytest

from analysis import stamp
from analysis.results import CONFIGS, Results, load
from analysis.source import Source
from study.errors import StoreError
from study.experiments import EXPERIMENTS
from study.store import Block, Store
from trainables.contract import Outcome

SMALL, LARGE = "a" * 16, "b" * 16
WANTED = {SMALL: 2, LARGE: 5}
CONFIG = {"latent_dim": 4, "depth": 2, "batch_size": 32, "epochs": 3, "seed": 0}
PROVENANCE = {"code": "test", "device": "test", "host": "test", "threads": 1, "torch": "test",
              "started": 0.0, "seconds": 1.5}  # fmt: skip


def plan(wanted):
    """A plan of autoencoders, with these numbers of replicates by cell."""
    cells = [
        {"id": cell, "config": CONFIG, "parent": None, "replicates": count}
        for cell, count in wanted.items()
    ]
    experiment = {
        "name": "autoencoder",
        "axes": {"latent_dim": [4]},
        "metric": "val_mse",
        "cells": cells,
    }
    return {"study": "autoencoder", "command": "study run autoencoder",
            "dataset": "mnist-5k", "data_dir": None, "fingerprint": "0" * 16,
            "experiments": [experiment]}  # fmt: skip


def write(store, cell, replicates, **more):
    """A block whose replicate r has the test error r / 10."""
    rows = [
        {"replicate": r, "parameters": 10, "train_seconds": 1.0, "val_mse": r / 10,
         "test_mse": r / 10, **more}
        for r in replicates
    ]  # fmt: skip
    history = [{"replicate": r, "epoch": 1, "val_mse": r / 10} for r in replicates]
    store.write_block(Block(cell, replicates), CONFIG, None, Outcome(rows, history), PROVENANCE)


@pytest.fixture
def store(tmp_path):
    """Two replicates of one cell; six of another in two blocks, five of them asked for."""
    store = Store(tmp_path)
    store.create()
    store.write_plan(plan(WANTED))
    write(store, SMALL, range(2))
    write(store, LARGE, range(3))
    write(store, LARGE, range(3, 6))
    return store


def test_cells_may_have_different_numbers_of_replicates(store):
    results = load(store.address)
    assert results.cells("autoencoder") == [SMALL, LARGE]
    assert results.missing.empty
    rows = results.rows.set_index("cell")
    assert rows.loc[SMALL, "replicate"].tolist() == [0, 1]
    assert rows.loc[LARGE, "replicate"].tolist() == [0, 1, 2, 3, 4]
    assert rows.loc[LARGE, "test_mse"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert results.history("autoencoder")["replicate"].tolist() == [0, 1, 0, 1, 2, 3, 4]
    assert results.replicates(LARGE) == range(5)
    assert results.replicates("c" * 16) == range(0)
    assert len(results.store.provenance([SMALL, LARGE])) == 3


def test_rows_have_the_columns_of_the_contract(small_results):
    common = {"experiment", "cell", "replicate", "seed", "latent_dim", "depth", "batch_size",
              "epochs", "parameters", "train_seconds"}  # fmt: skip
    assert common | {"val_mse", "test_mse"} <= set(small_results.of("autoencoder"))
    assert common | {"freeze", "labels", "label_subset", "encoder_cell", "encoder_replicate",
                     "test_accuracy"} <= set(small_results.of("fewshot"))  # fmt: skip
    assert "replicates" not in small_results.rows


def test_cell_that_lacks_a_replicate_is_missing(store):
    store.write_plan(plan({SMALL: 3, LARGE: 6}))
    results = load(store.address)
    assert results.cells("autoencoder") == [LARGE]
    assert set(results.rows["cell"]) == {LARGE}
    (line,) = results.missing.to_dict("records")
    assert line == {
        "experiment": "autoencoder",
        "cell": SMALL,
        "settings": "latent_dim 4",
        "reason": "not computed yet (2 of 3 replicates are there)",
    }
    store.write_failure(SMALL, CONFIG, "trainables.contract.Diverged: the loss is NaN")
    (reason,) = load(store.address).missing["reason"]
    assert reason == "Diverged: the loss is NaN (2 of 3 replicates are there)"


def test_part_is_limited_to_its_experiments(store):
    whole = plan({SMALL: 3, LARGE: 5})
    other = {**whole["experiments"][0], "name": "other"}
    experiments = [*whole["experiments"], {**other, "cells": other["cells"][1:]}]
    store.write_plan({**whole, "experiments": experiments})
    results = load(store.address)
    part = results.only({"autoencoder"})
    assert part.missing["cell"].tolist() == [SMALL]
    pd.testing.assert_frame_equal(part.rows, results.of("autoencoder"))
    assert part.of("other").empty
    other = results.only({"other"})
    assert other.missing.empty and set(other.rows["experiment"]) == {"other"}


def test_cell_with_a_damaged_block_is_missing(store):
    results = load(store.address, damaged={Block(LARGE, range(3, 6)): "damaged: too short"})
    assert results.cells("autoencoder") == [SMALL]
    assert results.missing["reason"].tolist() == ["damaged: too short"]


def test_damaged_block_of_extra_replicates_is_harmless(store):
    store.write_plan(plan({SMALL: 2, LARGE: 3}))
    damaged = {Block(LARGE, range(3, 6)): "damaged: too short"}
    assert load(store.address, damaged).missing.empty


def test_blocks_are_verified_once(store, monkeypatch):
    asked = []
    monkeypatch.setattr(Store, "verify", lambda self, cells: asked.append(set(cells)) or {})
    results = load(store.address)
    assert len(results.rows) == 7 and results.missing.empty
    assert asked == [{SMALL, LARGE}]
    load(store.address, damaged={})
    stamp.is_current(store.address, damaged={})
    assert len(asked) == 1


def test_report_with_a_broken_stamp_is_not_current(store):
    assert not stamp.is_current(store.address, damaged={})
    store.place.write(stamp.STAMP, b"cut o")
    assert not stamp.is_current(store.address, damaged={})


def test_word_in_a_column_of_numbers_is_refused(store):
    store.write_plan(plan({"c" * 16: 1}))
    write(store, "c" * 16, range(1), latent_dim="four")
    with pytest.raises(StoreError, match="latent_dim of autoencoder holds something that is not"):
        _ = load(store.address).rows


def test_nothing_done_has_empty_tables(store):
    planned = plan({"c" * 16: 1})
    results = Results(store, planned, {}, Source(planned))
    assert results.rows.empty
    assert results.of("autoencoder").empty
    assert results.history("autoencoder").empty
    assert isinstance(results.missing, pd.DataFrame) and len(results.missing) == 1


def test_predictions_of_a_wrong_length_are_refused(tmp_path):
    store = Store(tmp_path)
    store.create()
    store.write_plan({**plan({SMALL: 1}), "images": [3600, 400, 1000]})
    rows = [{"replicate": 0, "parameters": 10, "train_seconds": 1.0, "val_mse": 0.1}]
    outcome = Outcome(rows, predictions=np.zeros((1, 7), np.uint8))
    store.write_block(Block(SMALL, range(1)), CONFIG, None, outcome, PROVENANCE)
    with pytest.raises(StoreError, match=r"predicts 7 images, and mnist-5k has 1,000 test images"):
        load(store.address).predictions(SMALL)


def test_settings_of_every_experiment_are_known():
    assert {name: e.settings_module().Config for name, e in EXPERIMENTS.items()} == CONFIGS
