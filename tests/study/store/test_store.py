"""Finished cells as facts on disk: whole or not there, written once, checked when read."""

import json
import os
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from study.store import Store, StoreError
from trainables.contract import Outcome

CELL, OTHER, PARENT = "0123456789abcdef", "1123456789abcdef", "fedcba9876543210"
CONFIG = {"latent_dim": 3, "batch_size": 0, "freeze": "fixed", "replicates": 2, "seed": 0}
PLAN = {
    "study": "assignment",
    "command": "study run assignment",
    "dataset": "mnist-5k",
    "data_dir": None,
    "fingerprint": OTHER,
    "experiments": [
        {
            "name": "fewshot",
            "axes": {"latent_dim": [3]},
            "metric": "val_accuracy",
            "cells": [{"id": CELL, "config": CONFIG, "parent": PARENT}],
        }
    ],
}
FOREIGN = ["../../etc", "/etc", "", ".", "..", "0123456789ABCDEF", "0123456789abcde", CELL + "/.."]


def outcome(error=0.25):
    torch.manual_seed(0)
    return Outcome(
        rows=[
            {"replicate": 0, "batch_size": 20, "test_mse": error},
            {"replicate": 1, "batch_size": 20, "test_mse": 0.5},
        ],
        history=[{"replicate": r, "epoch": e, "loss": 1 / e} for e in (1, 2) for r in (0, 1)],
        weights={"encoder.weight": torch.rand(2, 3, 4), "steps": torch.tensor([5, 6])},
        predictions=np.arange(10, dtype=np.uint8).reshape(2, 5),
    )


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    return store


@pytest.fixture
def full(store):
    """A store with one finished cell."""
    store.write(CELL, CONFIG, PARENT, outcome(), {"device": "abacus"})
    return store


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is written is read -----------------------------------------------------------------


def test_a_cell_is_read_as_it_was_written(full):
    assert full.done() == {CELL}
    assert full.config(CELL) == CONFIG
    for name, value in outcome().weights.items():
        assert torch.equal(full.weights(CELL)[name], value)
    assert full.predictions(CELL).dtype == np.uint8
    assert full.predictions(CELL).tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert full.marker(CELL)["provenance"] == {"device": "abacus"}


def test_a_row_carries_its_cell_its_settings_and_its_parent(full):
    rows = full.rows([CELL])
    assert rows.to_dict("records") == [
        {
            "cell": CELL, "latent_dim": 3, "batch_size": 20, "freeze": "fixed", "seed": 0,
            "encoder_cell": PARENT, "replicate": replicate, "test_mse": error,
        }
        for replicate, error in ((0, 0.25), (1, 0.5))
    ]  # fmt: skip


def test_a_row_may_correct_a_setting(full):
    """`batch_size` 0 stands for all labels, whose number the row knows."""
    assert full.config(CELL)["batch_size"] == 0
    assert full.rows([CELL])["batch_size"].tolist() == [20, 20]


def test_the_history_says_whose_it_is(full):
    history = full.history([CELL])
    assert list(history.columns) == ["cell", "replicate", "epoch", "loss"]
    assert history["cell"].tolist() == [CELL] * 4
    assert history["loss"].tolist() == [1, 1, 0.5, 0.5]


def test_tables_of_several_cells_are_joined_in_their_order(full):
    full.write(OTHER, CONFIG, None, outcome(error=0.125), {})
    assert full.rows([OTHER, CELL])["test_mse"].tolist() == [0.125, 0.5, 0.25, 0.5]
    assert full.rows([OTHER, CELL])["cell"].tolist() == [OTHER] * 2 + [CELL] * 2
    assert full.rows([]).empty


def test_a_cell_without_weights_or_predictions_says_so(store):
    store.write(CELL, CONFIG, None, Outcome(outcome().rows), {})
    assert store.done() == {CELL}
    assert len(store.rows([CELL])) == 2
    for read, file in ((store.weights, "weights.safetensors"), (store.predictions, "predictions")):
        with pytest.raises(StoreError, match=f"{CELL} has no {file}"):
            read(CELL)


def test_the_plan_is_remembered(store):
    store.write_plan(PLAN)
    assert Store(store.folder).plan() == PLAN
    store.write_plan({**PLAN, "study": "other"})
    assert store.plan() == {**PLAN, "study": "other"}
    assert names(store.folder) == ["cells", "failed", "study.json"]


def test_a_folder_without_a_plan_says_so(tmp_path):
    with pytest.raises(StoreError, match="holds no study"):
        Store(tmp_path).plan()


def test_a_damaged_plan_is_named(store):
    (store.folder / "study.json").write_text('{"study": ')
    with pytest.raises(StoreError, match=r"study\.json"):
        store.plan()


# --- half a cell does not exist --------------------------------------------------------------


def test_nothing_is_done_in_a_new_folder(tmp_path):
    assert Store(tmp_path / "nowhere").done() == set()
    assert Store(tmp_path / "nowhere").failures() == {}
    assert not (tmp_path / "nowhere").exists()


def test_a_temporary_folder_is_not_a_cell(full):
    os.rename(full.cells / CELL, full.cells / f".{CELL}.0123")
    assert full.done() == set()


def test_a_folder_without_its_marker_is_not_a_cell(full):
    (full.cells / CELL / "done.json").unlink()
    assert full.done() == set()


def test_a_folder_without_its_marker_is_replaced(full):
    (full.cells / CELL / "done.json").unlink()
    full.write(CELL, CONFIG, PARENT, outcome(error=0.125), {})
    assert full.done() == {CELL}
    assert full.rows([CELL])["test_mse"].tolist() == [0.125, 0.5]
    assert names(full.cells) == [CELL]


def test_a_write_that_fails_leaves_nothing(store):
    broken = Outcome(outcome().rows, weights={"encoder.weight": "not a tensor"})
    with pytest.raises(AttributeError):
        store.write(CELL, CONFIG, None, broken, {})
    assert store.done() == set()
    assert names(store.cells) == []


def test_the_marker_is_written_last(store, monkeypatch):
    """Until then nothing of the cell is under its name."""
    seen = []
    write = pd.DataFrame.to_parquet

    def record(self, path, **options):
        seen.append((path.parent.parent == store.cells, path.parent.name, names(path.parent)))
        return write(self, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", record)
    store.write(CELL, CONFIG, None, outcome(), {})
    assert len(seen) == 2
    for in_cells, folder, files in seen:
        assert in_cells
        assert folder.startswith(f".{CELL}.")
        assert "done.json" not in files


def test_of_two_writers_the_first_wins(full):
    full.write(CELL, CONFIG, PARENT, outcome(error=0.125), {"device": "slower"})
    assert full.rows([CELL])["test_mse"].tolist() == [0.25, 0.5]
    assert full.marker(CELL)["provenance"] == {"device": "abacus"}
    assert names(full.cells) == [CELL]


def test_many_writers_at_once_make_one_whole_cell(store):
    ready = threading.Barrier(6)
    errors = []

    def write(number):
        try:
            ready.wait()
            store.write(CELL, CONFIG, None, outcome(error=number), {"writer": number})
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert names(store.cells) == [CELL]
    number = store.marker(CELL)["provenance"]["writer"]
    assert store.rows([CELL])["test_mse"].tolist() == [number, 0.5]


# --- damage ----------------------------------------------------------------------------------

READERS = {
    "config.json": lambda store: store.config(CELL),
    "rows.parquet": lambda store: store.rows([CELL]),
    "history.parquet": lambda store: store.history([CELL]),
    "weights.safetensors": lambda store: store.weights(CELL),
    "predictions.npz": lambda store: store.predictions(CELL),
}


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "missing"])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named(name, damage, full):
    path = full.cells / CELL / name
    content = bytearray(path.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(StoreError) as caught:
        READERS[name](full)
    assert str(caught.value).startswith(f"{path}: damaged")
    assert full.damaged([CELL]).keys() == {CELL}
    assert full.damaged([CELL])[CELL].startswith(f"damaged: {name}: ")
    for other, read in READERS.items():
        if other != name:
            read(full)


def test_whole_cells_are_not_damaged(full):
    full.write(OTHER, CONFIG, None, outcome(), {})
    assert full.damaged([CELL, OTHER]) == {}
    (full.cells / OTHER / "rows.parquet").write_bytes(b"")
    assert set(full.damaged([CELL, OTHER])) == {OTHER}
    assert full.damaged([CELL]) == {}


def test_what_is_put_aside_can_be_written_again_and_is_kept(full):
    for number in (1, 2):
        (full.cells / CELL / "rows.parquet").write_bytes(b"x" * number)
        place = full.put_aside(CELL)
        assert place == full.folder / "damaged" / f"{CELL}-{number}"
        assert full.done() == set()
        full.write(CELL, CONFIG, None, outcome(), {})
        assert len(full.rows([CELL])) == 2
    kept = sorted(full.set_aside.iterdir())
    assert [(place / "rows.parquet").read_bytes() for place in kept] == [b"x", b"xx"]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"files": {}, "provenance": {}}', '{"files": [], "provenance": 1}'],
)
def test_a_marker_that_is_none_is_damage(content, full):
    (full.cells / CELL / "done.json").write_text(content)
    assert full.damaged([CELL])[CELL].startswith("damaged: done.json: ")


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "notes.txt"])
def test_a_marker_names_no_other_files(name, full):
    """So that no path from outside is followed."""
    path = full.cells / CELL / "done.json"
    marker = json.loads(path.read_text())
    marker["files"][name] = "0" * 64
    path.write_text(json.dumps(marker))
    assert full.damaged([CELL]) == {CELL: "damaged: done.json: not what was written"}


def test_a_damaged_marker_is_named(full):
    (full.cells / CELL / "done.json").write_text("{")
    with pytest.raises(StoreError, match=r"done\.json"):
        full.rows([CELL])


def test_a_cell_that_is_not_there_is_an_error(store):
    with pytest.raises(StoreError, match=CELL):
        store.rows([CELL])


# --- names from outside ----------------------------------------------------------------------


@pytest.mark.parametrize("identity", FOREIGN)
def test_only_ids_become_paths(identity, full):
    before = sorted(full.folder.parent.rglob("*"))
    for use in (
        full.config,
        full.weights,
        full.predictions,
        full.marker,
        lambda name: full.rows([name]),
        lambda name: full.history([name]),
        lambda name: full.write(name, CONFIG, None, outcome(), {}),
        lambda name: full.write_failure(name, CONFIG, "error"),
    ):
        with pytest.raises(StoreError, match="is not the id of a cell"):
            use(identity)
    assert sorted(full.folder.parent.rglob("*")) == before


def test_other_files_beside_the_cells_are_left_alone(full):
    (full.cells / "notes").mkdir()
    (full.cells / "notes" / "done.json").touch()
    (full.cells / ".DS_Store").touch()
    (full.failed / "notes.json").write_text("{}")
    assert full.done() == {CELL}
    assert full.failures() == {}


# --- failures --------------------------------------------------------------------------------


def test_a_failure_keeps_its_last_line_as_the_reason(store):
    error = "Traceback …\n  File …\n\ntrainables.contract.Diverged: the loss of replicate 1\n\n"
    store.write_failure(CELL, CONFIG, error)
    assert store.done() == set()
    assert store.failures() == {
        CELL: {
            "cell": CELL,
            "config": CONFIG,
            "reason": "Diverged: the loss of replicate 1",
            "traceback": error,
        }
    }


def test_a_failure_without_words_is_one_too(store):
    store.write_failure(CELL, CONFIG, "")
    assert store.failures()[CELL]["reason"] == "unknown"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\xff"])
def test_a_note_of_a_failure_that_is_damaged_hides_no_other(content, store):
    store.write_failure(CELL, CONFIG, "out of memory")
    store.write_failure(OTHER, CONFIG, "out of memory")
    (store.failed / f"{CELL}.json").write_text(content, encoding="latin-1")
    failures = store.failures()
    assert failures[CELL]["reason"] == "failed; why can't be read any more"
    assert failures[OTHER]["reason"] == "out of memory"


@pytest.mark.parametrize("content", ["[]", "{}", '{"study": 1}', '{"experiments": [{}]}'])
def test_a_plan_that_is_none_is_named(content, store):
    (store.folder / "study.json").write_text(content)
    with pytest.raises(StoreError, match=r"study\.json: not what"):
        store.plan()


def test_a_success_clears_the_failure(store):
    store.write_failure(CELL, CONFIG, "out of memory")
    store.write_failure(OTHER, CONFIG, "out of memory")
    store.write(CELL, CONFIG, None, outcome(), {})
    assert store.done() == {CELL}
    assert set(store.failures()) == {OTHER}


def test_the_latest_failure_is_the_one_that_counts(store):
    store.write_failure(CELL, CONFIG, "first")
    store.write_failure(CELL, CONFIG, "second")
    assert store.failures()[CELL]["reason"] == "second"
    assert names(store.failed) == [f"{CELL}.json"]


# --- the folder ------------------------------------------------------------------------------


def test_a_file_is_not_a_results_folder(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="file"):
            Store(path).create()


def test_creating_twice_keeps_what_is_there(full):
    full.create()
    assert full.done() == {CELL}
    assert names(full.folder) == ["cells", "failed"]


def test_a_relative_folder_stays_the_same_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("results")
    monkeypatch.chdir("/")
    assert store.folder == tmp_path / "results"


def test_all_that_is_stored_is_plain_data(full):
    assert json.loads((full.cells / CELL / "config.json").read_text())["parent"] == PARENT
    assert names(full.cells / CELL) == sorted([*READERS, "done.json"])
