"""Blocks in a folder and in a bucket: whole or absent, written once."""

import math
import pickle
import re

import numpy as np
import orjson
import pytest
import torch

from study.store import Block, DamagedBlock, Store, StoreError, cells
from tests.phrases import phrase
from trainables.contract import Outcome

CELL, OTHER, PARENT = "0123456789abcdef", "1123456789abcdef", "fedcba9876543210"
CONFIG = {"latent_dim": 3, "batch_size": 0, "freeze": "fixed", "seed": 0}
FOREIGN = ["../../etc", "/etc", "", ".", "..", "0123456789ABCDEF", "0123456789abcde", CELL + "/.."]


def file_names(store, folder="blocks"):
    return sorted(store.place.list(folder))


def arrays_name(store, block):
    """The name of a block's arrays file."""
    start = block.marker.removeprefix("blocks/").removesuffix("json")
    (name,) = [n for n in file_names(store) if n.startswith(start) and n.endswith(".safetensors")]
    return f"blocks/{name}"


# --- names -----------------------------------------------------------------------------------


def test_block_is_parsed_from_its_name():
    block = Block(CELL, range(4, 20))
    assert block.name == f"{CELL}.4-19"
    assert Block.parse(block.name) == block


@pytest.mark.parametrize(
    "name", [f"{CELL}.4-3", f"{CELL}.4", f"{CELL}.-1-3", "x.0-1", f"{CELL}.0-1.json", "", "."]
)
def test_other_names_are_no_blocks(name):
    assert Block.parse(name) is None


@pytest.mark.parametrize("cell", FOREIGN)
def test_only_ids_become_names_of_files(cell, local_store, outcome):
    before = sorted(local_store.place.path.parent.rglob("*"))
    block = Block(cell, range(2))
    for use in (
        lambda: local_store.config(cell),
        lambda: local_store.weights(cell, [0]),
        lambda: local_store.predictions(cell, [0]),
        lambda: local_store.provenance([cell]),
        lambda: local_store.rows({cell: 1}),
        lambda: local_store.history({cell: 1}),
        lambda: local_store.has(block),
        lambda: local_store.set_aside(block),
        lambda: local_store.progress(block),
        lambda: local_store.write_block(block, CONFIG, None, outcome(range(2)), {}),
        lambda: local_store.write_failure(cell, CONFIG, "error"),
    ):
        with pytest.raises(StoreError, match="is not the id of a cell"):
            use()
    assert sorted(local_store.place.path.parent.rglob("*")) == before


# --- reading and writing ---------------------------------------------------------------------


def test_block_is_read_as_it_was_written(store, write, outcome):
    block = write(store, 4, 6)
    for again in (store, Store(store.place)):
        assert again.blocks() == {CELL: [range(4, 7)]}
        assert again.has(block) and not again.has(Block(CELL, range(4, 6)))
        assert again.config(CELL) == CONFIG
        assert again.provenance([CELL]) == [{"device": "plus 0"}]
        assert again.verify([CELL, OTHER]) == {}
        wanted = outcome(range(4, 7))
        weights = again.weights(CELL, [6, 4])
        assert set(weights) == {4, 6}
        for replicate, row in ((4, 0), (6, 2)):
            assert weights[replicate].keys() == wanted.weights.keys()
            for name, value in wanted.weights.items():
                assert torch.equal(weights[replicate][name], value[row])
        predictions = again.predictions(CELL, [6, 4])
        assert (predictions.dtype, predictions.tolist()) == (np.uint8, [[6, 7], [4, 5]])


def test_store_is_made_again_from_its_address(store, write):
    write(store)
    assert Store(store.address).blocks() == {CELL: [range(2)]}


def test_block_is_two_files(store, write):
    write(store)
    marker, arrays = sorted(store.place.list("blocks"), key=len)
    assert marker == f"{CELL}/0-1.json"
    size = store.place.list("blocks")[arrays]
    assert re.fullmatch(rf"{CELL}/0-1\.[0-9a-f]{{16}}-{size}\.safetensors", arrays)
    digest, line = store.place.read(f"blocks/{marker}").splitlines()
    assert orjson.loads(digest).keys() == {"sha256"}
    assert orjson.loads(line)["parent"] == PARENT


def test_row_carries_its_cell_settings_and_parent(local_store, write):
    write(local_store)
    assert local_store.rows({CELL: 2}).to_dict("records") == [
        {
            "cell": CELL, "latent_dim": 3, "batch_size": 20, "freeze": "fixed", "seed": 0,
            "encoder_cell": PARENT, "replicate": replicate, "test_mse": float(replicate),
        }
        for replicate in (0, 1)
    ]  # fmt: skip


def test_row_overrides_a_setting(local_store, write):
    """`batch_size` 0 stands for all labels, whose number the row knows."""
    write(local_store)
    assert local_store.config(CELL)["batch_size"] == 0
    assert local_store.rows({CELL: 2})["batch_size"].tolist() == [20, 20]


def test_history_names_its_cell(local_store, write):
    write(local_store)
    history = local_store.history({CELL: 2})
    assert list(history.columns) == ["cell", "replicate", "epoch", "loss"]
    assert history["cell"].tolist() == [CELL] * 4
    assert history["loss"].tolist() == [0, 1, 0, 0.5]


def test_tables_of_several_cells_are_in_their_order(store, write):
    write(store)
    write(store, cell=OTHER, plus=10.0)
    rows = store.rows({OTHER: 1, CELL: 2})
    assert rows["test_mse"].tolist() == [10, 0, 1]
    assert rows["cell"].tolist() == [OTHER, CELL, CELL]
    assert store.rows({}).empty


def test_negative_zero_is_kept(store):
    """It differs from zero in its reciprocal and its bits."""
    block = Block(CELL, range(1))
    row = {"replicate": 0, "test_mse": -0.0}
    weights = {"weight": torch.tensor([[-0.0, 0.0]])}
    store.write_block(block, CONFIG, None, Outcome([row], weights=weights), {})
    assert math.copysign(1, store.rows({CELL: 1})["test_mse"][0]) == -1
    assert torch.signbit(store.weights(CELL, [0])[0]["weight"]).tolist() == [True, False]


def test_floats_keep_every_bit(local_store):
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**-1074 * 3]
    rows = [{"replicate": r, "test_mse": number} for r, number in enumerate(numbers)]
    local_store.write_block(Block(CELL, range(5)), CONFIG, None, Outcome(rows), {})
    assert local_store.rows({CELL: 5})["test_mse"].tolist() == numbers


def test_block_without_arrays_says_so(store):
    block = Block(CELL, range(2))
    store.write_block(block, CONFIG, None, Outcome([{"replicate": 0}, {"replicate": 1}]), {})
    assert file_names(store) == [f"{CELL}/0-1.json"]
    assert store.verify([CELL]) == {}
    assert len(store.rows({CELL: 2})) == 2
    assert store.weights(CELL, [1]) == {1: {}}
    with pytest.raises(StoreError, match=f"{CELL} has no predictions"):
        store.predictions(CELL, [0])


@pytest.mark.parametrize(
    "rows", [[{"replicate": 1}], [], [{"replicate": 0, "test_mse": [1.0]}], [{"test_mse": 0.5}]]
)
def test_unreadable_rows_are_not_written(rows, local_store):
    with pytest.raises(ValueError, match=f"{CELL}.0-0"):
        local_store.write_block(Block(CELL, range(1)), CONFIG, None, Outcome(rows), {})
    assert local_store.blocks() == {}


# --- several blocks of one cell --------------------------------------------------------------


def test_replicates_come_from_several_blocks(store, write):
    write(store, 4, 5, plus=0.25)
    write(store, 0, 3)
    assert store.blocks() == {CELL: [range(4), range(4, 6)]}
    assert store.rows({CELL: 5})["test_mse"].tolist() == [0, 1, 2, 3, 4.25]
    assert store.history({CELL: 6})["replicate"].tolist() == [0, 1, 2, 3, 4, 5] * 2  # by epoch
    assert store.predictions(CELL, [5, 0, 4]).tolist() == [[5, 6], [0, 1], [4, 5]]
    assert [entry["device"] for entry in store.provenance([CELL])] == ["plus 0", "plus 0.25"]


def test_overlapping_blocks_give_each_replicate_once(store, write):
    """From the first block that has it, by its numbers: the same for every reader."""
    write(store, 2, 5, plus=0.25)
    write(store, 0, 3)
    write(store, 0, 1, plus=0.5)
    assert store.blocks() == {CELL: [range(2), range(4), range(2, 6)]}
    assert store.rows({CELL: 6})["test_mse"].tolist() == [0.5, 1.5, 2, 3, 4.25, 5.25]
    assert sorted(store.weights(CELL, range(6))) == [0, 1, 2, 3, 4, 5]


def test_part_of_a_block_is_read(store, write):
    write(store, 0, 7)
    assert store.rows({CELL: 3})["replicate"].tolist() == [0, 1, 2]
    assert set(store.history({CELL: 3})["replicate"]) == {0, 1, 2}
    assert list(store.weights(CELL, [5])) == [5]


def test_missing_replicate_is_named(store, write):
    write(store, 0, 1)
    write(store, 4, 5)
    for read in (store.rows, store.history):
        with pytest.raises(StoreError, match=f"{CELL} has no replicate 2 in {store.place.where()}"):
            read({CELL: 6})
    for read in (store.weights, store.predictions):
        with pytest.raises(StoreError, match=f"{CELL} has no replicate 3"):
            read(CELL, [0, 3])


def test_blocks_of_others_are_seen_at_once(store, write):
    """A driver's listing is older than what its workers write."""
    assert store.blocks() == {}
    write(Store(store.place), 0, 1)
    assert store.rows({CELL: 2})["test_mse"].tolist() == [0, 1]
    write(Store(store.place), 2, 3)
    assert list(store.weights(CELL, [3])) == [3]


# --- half a block does not exist -------------------------------------------------------------


def test_nothing_is_done_in_a_new_place(place, tmp_path):
    store = Store(place)
    store.place.reach()
    assert store.blocks() == store.failures() == store.searches() == {}
    assert not store.exists()
    store.tidy()
    with pytest.raises(StoreError, match=phrase("holds no study (no study.json)")):
        store.plan()
    with pytest.raises(StoreError, match=f"{CELL} has no replicate 0"):
        store.rows({CELL: 1})
    with pytest.raises(StoreError, match=f"{CELL} is not finished"):
        store.config(CELL)
    assert not list((tmp_path / "results").glob("*"))


def test_arrays_without_a_marker_are_no_block(store, write):
    block = write(store)
    store.place.delete(f"blocks/{CELL}/0-1.json")
    assert Store(store.place).blocks() == {}
    assert not store.has(block)
    write(store, plus=0.5)
    assert store.rows({CELL: 2})["test_mse"].tolist() == [0.5, 1.5]


def test_marker_is_written_after_the_arrays(store, write, monkeypatch):
    seen = []
    original = type(store.place).write

    def record(place, name, content, only_if_absent=False):
        seen.append((name.rpartition(".")[2], only_if_absent))
        return original(place, name, content, only_if_absent)

    monkeypatch.setattr(type(store.place), "write", record)
    write(store)
    assert seen == [("safetensors", False), ("json", True)]


def test_write_that_fails_leaves_nothing(store):
    broken = Outcome([{"replicate": 0}], weights={"weight": "not a tensor"})
    with pytest.raises(AttributeError):
        store.write_block(Block(CELL, range(1)), CONFIG, None, broken, {})
    assert store.blocks() == {} and file_names(store) == []


def test_first_writer_wins(store, write):
    write(store)
    before = file_names(store)
    write(store, plus=0.5)
    assert file_names(store) == before
    assert store.rows({CELL: 2})["test_mse"].tolist() == [0, 1]
    assert store.provenance([CELL]) == [{"device": "plus 0"}]


def test_later_writer_does_not_read_a_damaged_block(store, write):
    write(store)
    before = file_names(store)
    store.place.write(f"blocks/{CELL}/0-1.json", b"{")
    write(store, plus=0.5)
    assert file_names(store) == before
    assert store.verify([CELL]).keys() <= {Block(CELL, range(2))}


def test_concurrent_writers_make_one_whole_block(store, write, run_concurrently):
    run_concurrently(5, lambda number: write(Store(store.place), plus=float(number)))
    assert len(file_names(store)) == 2
    assert store.verify([CELL]) == {}
    plus = store.rows({CELL: 2})["test_mse"][0]
    assert store.provenance([CELL]) == [{"device": f"plus {plus:g}"}]


# --- damage ----------------------------------------------------------------------------------


def damage_file(store, name, damage):
    content = bytearray(store.place.read(name))
    if damage == "missing":
        store.place.delete(name)
    elif damage == "truncated":
        store.place.write(name, bytes(content[:-1]))
    elif damage == "empty":
        store.place.write(name, b"")
    else:
        content[len(content) // 2] ^= 1
        store.place.write(name, bytes(content))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_damaged_arrays_are_named_and_the_rest_is_read(damage, store, write):
    block = write(store)
    name = arrays_name(store, block)
    damage_file(store, name, damage)
    for read in (store.weights, store.predictions):
        with pytest.raises(DamagedBlock) as caught:
            read(CELL, [0])
        assert str(caught.value).startswith(f"{store.place.where(name)}: damaged (")
        assert caught.value.block == block
    assert len(store.rows({CELL: 2})) == len(store.history({CELL: 1})) == 2
    found = store.verify([CELL])
    if damage == "flipped" and not hasattr(store.place, "path"):
        assert found == {}  # same size: the storage's own checksums are relied on
    else:
        assert found.keys() == {block}
        assert found[block].startswith(f"damaged: {name.rpartition('/')[2]}: ")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_damaged_marker_is_named(damage, store, write):
    block = write(store)
    damage_file(store, block.marker, damage)
    for read in (
        lambda: store.rows({CELL: 1}),
        lambda: store.history({CELL: 1}),
        lambda: store.weights(CELL, [0]),
        lambda: store.provenance([CELL]),
        lambda: Store(store.place).config(CELL),
    ):
        with pytest.raises(DamagedBlock) as caught:
            read()
        assert str(caught.value).startswith(f"{store.place.where(block.marker)}: damaged (")
        assert caught.value.reason == "damaged: 0-1.json: its checksum is not the recorded one"


def test_folder_is_verified_to_the_byte(local_store, write):
    blocks = [write(local_store, cell=cell) for cell in (CELL, OTHER)]
    assert local_store.verify([CELL, OTHER]) == {}
    for block in blocks:
        for name in (block.marker, arrays_name(local_store, block)):
            whole = local_store.place.read(name)
            for position in range(0, len(whole), 7):
                changed = bytearray(whole)
                changed[position] ^= 0x10
                (local_store.place.path / name).write_bytes(changed)
                assert local_store.verify([CELL, OTHER]).keys() == {block}
            (local_store.place.path / name).write_bytes(whole)
    assert local_store.verify([CELL, OTHER]) == {}
    damage_file(local_store, blocks[1].marker, "empty")
    assert local_store.verify([CELL]) == {}


def test_unreadable_file_is_damage(local_store, write):
    block = write(local_store)
    (local_store.place.path / block.marker).unlink()
    (local_store.place.path / block.marker).mkdir()
    assert local_store.verify([CELL]) == {}  # not a file, so not a marker
    with pytest.raises(StoreError, match="has no replicate 0"):
        Store(local_store.place).rows({CELL: 1})


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": {"name": "../../x", "sha256": "0" * 64}},
        {"arrays": {"name": "0" * 16, "sha256": "0" * 64}},
        {"arrays": {"name": "0" * 16 + "-1", "sha256": "x"}},
        {"arrays": {}},
        {"arrays": 7},
        {"parent": "../x"},
        {"config": []},
        {"config": {"latent_dim": [1]}},
        {"rows": []},
        {"rows": [{"replicate": 0}, {"replicate": 2}]},
        {"rows": [[], []]},
        {"history": [{"replicate": 7, "epoch": 1}]},
        {"provenance": None},
    ],
)
def test_marker_of_foreign_content_is_refused(change, local_store, write):
    block = write(local_store)
    line = local_store.place.read(block.marker).partition(b"\n")[2]
    line = orjson.dumps(orjson.loads(line) | change)
    local_store.place.write(block.marker, cells.signed(line))
    with pytest.raises(DamagedBlock, match=phrase("0-1.json: damaged (not what was written)")):
        local_store.rows({CELL: 2})
    assert local_store.verify([CELL]) == {block: "damaged: 0-1.json: not what was written"}


@pytest.mark.parametrize("line", [b"", b"{", b"[" * 100_000, b"null", b"\xff"])
def test_marker_that_is_no_json_is_refused(line, local_store, write):
    block = write(local_store)
    local_store.place.write(block.marker, cells.signed(line))
    assert local_store.verify([CELL]) == {block: "damaged: 0-1.json: not what was written"}
    local_store.tidy()


def test_arrays_of_other_shapes_are_damage(local_store, write):
    from safetensors.torch import save

    block = write(local_store)
    name = arrays_name(local_store, block)
    data = save({"weight": torch.zeros(1, 3)})
    local_store.place.write(name, data)
    line = orjson.loads(local_store.place.read(block.marker).partition(b"\n")[2])
    line["arrays"]["sha256"] = cells.sha256(data)
    local_store.place.write(block.marker, cells.signed(orjson.dumps(line)))
    with pytest.raises(DamagedBlock, match="its arrays are not what was written"):
        local_store.weights(CELL, [1])


def test_damage_is_pickled():
    """The report's process sends it to the driver."""
    error = DamagedBlock(Block(CELL, range(2)), "/some/0-1.json", "empty")
    again = pickle.loads(pickle.dumps(error))
    assert (again.block, str(again)) == (error.block, str(error))
    assert again.reason == "damaged: 0-1.json: empty"


@pytest.mark.parametrize("damage", ["empty", "missing"])
def test_damaged_block_is_set_aside_and_written_again(damage, store, write):
    for number in (1, 2):
        block = write(store, plus=float(number))
        write(store, 2, 3)
        damage_file(store, arrays_name(store, block), damage)
        assert store.verify([CELL]).keys() == {block}
        where = str(store.set_aside(block))
        assert where.startswith(f"{store.place.where('damaged')}/{block.name}-")
        assert store.blocks() == {CELL: [range(2, 4)]}
        assert len(file_names(store, "damaged")) == (2 if damage == "empty" else 1) * number
    write(store, plus=3.0)
    assert store.rows({CELL: 2})["test_mse"].tolist() == [3, 4]
    assert store.verify([CELL]) == {}


def test_block_with_a_damaged_marker_is_set_aside_whole(store, write):
    block = write(store)
    damage_file(store, block.marker, "flipped")
    where = str(store.set_aside(block))
    assert file_names(store) == []
    assert {
        f"{store.place.where('damaged')}/{n}".rpartition("/")[0]
        for n in file_names(store, "damaged")
    } == {where}
    assert len(file_names(store, "damaged")) == 2


# --- failures, plan, search ------------------------------------------------------------------


def test_failure_keeps_its_last_line_as_the_reason(store):
    error = "Traceback …\n  File …\n\ntrainables.contract.Diverged: the loss of replicate 1\n\n"
    store.write_failure(CELL, CONFIG, error)
    assert store.blocks() == {}
    assert store.failures() == {
        CELL: {
            "cell": CELL,
            "config": CONFIG,
            "reason": "Diverged: the loss of replicate 1",
            "traceback": error,
        }
    }
    store.write_failure(CELL, CONFIG, "")
    assert store.failures()[CELL]["reason"] == "unknown"


def test_failure_stays_until_it_is_forgotten(store, write):
    """A cell may have one block that failed, and others that are done."""
    for cell in (CELL, OTHER):
        store.write_failure(cell, CONFIG, "out of memory")
    write(store)
    assert set(store.failures()) == {CELL, OTHER}
    for _ in range(2):
        store.forget_failure(CELL)
        assert set(store.failures()) == {OTHER}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_damaged_failure_note_hides_no_other(content, store):
    for cell in (CELL, OTHER):
        store.write_failure(cell, CONFIG, "out of memory")
    store.place.write(f"failed/{CELL}.json", content)
    failures = store.failures()
    assert failures[CELL]["reason"] == "failed; the record of the reason is damaged"
    assert failures[OTHER]["reason"] == "out of memory"


def test_files_of_others_are_left_alone(store, write):
    write(store)
    others = {
        "blocks/notes/0-1.json", "blocks/.DS_Store", f"blocks/{CELL}/notes.txt",
        f"blocks/{CELL}/x/0-1.json", "failed/notes.json", f"failed/{OTHER}", "search/a.b.json",
        "progress/notes.safetensors",
    }  # fmt: skip
    for name in others:
        store.place.write(name, b"{}")
    assert store.blocks() == {CELL: [range(2)]}
    assert store.failures() == store.searches() == store.verify([CELL]) == {}
    store.tidy()
    assert all(store.place.read(name) == b"{}" for name in others)


def test_temporary_file_tells_places_apart(store, tmp_path):
    with store.place.temporary_file(".mark-") as mark:
        assert Store(store.address).file(mark) == b""
        assert Store(tmp_path / "elsewhere").file(mark) is None
    assert store.file(mark) is None


# --- the place itself ------------------------------------------------------------------------


def test_created_place_is_known_and_kept(store, write):
    write(store)
    assert store.exists()
    store.create()
    assert store.blocks() == {CELL: [range(2)]}
    assert store.place.read("format.json") == b'{"format":2}'
    assert [name for name in store.place.list("") if "/" not in name] == ["format.json"]


@pytest.mark.parametrize("form", [None, b'{"format": 3}', b"", b"["])
def test_results_of_another_version_are_refused(form, place):
    place.create()
    place.write("study.json", b'{"study": "assignment"}')
    if form is not None:
        place.write("format.json", form)
    for use in (Store(place).create, Store(place).plan):
        with pytest.raises(StoreError) as caught:
            use()
        assert str(caught.value) == (
            f"{place.where()} holds results of another version of the study, which can't be used; "
            "choose another --out"
        )


def test_file_is_no_results_folder(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for use in (Store(path).create, Store(path).place.reach):
            with pytest.raises(StoreError, match="file is a file, not a folder"):
                use()


def test_relative_folder_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("results")
    monkeypatch.chdir("/")
    assert store.address == str(tmp_path / "results")


# --- leftovers of killed processes -----------------------------------------------------------


def test_progress_overlapping_finished_blocks_is_removed(store, write):
    """A block of the rest has other replicates, and so another name."""
    write(store, 0, 3)
    write(store, 4, 7)
    kept = [Block(OTHER, range(8)), Block(CELL, range(8, 9))]
    for block in (*kept, Block(CELL, range(6, 9)), Block(CELL, range(8)), Block(CELL, range(2, 3))):
        store.place.write(store.progress(block), b"progress")
    store.tidy()
    assert file_names(store, "progress") == sorted(f"{block.name}.safetensors" for block in kept)
    assert store.unfinished_blocks() == {OTHER: [range(8)], CELL: [range(8, 9)]}


def test_old_arrays_of_no_block_are_removed(store, write, monkeypatch):
    block = write(store)
    abandoned = [Block(OTHER, range(2)).arrays("0" * 16 + "-4"), block.arrays("1" * 16 + "-4")]
    for name in abandoned:
        store.place.write(name, b"half")
    assert store.blocks() == {CELL: [range(2)]}
    assert store.verify([CELL, OTHER]) == {}
    store.tidy()
    assert len(file_names(store)) == 4  # whoever writes them may be about to finish
    monkeypatch.setattr(cells, "ORPHAN_SECONDS", -1.0)
    store.tidy()
    assert len(file_names(store)) == 2
    assert store.verify([CELL]) == {}
    assert store.rows({CELL: 2})["test_mse"].tolist() == [0, 1]


def test_temporary_files_are_swept_and_never_listed(local_store, write):
    write(local_store)
    before = sorted(path for path in local_store.place.path.rglob("*") if path.is_file())
    for name in ("0-1.json", "clock", "probe"):
        for folder in (f"blocks/{CELL}", "failed", "progress", "search", "."):
            path = local_store.place.path / folder / f".{name}.{'0' * 32}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"half")
    assert len(file_names(local_store)) == 2
    assert file_names(local_store, "failed") == file_names(local_store, "progress") == []
    local_store.tidy()
    assert sorted(path for path in local_store.place.path.rglob("*") if path.is_file()) == before


# --- copies ----------------------------------------------------------------------------------


def test_results_may_be_copied_between_folder_and_bucket(store, local_store, remote_store, write):
    """By any program that copies files."""
    write(store, 0, 1)
    write(store, 2, 5, plus=0.5)
    target = (
        remote_store if hasattr(store.place, "path") else Store(local_store.place.path / "copy")
    )
    target.place.create()
    for name in ["format.json", *(f"blocks/{name}" for name in file_names(store))]:
        target.place.write(name, store.place.read(name))
    assert target.exists()
    assert target.blocks() == store.blocks()
    assert target.verify([CELL]) == {}
    assert target.rows({CELL: 6}).equals(store.rows({CELL: 6}))
    damage_file(target, arrays_name(target, Block(CELL, range(2, 6))), "truncated")
    assert target.verify([CELL]).keys() == {Block(CELL, range(2, 6))}
