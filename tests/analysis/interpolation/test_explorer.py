"""The latent explorer, used in a real browser as its reader would."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.document import html
from analysis.interpolation import explorer
from analysis.interpolation.judge import Judges, train_judges
from analysis.interpolation.lines import PAIRS, cells_by_dimension, image_pairs, interpolate
from analysis.interpolation.scorecard import INTERPOLATION, scorecard
from analysis.results import Results
from tests.analysis.reader import Reader, webdriver

ui = pytest.importorskip("selenium.webdriver.support.ui")


@pytest.fixture(scope="module")
def judges(small_results: Results) -> Judges:
    return train_judges(small_results.dataset, count=2, steps=40)


@pytest.fixture(scope="module")
def table(small_results: Results, judges: Judges) -> pd.DataFrame:
    return scorecard(small_results, judges, images_per_pair=4)


def fragment(results: Results, judges: Judges, table: pd.DataFrame) -> str:
    """The explorer's part of the page."""
    return html("explorer", explorer.content(results, judges, table))


@pytest.fixture(scope="module")
def markup(small_results: Results, table: pd.DataFrame, judges: Judges) -> str:
    return fragment(small_results, judges, table)


@pytest.fixture(scope="module")
def page(markup: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Explorer</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"></head>'
        f'<body style="margin: 0 20px">{markup}</body></html>'
    )
    return path


class ExplorerReader(Reader):
    """A reader of the explorer."""

    def choose(self, selector: str, text: str) -> None:
        ui.Select(self.find(selector)).select_by_visible_text(text)

    def place(self, selector: str) -> tuple[int, int]:
        """Which tile of its sprite sheet a canvas shows: (column, row)."""
        canvas = self.find(selector)
        return int(canvas.get_attribute("data-column")), int(canvas.get_attribute("data-row"))

    def picture(self, selector: str) -> np.ndarray:
        """Pixels of a canvas, (28, 28) in [0, 1], 1 for ink."""
        red = self.run(
            "return [...arguments[0].getContext('2d').getImageData(0, 0, 28, 28).data]"
            ".filter((_, index) => index % 4 === 0)",
            self.find(selector),
        )
        return 1 - np.array(red).reshape(28, 28) / 255

    def screenshot(self, path: Path) -> None:
        assert self.driver.get_screenshot_as_file(str(path))
        assert path.stat().st_size > 5_000


@pytest.fixture
def reader(errorless_browser: Any, page: Path) -> ExplorerReader:
    errorless_browser.get(page.as_uri())
    found = ExplorerReader(errorless_browser, ".explorer")
    wait = ui.WebDriverWait(errorless_browser, 10)
    wait.until(lambda _: found.find("[data-card='1'] .picture").get_attribute("data-row"))
    wait.until(lambda _: found.find(".seen").get_attribute("data-row"))
    return found


def is_same(seen: np.ndarray, computed: np.ndarray) -> bool:
    """True if two pictures differ by no more than the rounding to 256 greys."""
    return bool(np.abs(seen - computed).max() < 0.005)


def test_sliding_shows_what_the_model_decodes(
    reader: ExplorerReader, small_results: Results, tmp_path: Path
) -> None:
    images = image_pairs(small_results, PAIRS[0])
    network = small_results.autoencoders(small_results.cells("autoencoder")[1])[0]
    path = interpolate(network, images.first[:1], images.second[:1], explorer.ALPHAS)[1][0, :, 0]

    assert reader.find(".weight").text == "α = 0.50"
    assert is_same(reader.picture("[data-card='1'] .picture"), path[10].numpy())
    reader.press(".alpha", "ARROW_LEFT", "ARROW_LEFT")
    assert reader.find(".weight").text == "α = 0.40"
    assert reader.place("[data-card='1'] .picture") == (8, 1)
    assert is_same(reader.picture("[data-card='1'] .picture"), path[8].numpy())
    assert "α = 0.40" in reader.find(".alpha").get_attribute("aria-valuetext")
    reader.press(".alpha", "HOME")
    blend = reader.find("[data-card='2']").text
    assert is_same(reader.picture("[data-card='2'] .picture"), images.second[0, 0].numpy())
    reader.press(".alpha", "END")
    assert reader.find(".weight").text == "α = 1.00"
    assert is_same(reader.picture("[data-card='2'] .picture"), images.first[0, 0].numpy())
    assert is_same(reader.picture("[data-card='first'] .picture"), images.first[0, 0].numpy())
    assert reader.find("[data-card='2']").text != blend
    reader.screenshot(tmp_path / "slid.png")


def test_judges_readings_are_shown(
    reader: ExplorerReader, small_results: Results, judges: Judges
) -> None:
    images = image_pairs(small_results, PAIRS[0])
    probabilities = judges(images.first[:1])[0]
    expected = f"{probabilities.argmax()} · {100 * probabilities.max():.0f} %"
    assert reader.find("[data-card='first'] .reading").text == expected
    label = reader.find("[data-card='1'] .picture").get_attribute("aria-label")
    assert re.fullmatch(r"d = 8, α = 0\.50: reads as \d, \d+ %; neither class \d+ %", label)


def test_choosing_digits_and_images(
    reader: ExplorerReader, small_results: Results, table: pd.DataFrame, tmp_path: Path
) -> None:
    reader.choose("select.pair", "8 and 9")
    assert reader.find("[data-card='first'] strong").text == "I₁: 8"
    assert reader.find("[data-card='second'] strong").text == "I₂: 9"
    images = image_pairs(small_results, (8, 9))
    wait = ui.WebDriverWait(reader.driver, 5)
    first = "[data-card='first'] .picture"
    wait.until(lambda _: is_same(reader.picture(first), images.first[0, 0].numpy()))

    rows = table[(table["pair"] == "8-9") & (table["control"] == INTERPOLATION)]
    counted = rows[(rows["latent_dim"] == 2) & (rows["counted"] == 1)]["confidence"]
    shown = f"{counted.mean():.2f}" if len(counted) else "–"
    assert reader.find("tbody:not([hidden]) tr td").text == shown
    assert len(reader.driver.find_elements("css selector", "tbody:not([hidden])")) == 1

    reader.choose("select.example", "3")
    assert reader.place("[data-card='1'] .picture") == (10, 2 * 3 + 1)
    assert is_same(reader.picture(first), images.first[2, 0].numpy())
    reader.screenshot(tmp_path / "chosen.png")


def test_plane_follows_keyboard_and_pointer(reader: ExplorerReader, small_results: Results) -> None:
    assert reader.place(".seen") == (12, 12)
    reader.press(".plane", "ARROW_RIGHT", "ARROW_UP", "ARROW_UP")
    assert reader.place(".seen") == (13, 10)

    network = small_results.autoencoders(small_results.cells("autoencoder")[0])[0]
    with torch.no_grad():
        codes = network.encoder(small_results.test_images / 255).numpy()
        (low_1, low_2), (high_1, high_2) = np.percentile(codes, [1, 99], axis=0)
        z = [low_1 + 13 / 24 * (high_1 - low_1), high_2 - 10 / 24 * (high_2 - low_2)]
        decoded = network.decoder(torch.tensor([z], dtype=torch.float32))[0, 0].numpy()
    assert is_same(reader.picture(".seen"), decoded)
    said = reader.find(".place").text
    assert said.startswith(f"z = ({z[0]:.1f}, {z[1]:.1f}): reads as")

    reader.press(".plane", "HOME")
    assert reader.place(".seen") == (12, 12)
    reader.press(".plane", *["ARROW_LEFT"] * 15)
    assert reader.place(".seen") == (0, 12)
    plane = reader.find(".plane")
    actions = webdriver.ActionChains(reader.driver)
    actions.move_to_element_with_offset(plane, plane.size["width"] // 2 - 3, 0).perform()
    assert reader.place(".seen") == (24, 12)


def test_legend_filters_digits(reader: ExplorerReader) -> None:
    def pressed() -> list[str]:
        buttons = reader.driver.find_elements("css selector", ".classes [aria-pressed='true']")
        return [button.text for button in buttons]

    def drawn() -> str:
        return reader.run("return arguments[0].toDataURL()", reader.find(".plane"))

    everything = drawn()
    assert pressed() == list("0123456789")
    reader.find("[data-class='3']").click()
    assert pressed() == ["3"]
    assert drawn() != everything
    reader.press("[data-class='8']", "SPACE")
    assert pressed() == ["3", "8"]
    reader.find("[data-class='3']").click()
    reader.find("[data-class='8']").click()
    assert pressed() == list("0123456789")
    assert drawn() == everything


def test_explorer_fits_a_phone(reader: ExplorerReader, tmp_path: Path) -> None:
    with reader.phone():
        reader.driver.refresh()
        assert reader.run("return window.innerWidth") == 360
        assert reader.run("return document.documentElement.scrollWidth") == 360
        assert reader.find("table").size["width"] <= 320
        reader.screenshot(tmp_path / "phone.png")


def test_print_shows_the_midpoint(reader: ExplorerReader) -> None:
    reader.press(".alpha", "HOME")
    reader.run(
        "window.addEventListener('beforeprint', () => { window.printed = "
        "document.querySelector('.explorer .weight').textContent; })"
    )
    printed = reader.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(printed) > 10_000
    assert reader.run("return window.printed") == "α = 0.50"
    assert reader.find(".weight").text == "α = 0.00"


# --- without a browser -------------------------------------------------------------------------


def test_explorer_needs_no_network(markup: str) -> None:
    assert not re.search(r"https?:|src=|url\(|@import|fetch\(", markup)
    assert len(markup.encode()) < 3_000_000


def with_dimensions(results: Results, dims: tuple[int, ...]) -> Results:
    """The study as if only these dimensions had been asked for."""
    experiments = [
        {**e, "cells": [c for c in e["cells"] if c["config"]["latent_dim"] in dims]}
        for e in results.plan["experiments"]
    ]
    return replace(results, plan={**results.plan, "experiments": experiments})


def test_explorer_without_d_2_has_no_plane(
    small_results: Results, table: pd.DataFrame, judges: Judges
) -> None:
    markup = fragment(with_dimensions(small_results, (8,)), judges, table)
    assert "no finished autoencoder with d = 2" in markup
    assert 'class="plane"' not in markup
    assert "d = 8</strong>" in markup


def test_explorer_names_missing_digits(
    small_results: Results, table: pd.DataFrame, judges: Judges
) -> None:
    data = small_results.dataset
    ones = data.test.labels == 1
    test = replace(data.test, images=data.test.images[ones], labels=data.test.labels[ones])
    results = replace(small_results)
    results.__dict__["dataset"] = replace(data, test=test)
    markup = fragment(results, judges, table)
    assert "lack the classes of these pairs" in markup


def test_readings_match_the_pictures(small_results, judges, table):
    data = explorer.content(small_results, judges, table)["data"]
    cells = cells_by_dimension(small_results)
    found = explorer.readings(data, cells)
    assert len(found) == len(data["pairs"]) * explorer.EXAMPLES * 3 * len(explorer.ALPHAS)
    d = 8
    images = image_pairs(small_results, (5, 1))
    model = small_results.autoencoders(cells[d])[0]
    path = interpolate(model, images.first[2:3], images.second[2:3], explorer.ALPHAS)[1][0]
    probabilities = judges(path)
    rows = found.query("pair == '5-1' and images == 3 and latent_dim == @d")
    assert rows["alpha"].tolist() == list(explorer.ALPHAS)
    assert rows["class"].tolist() == [str(read) for read in probabilities.argmax(axis=1)]
    assert rows["percent_first"].to_numpy() == pytest.approx(100 * probabilities[:, 5], abs=0.51)
    assert set(rows["cells"]) == {cells[d]}
    assert set(found.query("latent_dim == 'pixel blend'")["cells"]) == {"none: images"}


def test_many_dimensions_are_thinned_out_evenly(small_results, judges, table, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_DIMENSIONS", 3)
    cells = {d: f"cell of {d}" for d in range(3, 13)}
    monkeypatch.setattr(explorer, "cells_by_dimension", lambda results: cells)
    assert explorer.explorer_cells(small_results) == {d: cells[d] for d in (3, 7, 12)}

    monkeypatch.setattr(explorer, "cells_by_dimension", cells_by_dimension)
    monkeypatch.setattr(explorer, "MOST_DIMENSIONS", 1)
    content = explorer.content(small_results, judges, table)
    assert content["dims"] == [2] and content["data"]["map"]
    assert "at 1 of 2 latent\ndimensions" in fragment(small_results, judges, table)
    assert len(content["data"]["pairs"][0]["readings"]) == 2 * explorer.EXAMPLES
