"""Whatever comes from outside ends in a clear error: options, ids, and every file of a cell."""

import contextlib
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from study.command_line.options import OPTION_OF, BadInput, select
from study.command_line.parser import parser
from study.experiments import EXPERIMENTS, PRESETS, STUDIES
from study.grid import plan
from study.store import Store, StoreError
from study.store.cells import FILES
from study.store.formats import IDENTITY
from trainables.contract import ConfigError, Outcome

CELL = "0123456789abcdef"
FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# --- options ---------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from([
        "plan", "run", "report", "check", *STUDIES, *EXPERIMENTS, *PRESETS, *OPTION_OF.values(),
        "--preset", "--dataset", "--data-dir", "--out", "--address", "--cpus-per-trial",
        "--gpus-per-trial", "--help", "--", "-", "mnist-5k", "local", "auto", "fixed", "1e400",
        "nan", "-1", "0", "10", "2.5", "1_0", "٣", "host:99", ":", "a:b:1",
    ]),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


def exit_code(call):
    """0 where `call` returns; other errors than an exit pass through. Nothing is printed."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            call()
        except SystemExit as stop:
            return stop.code
    return 0


@FUZZ
@given(st.lists(WORDS, max_size=8))
def test_options_are_understood_or_refused(words):
    assert exit_code(lambda: parser().parse_args(words)) in (0, 2)


@FUZZ
@given(st.sampled_from([*STUDIES, *EXPERIMENTS]), st.sampled_from(sorted(OPTION_OF)), WORDS)
@example("autoencoder", "latent_dim", "9" * 5000)
@example("fewshot", "seed", "٣")
def test_a_study_with_any_option_is_planned_or_refused(name, setting, word):
    def plan_it():
        options = ["--preset", "smoke", OPTION_OF[setting], word]
        arguments = parser().parse_args(["plan", name, *options])
        with contextlib.suppress(BadInput, ConfigError):
            plan(select(arguments, large=False).experiments, "")

    assert exit_code(plan_it) in (0, 2)


# --- ids and paths ---------------------------------------------------------------------------


@FUZZ
@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9a-f]{15,17}\n?", fullmatch=True)))
@example(CELL + "\n")
@example("../" + CELL)
@example("\0" * 16)
def test_only_an_id_becomes_a_path(tmp_path, identity):
    store = Store(tmp_path)
    uses = (store.marker, store.config, store.weights, store.predictions, store.progress,
            lambda name: store.rows([name]), lambda name: store.history([name]))  # fmt: skip
    for use in uses:
        try:
            place = use(identity)
        except StoreError:
            continue
        assert IDENTITY.fullmatch(identity)
        assert place == f"progress/{identity}.safetensors"


# --- the files of a cell ---------------------------------------------------------------------

READERS = {
    "config.json": lambda store: store.config(CELL),
    "rows.parquet": lambda store: store.rows([CELL]),
    "history.parquet": lambda store: store.history([CELL]),
    "weights.safetensors": lambda store: store.weights(CELL),
    "predictions.npz": lambda store: store.predictions(CELL),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with one finished cell that has every file."""
    store = Store(tmp_path_factory.mktemp("whole"))
    store.create()
    outcome = Outcome(
        rows=[{"replicate": 0, "test_mse": 0.5}],
        history=[{"replicate": 0, "epoch": 1, "loss": 0.5}],
        weights={"weight": torch.ones(1, 2)},
        predictions=np.zeros((1, 3), dtype=np.uint8),
    )
    store.write(CELL, {"latent_dim": 2, "replicates": 1}, None, outcome, {})
    assert {path.name for path in (store.cells / CELL).iterdir()} == {*FILES, "done.json"}
    return store


def changed(content, position, other, replace):
    """`content` with bytes in the middle replaced, or `other` alone."""
    if replace:
        return other
    at = position % (len(content) + 1)
    return content[:at] + other + content[at + len(other) :]


CHANGES = (st.integers(0, 10**6), st.binary(max_size=200), st.booleans())


@FUZZ
@given(st.sampled_from([*FILES, "done.json"]), *CHANGES)
@example("done.json", 0, b"[" * 100_000, True)
@example(
    "done.json", 0, b'{"files": {"config.json": 1, "rows.parquet": []}, "provenance": {}}', True
)
def test_random_bytes_in_a_file_of_a_cell_are_a_clear_error(
    whole, tmp_path, name, position, other, replace
):
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    store, path = Store(tmp_path), tmp_path / "cells" / CELL / name
    before = path.read_bytes()
    path.write_bytes(changed(before, position, other, replace))
    store.done(), store.failures()
    assert set(store.damaged([CELL])) <= {CELL}
    if name != "done.json" and path.read_bytes() != before:
        assert set(store.damaged([CELL])) == {CELL}
    for read in READERS.values():
        with contextlib.suppress(StoreError):
            read(store)


@FUZZ
@given(st.sampled_from(FILES), *CHANGES)
@example("config.json", 0, b"[]", True)
@example("config.json", 0, b'{"config": 1}', True)
def test_random_bytes_with_a_checksum_to_match_are_a_clear_error(
    whole, tmp_path, name, position, other, replace
):
    """A cell from a stranger."""
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "cells" / CELL
    content = changed((folder / name).read_bytes(), position, other, replace)
    (folder / name).write_bytes(content)
    marker = json.loads((folder / "done.json").read_text())
    marker["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "done.json").write_text(json.dumps(marker))
    with contextlib.suppress(StoreError):
        READERS[name](Store(tmp_path))


@FUZZ
@given(st.sampled_from(["study.json", f"failed/{CELL}.json"]), st.binary(max_size=200))
@example("study.json", b"[" * 100_000)
@example("study.json", b'{"experiments": 1}')
def test_random_bytes_in_a_plan_or_a_note_are_a_clear_error(tmp_path, name, content):
    store = Store(tmp_path)
    store.create()
    (tmp_path / name).write_bytes(content)
    store.failures()
    with contextlib.suppress(StoreError):
        store.plan()
