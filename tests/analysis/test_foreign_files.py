"""A results folder is foreign input: nothing in it becomes markup, a formula, or a path outside
the report."""

import io
import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis import report
from analysis.compare import studies
from analysis.document import Document
from analysis.style import STYLE, figure, literal
from study.errors import StoreError
from study.store import Block, Store
from trainables.contract import Outcome

MARKUP = '"><img src=x onerror=alert(1)>'
PATH = "../../../x"
FORMULA = r"$\frac{$"
"""Matplotlib takes it for a formula and can't parse it."""
HOSTILE = [MARKUP, PATH, FORMULA]
CELL = "a" * 16


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    @property
    def injected(self):
        return [(tag, at) for tag, at in self.tags if at.get("src") == "x" or "onerror" in at]


# --- documents ---------------------------------------------------------------------------------


def test_every_text_of_a_document_is_escaped():
    document = Document()
    section = document.section("one", MARKUP, MARKUP)
    section.conclusions = [MARKUP]
    document.text(MARKUP)
    document.heading(MARKUP)
    drawn, axes = figure()
    axes.plot([0, 1], [0, 1], label=MARKUP)
    axes.set_xlabel(MARKUP)
    axes.set_title(MARKUP)
    axes.legend()
    document.figure("figure", drawn, MARKUP)
    table = pd.DataFrame({MARKUP: [MARKUP, None]})
    document.table("table", table, MARKUP)
    document.download("download", table, MARKUP)
    line = dict.fromkeys(("experiment", "cell", "settings", "reason"), MARKUP)
    page = document.render(
        title=MARKUP,
        subtitle=MARKUP,
        missing=[line],
        cells=1,
        provenance={MARKUP: MARKUP},
        left_out=[MARKUP],
        trouble=MARKUP,
        facts={MARKUP: MARKUP},
        progress=MARKUP,
        samples=[{"name": MARKUP, "uri": MARKUP}],
        command=MARKUP,
        citation=MARKUP,
    )
    shown = Tags(page)
    assert shown.injected == []
    assert shown.text.count(MARKUP) == 32


@pytest.mark.parametrize("name", [*HOSTILE, "", ".", "a/b", "a b", "-rf", "a\n", "é", "a.b"])
def test_unsafe_file_name_is_refused(name, tmp_path):
    document = Document()
    document.section("one", "One")
    table = pd.DataFrame({"a": [1]})
    for attempt in (
        lambda: document.section(name, "Two"),
        lambda: document.table(name, table, "caption"),
        lambda: document.download(name, table, "caption"),
        lambda: document.figure(name, figure()[0], "caption"),
    ):
        with pytest.raises(StoreError, match="can't be the name of a file"):
            attempt()
    assert document.files == {}
    document.write(
        tmp_path / "a" / "page",
        title="",
        subtitle="",
        missing=[],
        cells=1,
        provenance={},
        trouble="",
        command="",
        citation="",
    )
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "a", "a/page", "a/page/index.html", "a/page/figures", "a/page/tables",
        "a/page/tables/conclusions.csv", "a/page/tables/conclusions.parquet",
    }  # fmt: skip


@pytest.mark.parametrize("text", [FORMULA, "$x$", "$", "a$b", r"\$x\$", r"\\$", "\\"])
def test_literal_text_is_drawn_as_it_is(text, monkeypatch):
    made, axes = figure()
    axes.set_title(literal(text))
    file = io.StringIO()
    monkeypatch.setitem(STYLE, "svg.fonttype", "none")
    made.savefig(file, format="svg")
    assert text in Tags(file.getvalue()).text


# --- results folders ---------------------------------------------------------------------------


def search_content(text):
    """A search of two trials, with `text` wherever a word may be."""
    kind = {"name": "CategoricalDistribution", "attributes": {"choices": [text, "b"]}}
    trial = {
        "number": 0,
        "state": "complete",
        "params": {"shape": text},
        "values": [0.5],
        "curve": [[1, 0.5]],
        "cell": CELL,
        "parameters": 10,
        "seconds": 1.0,
    }
    stopped = {**trial, "number": 1, "state": "pruned", "params": {"shape": "b"}, "values": None}
    return {
        "name": "good",
        "experiment": "other",
        "dataset": text,
        "epochs": 2,
        "replicates": 1,
        "rungs": [1],
        "seconds": 1.0,
        "columns": ["val_mse"],
        "directions": ["minimize"],
        "dimensions": {"shape": kind},
        "trials": [trial, stopped],
        "winner": 0,
        "winner_cell": text,
        "start_cell": text,
    }


def hostile_results(folder, data, text, name="other"):
    """Results of an experiment without a section in the report, with `text` in its axis, settings,
    rows, reasons, provenance and search; one of its two cells has failed."""
    store = Store(folder)
    store.create()
    config = {"shape": text, "size": text, "seed": 0}
    cells = [
        {"id": cell, "config": config, "parent": None, "replicates": 1} for cell in (CELL, "b" * 16)
    ]
    experiment = {
        "name": name,
        "axes": {"shape": [text], "size": [text]},
        "metric": "val_score",
        "cells": cells,
    }
    asked = {"study": text, "command": text, "dataset": data.name, "data_dir": None,
             "fingerprint": data.fingerprint, "experiments": [experiment]}  # fmt: skip
    provenance = {"code": text, "device": text, "host": text, "threads": 1, "torch": text,
                  "started": 0.0, "seconds": 1.0}  # fmt: skip
    outcome = Outcome([{"replicate": 0, "val_score": 0.5, "note": text}])
    store.write_block(Block(CELL, range(1)), config, None, outcome, provenance)
    store.write_failure("b" * 16, config, text)
    store.write_search("good", search_content(text))
    (folder / "study.json").write_text(json.dumps(asked))


def files_outside(root, folder):
    return {path for path in root.rglob("*") if folder not in path.parents and path != folder}


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_results_folder_stays_text(text, digits, tmp_path):
    folder = tmp_path / "a" / "b" / "c" / "results"
    folder.mkdir(parents=True)
    hostile_results(folder, digits, text)
    before = files_outside(tmp_path, folder)
    page = report.write(folder)
    assert files_outside(tmp_path, folder) == before
    shown = Tags(page.read_text())
    assert shown.injected == []
    assert shown.text.count(text) >= 12
    links = [at[key] for _, at in shown.tags for key in ("src", "href") if key in at]
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    names = {path.name for path in (folder / "report").rglob("*")}
    assert {"other.csv", "search-good-trials.csv", "missing.csv"} <= names


@pytest.mark.parametrize("text", HOSTILE)
def test_experiment_of_an_unsafe_name_is_refused(text, digits, tmp_path):
    hostile_results(tmp_path, digits, text, name=text)
    with pytest.raises(StoreError) as refused:
        report.write(tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize("read", [report.write, lambda folder: studies.read([folder])])
def test_cells_without_a_setting_are_refused(read, digits, tmp_path):
    hostile_results(tmp_path, digits, "text", name="autoencoder")
    with pytest.raises(StoreError, match="the cells of autoencoder lack the setting 'activation'"):
        read(tmp_path)
