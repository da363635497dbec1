"""Results folders from elsewhere: their names become paths and parts of a page."""

import json

import pytest

from study.store import Store, StoreError
from study.words import redacted

PLANNED = {"name": "autoencoder", "metric": "val_mse", "axes": {"latent_dim": [2]}, "cells": []}
PLAN = {"study": "a", "command": "study run a", "dataset": "mnist-5k", "fingerprint": "0" * 16}
SEARCH = {
    "name": "autoencoder-d2", "experiment": "autoencoder", "dataset": "mnist-5k", "epochs": 1,
    "replicates": 1, "dimensions": {"width": {}}, "columns": ["val_mse"],
    "directions": ["minimize"], "trials": [],
}  # fmt: skip
FOREIGN = ["../../../x", "/tmp/x", 'x"><img src=x onerror=alert(1)>', "", "a b", "a.b", 7, None]


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return Store(folder)


def test_plan_with_plain_names_is_read(tmp_path):
    store = put(tmp_path, "study.json", PLAN | {"experiments": [PLANNED]})
    assert store.plan()["experiments"] == [PLANNED]


@pytest.mark.parametrize(
    "wrong",
    [{"name": name} for name in FOREIGN]
    + [{"metric": name} for name in FOREIGN]
    + [{"axes": {name: [2]}} for name in FOREIGN if isinstance(name, str)],
)
def test_plan_with_a_foreign_name_is_refused_in_one_line(tmp_path, wrong):
    """An experiment without cells, too: its name alone would be the name of a table."""
    store = put(tmp_path, "study.json", PLAN | {"experiments": [PLANNED | wrong]})
    with pytest.raises(StoreError) as refused:
        store.plan()
    assert len(str(refused.value).splitlines()) == 1


def test_search_with_plain_names_is_read(tmp_path):
    store = put(tmp_path, "search/autoencoder-d2.json", SEARCH)
    assert store.searches() == {"autoencoder-d2": SEARCH}


@pytest.mark.parametrize(
    "wrong",
    [{"name": name} for name in FOREIGN]
    + [{"experiment": name} for name in FOREIGN]
    + [{"columns": ["../x"]}, {"dimensions": {"<b>": {}}}],
)
def test_search_with_a_foreign_name_is_refused(tmp_path, wrong):
    store = put(tmp_path, "search/autoencoder-d2.json", SEARCH | wrong)
    with pytest.raises(StoreError, match="not what `study search` writes"):
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


def test_password_is_kept_nowhere_in_a_plan(digits):
    from study.grid import record

    command = "study search autoencoder --storage postgresql://me:SECRET@host/db"
    assert "SECRET" not in json.dumps(record("a", command, digits, None, [], []))
