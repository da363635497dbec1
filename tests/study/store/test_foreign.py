"""Results folders from elsewhere: their names become paths and parts of a page."""

import copy
import hashlib
import json
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.store import Block, Store, StoreError
from study.store.checkpoint import FileCheckpoint
from study.store.formats import is_plan, is_search
from study.store.places import Folder
from study.words import redacted
from tests.phrases import phrase

CELL, OTHER = "0123456789abcdef", "1123456789abcdef"
PLANNED_CELL = {"id": CELL, "config": {"latent_dim": 2}, "parent": None, "replicates": 4}
PLANNED = {
    "name": "autoencoder",
    "metric": "val_mse",
    "axes": {"latent_dim": [2]},
    "cells": [PLANNED_CELL],
}
PLAN = {"study": "a", "command": "study run a", "dataset": "mnist-5k", "fingerprint": "0" * 16}
SEARCH = {
    "name": "autoencoder-d2",
    "experiment": "autoencoder",
    "dataset": "mnist-5k",
    "epochs": 1,
    "replicates": 1,
    "dimensions": {"width": {}},
    "columns": ["val_mse"],
    "directions": ["minimize"],
    "trials": [],
}
FOREIGN = ["../../../x", "/tmp/x", 'x"><img src=x onerror=alert(1)>', "", "a b", "a.b", 7, None]


FULL_PLAN = PLAN | {
    "experiments": [PLANNED | {"cells": [PLANNED_CELL, PLANNED_CELL | {"parent": OTHER}]}],
    "data": {}, "image_shape": [1, 28, 28], "classes": ["a", "b"], "images": [3, 2, 1],
    "pairs": [["a", "b"]],
}  # fmt: skip
TRIAL = {"state": "complete", "params": {"width": 8}, "values": [0.1], "curve": [[1, 0.2]]}
FULL_SEARCH = SEARCH | {"trials": [TRIAL, TRIAL | {"state": "fail", "values": None, "curve": []}]}

ENTRY, FIRST_CELL, SECOND_CELL = ("experiments", 0), ("cells", 0), ("cells", 1)
NO_PLANS = [
    *(((name,), 7) for name in PLAN),
    (("data",), []), (("data",), None),
    (("image_shape",), [1, 28]), (("image_shape",), [1, 28, "28"]),
    (("image_shape",), [1, 28, 2.5]),
    (("classes",), "ab"), (("classes",), ["a", 1]), (("classes",), None),
    (("images",), [3, 2]), (("images",), [3, 2, "1"]), (("images",), {"train": 3}),
    (("pairs",), [["a"]]), (("pairs",), [["a", 1]]), (("pairs",), [["a", "b", "c"]]),
    (("experiments",), None), (("experiments",), [None]),
    *(((*ENTRY, *FIRST_CELL, name), value) for name, value in (
        ("id", OTHER[1:]), ("id", OTHER + "0"), ("id", None), ("config", []), ("config", {}),
        ("config", {"latent_dim": [2]}), ("parent", "0"), ("parent", 7), ("replicates", 0),
        ("replicates", True), ("replicates", 2.0), ("replicates", "4"),
    )),
    ((*ENTRY, *SECOND_CELL, "parent"), "../" + OTHER), ((*ENTRY, *SECOND_CELL, "replicates"), -1),
]  # fmt: skip
"""Paths into a plan, and a wrong value for each."""

SEEN, LOST = ("trials", 0), ("trials", 1)
NO_SEARCHES = [
    (("name",), "../x"), (("experiment",), ""), (("dataset",), 7), (("epochs",), 1.5),
    (("replicates",), None), (("dimensions",), ["width"]), (("dimensions",), {"../x": {}}),
    (("columns",), ["<b>"]), (("columns",), []), (("columns",), ["val_mse", "parameters"]),
    (("directions",), []), (("trials",), None), (("trials",), [None]),
    ((*SEEN, "state"), "running"), ((*SEEN, "params"), {"depth": 2}), ((*SEEN, "values"), []),
    ((*SEEN, "values"), [0.1, 0.2]), ((*SEEN, "curve"), [[1]]), ((*SEEN, "curve"), [[1, 2, 3]]),
    ((*LOST, "state"), None), ((*LOST, "values"), 0.1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "whole", "differences"),
    [(is_plan, FULL_PLAN, NO_PLANS), (is_search, FULL_SEARCH, NO_SEARCHES)],
    ids=["plan", "search"],
)
def test_every_entry_is_required_with_its_type(check, whole, differences):
    assert check(whole)
    for path, value in differences:
        changed = copy.deepcopy(whole)
        *folders, name = path
        inside = changed
        for step in folders:
            inside = inside[step]
        inside[name] = value
        assert not check(changed), (path, value)
    for name in whole:
        left = {key: value for key, value in whole.items() if key != name}
        optional = name in ("data", "image_shape", "classes", "images", "pairs")
        assert check(left) == optional, name
    assert not check(None) and not check([]) and not check("")


def store_with(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    (folder / "format.json").write_text('{"format":2}')
    return Store(folder)


def test_plan_with_plain_names_is_read(tmp_path):
    store = store_with(tmp_path, "study.json", PLAN | {"experiments": [PLANNED]})
    assert store.plan()["experiments"] == [PLANNED]


@pytest.mark.parametrize(
    "wrong",
    [{"name": name} for name in FOREIGN]
    + [{"metric": name} for name in FOREIGN]
    + [{"axes": {name: [2]}} for name in FOREIGN if isinstance(name, str)]
    + [{"axes": {"depth": [2]}}],
)
def test_plan_with_a_foreign_name_is_refused_in_one_line(tmp_path, wrong):
    """Also without cells: the experiment's name alone would name a table."""
    for cells in ([], [PLANNED_CELL]):
        if not cells and wrong == {"axes": {"depth": [2]}}:
            continue
        planned = PLANNED | wrong | {"cells": cells}
        store = store_with(tmp_path, "study.json", PLAN | {"experiments": [planned]})
        with pytest.raises(StoreError) as refused:
            store.plan()
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"id": name} for name in FOREIGN]
    + [{"parent": name} for name in FOREIGN if name is not None]
    + [{"replicates": number} for number in (0, -1, 1.5, True, "4", None)]
    + [{"config": config} for config in ([], {}, {"latent_dim": [2]}, {"latent_dim": {}})],
)
def test_plan_with_a_foreign_cell_is_refused(tmp_path, wrong):
    planned = PLANNED | {"cells": [PLANNED_CELL | wrong]}
    store = store_with(tmp_path, "study.json", PLAN | {"experiments": [planned]})
    with pytest.raises(StoreError, match=phrase("study.json: not what `study run` writes; run it")):
        store.plan()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"study": 1}', '{"experiments": [{}]}', "[" * 100_000, "\xff"]
)
def test_unreadable_plan_is_named_in_one_line(content, tmp_path):
    store = store_with(tmp_path, "study.json", {})
    (tmp_path / "study.json").write_text(content, encoding="latin-1")
    with pytest.raises(StoreError) as caught:
        store.plan()
    (line,) = str(caught.value).splitlines()
    assert "study.json: not what `study run` writes" in line or "study.json: can't be read" in line


def test_plan_is_remembered(tmp_path):
    store = Store(tmp_path)
    store.create()
    for name in ("a", "b"):
        plan = PLAN | {"study": name, "experiments": [PLANNED]}
        store.write_plan(plan)
        assert Store(tmp_path).plan() == plan


@pytest.mark.parametrize("name", ["study.json", "format.json"])
def test_folder_in_place_of_a_file_is_named(name, tmp_path):
    store = store_with(tmp_path, "study.json", PLAN | {"experiments": [PLANNED]})
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=phrase(".json: can't be read (Is a directory)")):
        store.plan()


def test_search_with_plain_names_is_read(tmp_path):
    store = store_with(tmp_path, "search/autoencoder-d2.json", SEARCH)
    assert store.searches() == {"autoencoder-d2": SEARCH}


@pytest.mark.parametrize(
    "wrong",
    [{"name": name} for name in FOREIGN]
    + [{"experiment": name} for name in FOREIGN]
    + [{"columns": ["../x"]}, {"dimensions": {"<b>": {}}}],
)
def test_search_with_a_foreign_name_is_refused(tmp_path, wrong):
    store = store_with(tmp_path, "search/autoencoder-d2.json", SEARCH | wrong)
    with pytest.raises(StoreError, match="not what `study search` writes"):
        store.searches()


@pytest.mark.parametrize("name", ["../x", "", "a.b", "a b"])
def test_search_is_not_written_under_a_foreign_name(name, tmp_path):
    with pytest.raises(StoreError, match="is not the name of a search"):
        Store(tmp_path).write_search(name, SEARCH)
    assert list(tmp_path.iterdir()) == []


def test_search_is_remembered(tmp_path):
    Store(tmp_path).write_search("autoencoder-d2", SEARCH)
    assert Store(tmp_path).searches() == {"autoencoder-d2": SEARCH}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": 3}'])
def test_damaged_search_is_named(content, tmp_path):
    store = store_with(tmp_path, "search/autoencoder-d2.json", {})
    (tmp_path / "search" / "autoencoder-d2.json").write_text(content)
    with pytest.raises(StoreError, match=phrase("search/autoencoder-d2.json: ")):
        store.searches()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("--storage postgresql://me:SECRET@host/db -x", "--storage postgresql://me:***@host/db -x"),
        ("mysql+pymysql://me:SEC/RET:1@host/db", "mysql+pymysql://me:***@host/db"),
        ("'s3://b/p?scheme=http&secret_key=SECRET'", "'s3://b/p?scheme=http&secret_key=***'"),
        ("db://h/x?password=SECRET&a=1", "db://h/x?password=***&a=1"),
        ("--out s3://b/p?endpoint_override=127.0.0.1:9000", None),
        ("--address head:6379 someone@host", None),
        ("http://host:80/x", None),
    ],
)
def test_secrets_of_urls_are_redacted_and_nothing_else(text, kept):
    assert redacted(text) == (text if kept is None else kept)


def test_password_is_kept_nowhere_in_a_plan(digits, tmp_path, monkeypatch):
    from study.commands import study_of

    typed = ["study", "search", "autoencoder", "--storage", "postgresql://me:SECRET@host/db"]
    monkeypatch.setattr("sys.argv", typed)
    arguments = SimpleNamespace(
        out=tmp_path,
        data_dir=None,
        address="local",
        cpus_per_trial=1.0,
        gpus_per_trial=0.0,
        cpus=None,
        console=None,
        log="none",
        image_size=None,
        grey=False,
        classes=[],
        limit=0,
        group_by="",
        pairs=[],
        report=True,
    )
    study_of(arguments, digits, None).write_plan("a", [], [])
    kept = (tmp_path / "study.json").read_text()
    assert "postgresql://me:***@host/db" in kept
    assert "SECRET" not in kept


# --- fuzzed files ----------------------------------------------------------------------------

FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ARRAYS = "0" * 16 + "-2"
PARTS = st.sampled_from(
    [CELL, OTHER, "notes", "0-1.json", "0-1", "1-0.json", "0-999999999.json", ".0-1.json",
     f"0-1.{ARRAYS}.safetensors", "0-0.json", "2-3.json"]
)  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.integers(-1, 2),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([{"replicate": 0}, {"replicate": 1}]),
    st.just({"latent_dim": 2}),
    st.just({"name": ARRAYS, "sha256": "0" * 64}),
    st.just({"name": "../x", "sha256": "0" * 64}),
)
LINES = st.one_of(
    st.binary(max_size=20),
    st.fixed_dictionaries(
        dict.fromkeys(("config", "parent", "rows", "history", "provenance", "arrays"), VALUES)
    ).map(orjson.dumps),
)


def signed(line):
    return orjson.dumps({"sha256": hashlib.sha256(line).hexdigest()}) + b"\n" + line


CONTENTS = st.one_of(st.binary(max_size=50), LINES, LINES.map(signed))


@FUZZ
@given(st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), CONTENTS, max_size=6))
def test_files_of_any_kind_are_read_or_refused(tmp_path, files):
    folder = tmp_path / hashlib.sha256(repr(files).encode()).hexdigest()[:16]
    store = Store(folder)
    store.create()
    for name, content in files.items():
        path = folder / "blocks" / name
        parents = [folder.joinpath("blocks", *name.split("/")[:n]) for n in range(1, 4)]
        if not path.is_dir() and not any(parent.is_file() for parent in parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    found = store.blocks()
    assert set(found) <= {CELL, OTHER}
    damaged = store.verify([CELL, OTHER])
    assert {Block(cell, r) for cell, ranges in found.items() for r in ranges} >= set(damaged)
    store.tidy()
    assert store.blocks() == found
    for block in damaged:
        store.set_aside(block)
    assert store.verify([CELL, OTHER]) == {}
    for cell, ranges in store.blocks().items():
        assert store.rows({cell: 1} if ranges[0].start == 0 else {}) is not None
        assert store.config(cell) is not None


@FUZZ
@given(st.binary(max_size=200))
def test_foreign_checkpoint_starts_anew(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert FileCheckpoint(Folder(tmp_path), "x", "key").load() is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"key": "this"}', '{"key": "this", "epoch": 1}', "7", "[" * 100_000],
)
def test_signed_foreign_checkpoint_starts_anew(content, tmp_path):
    from safetensors.torch import save

    digest = hashlib.sha256(content.encode()).hexdigest()
    (tmp_path / "x").write_bytes(save({}, {"progress": content, "sha256": digest}))
    assert FileCheckpoint(Folder(tmp_path), "x", "this").load() is None
