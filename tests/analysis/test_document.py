"""Large tables and figures are shortened on the page and stored in files."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import document
from analysis.document import PLACEHOLDERS, Document
from analysis.style import figure

CONTEXT: dict[str, Any] = {
    "title": "",
    "subtitle": "",
    "missing": [],
    "cells": 1,
    "provenance": {},
    "trouble": "",
    "command": "",
    "citation": "",
}
"""What `Document.render` needs."""


@pytest.fixture
def page() -> Document:
    made = Document()
    made.section("one", "One")
    return made


def html(page: Document) -> str:
    (section,) = page.sections
    return "".join(section.elements)


def test_page_shows_the_first_rows_of_a_long_table(page: Document) -> None:
    page.table("long", pd.DataFrame({"number": range(1200)}), "Numbers")
    assert re.findall("<td>(.*?)</td>", html(page)) == [str(n) for n in range(500)]
    assert "Numbers (the first 500 of 1,200 rows)" in html(page)
    assert len(pd.read_csv(io.BytesIO(page.files["tables/long.csv"]))) == 1200


def test_page_links_to_large_files_and_embeds_small_ones(
    page: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "EMBED_LIMIT", 200)
    page.table("small", pd.DataFrame({"number": range(20)}), "Few")
    page.download("large", pd.DataFrame({"number": range(200)}), "Many")
    links = dict(re.findall('download="(.*?)" href="(.*?)"', html(page)))
    assert links["small.csv"].startswith("data:text/csv;base64,")
    assert links["large.csv"] == "tables/large.csv"


def test_large_figure_is_a_picture_with_a_file_beside_it(
    page: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("asked", 10**6), ("shown", 10)):
        monkeypatch.setattr(document, "EMBED_LIMIT", most)
        drawn, axes = figure()
        axes.plot([1, 2], [3, 4], label="line")
        page.figure(name, drawn, "A line.")
    asked, shown = html(page).split('id="shown"')
    assert "<svg" in asked and "<img" not in asked
    assert "<svg" not in shown and '<img src="data:image/png' in shown
    assert page.files["figures/shown.svg"] == page.files["figures/asked.svg"]


def test_parquet_stores_mixed_columns_as_words(page: Document) -> None:
    mixed = pd.DataFrame({"d": [2, "pixel blend", None], "x": [0.5, np.nan, 1.0]})
    page.table("mixed", mixed, "Mixed")
    kept = pd.read_parquet(io.BytesIO(page.files["tables/mixed.parquet"]))
    assert kept["d"].tolist()[:2] == ["2", "pixel blend"] and pd.isna(kept["d"][2])
    assert kept["x"].dtype == float


def test_page_alone_stores_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Document(alone=True)
    alone.section("one", "One")
    for name, most in (("drawing", 10**6), ("picture", 10)):
        monkeypatch.setattr(document, "EMBED_LIMIT", most)
        alone.figure(name, figure()[0], "A figure.")
    alone.table("table", pd.DataFrame({"number": range(20)}), "Numbers")
    alone.download("download", pd.DataFrame({"number": range(20)}), "Numbers")
    assert "Figure 2" in alone.render(**CONTEXT)
    assert alone.files == {}
    links = dict(re.findall('download="(.*?)" href="(.*?)"', html(alone)))
    assert links.keys() == {"table.csv", "download.csv"}
    assert all(link.startswith("data:text/csv;base64,") for link in links.values())


def test_label_like_a_start_tag_is_no_figure(page: Document) -> None:
    label = f'data-figure="{PLACEHOLDERS["figure"]}" data-table="1'
    for name in ("first", "second"):
        drawn, axes = figure()
        axes.plot([1, 2], [3, 4], label=label)
        axes.legend()
        page.figure(name, drawn, label)
        page.table(name, pd.DataFrame({label: [label]}), label)
    text = page.render(**CONTEXT)
    for kind in ("figure", "table"):
        numbers = re.findall(rf'<(?:figure|details)[^>]* data-{kind}="(.*?)"', text)
        assert numbers == ["1", "2"]
        assert re.findall(rf'"label">{kind.title()} (.*?)\.<', text) == ["1", "2"]
    drawings = re.findall("<svg.*?</svg>", text, re.DOTALL)
    assert sum('data-figure="&lt;figure number&gt;"' in drawing for drawing in drawings) == 2
