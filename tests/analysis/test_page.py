"""The page in a real browser, as its reader uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import report
from analysis.document import Document, Glance
from analysis.style import Series, draw_series, figure, latent_dim_axis
from tests.analysis.reader import Reader, webdriver

ui = pytest.importorskip("selenium.webdriver.support.ui")

ROWS = pd.DataFrame(
    [
        {
            "latent_dim": dim,
            "replicate": replicate,
            "cell": f"{name}{dim}",
            "name": name,
            "test_mse": base / dim + 0.001 * replicate,
        }
        for name, base in (("one", 0.1), ("two", 0.2))
        for dim in (2, 4, 8)
        for replicate in (0, 1)
    ]
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = Document()
    section = document.section("errors", "1 · Errors", "How large are they?")
    section.conclusions = ["The error falls with d: each replicate says so."]
    section.glance = Glance.of("The error falls.", ROWS["test_mse"], ROWS["latent_dim"])
    drawn, axes = figure()
    for index, (name, part) in enumerate(ROWS.groupby("name")):
        draw_series(axes, part, "latent_dim", "test_mse", Series(str(name), index))
    latent_dim_axis(axes, [2, 4, 8])
    axes.set_ylabel("error")
    axes.legend()
    document.figure("curves", drawn, "Errors.")
    numbers = pd.DataFrame({"n": [10, 9, 2, None, *range(20, 36)], "word": ["b", "a"] * 10})
    document.table("numbers", numbers, "Numbers", opened=True)
    facts = pd.DataFrame({"fact": ["command"], "one": ["study run " * 20], "two": ["study " * 40]})
    document.table("facts", facts, "Facts", opened=True)
    document.section("other", "2 · Other").conclusions = ["Nothing else."]
    document.text("Long. " * 3000)
    return document.write(
        tmp_path_factory.mktemp("report"),
        title="Study",
        subtitle="On data.",
        facts={"cells": "6"},
        samples=[],
        missing=[],
        cells=6,
        left_out=[],
        trouble="",
        command="study run",
        citation="Study.",
        provenance={"Code": "1"},
    )


class FigureReader(Reader):
    """A reader of a page with a figure."""

    def marks(self) -> list[list[Any]]:
        return list(json.loads(self.find("#marks-curves").get_attribute("textContent")))

    def point(self, x: float, y: float, click: bool = False) -> None:
        """Point at a place of the figure, in its own coordinates."""
        self.run("document.querySelector('#curves').scrollIntoView({block: 'center'})")
        box = self.run(
            "const s = document.querySelector('.canvas > svg'), b = s.getBoundingClientRect();"
            "return [b.x, b.y, b.width / s.viewBox.baseVal.width]"
        )
        chain = webdriver.ActionChains(self.driver)
        chain.w3c_actions.pointer_action.move_to_location(
            round(box[0] + x * box[2]), round(box[1] + y * box[2])
        )
        if click:
            chain.click()
        chain.perform()

    def tip(self) -> list[str]:
        """Lines shown beside a mark; none if nothing is shown."""
        return str(self.find(".tip").text).split("\n") if self.find(".tip").is_displayed() else []


@pytest.fixture
def reader(errorless_browser: Any, page: Path) -> FigureReader:
    errorless_browser.set_window_size(1440, 900)
    errorless_browser.get(page.as_uri())
    errorless_browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    return FigureReader(errorless_browser)


def test_mean_tooltip_has_value_interval_n_and_cell(reader: FigureReader) -> None:
    x, y, _, says, cell = next(m for m in reader.marks() if m[4] == "two4" and "mean" in m[3])
    reader.point(x + 3, y - 2)
    name, error, dim, count, told = reader.tip()
    assert (name, dim, count) == ("two", "latent dimension d: 4", "mean, n = 2")
    # 0.05 and 0.051: mean 0.0505, half-width 12.706 · 0.0005
    assert error == "error: 0.0505 [0.04415, 0.05685]" and "cell two4" in told
    assert says.split("\n")[1] == error and cell == "two4"


def test_no_tooltip_away_from_marks(reader: FigureReader) -> None:
    reader.point(*reader.marks()[0][:2])
    assert reader.tip()
    reader.point(300, 60)
    assert reader.tip() == []


def test_click_copies_the_cell(reader: FigureReader) -> None:
    x, y, *_, cell = next(m for m in reader.marks() if "mean" in m[3])
    reader.run("navigator.clipboard.writeText = async text => { window.copied = text }")
    reader.point(x, y, click=True)
    assert reader.run("return window.copied") == cell
    assert reader.tip()[-1] == f"copied: {cell}"


def test_legend_entry_hides_its_series_and_its_marks(reader: FigureReader) -> None:
    entry = "[data-legend='1']"
    x, y, *_ = next(m for m in reader.marks() if m[2] == 1 and "mean" in m[3])
    reader.press(entry, "ENTER")
    assert reader.find(entry).get_attribute("aria-pressed") == "false"
    drawn = reader.driver.find_elements("css selector", ".canvas > svg [data-series='1']")
    assert drawn and not any(each.is_displayed() for each in drawn)
    reader.point(x, y)
    assert reader.tip()[:1] != ["two"]
    reader.find(entry).click()
    reader.point(x, y)
    assert reader.tip()[0] == "two"


def test_keys_walk_through_the_marks(reader: FigureReader) -> None:
    reader.press(".plot", "ARROW_RIGHT")
    first = reader.tip()
    reader.press(".plot", "ARROW_RIGHT", "ARROW_LEFT")
    assert reader.tip() == first
    reader.press(".plot", "ARROW_DOWN")
    assert reader.tip()[0] != first[0]
    assert reader.find(".plot [aria-live]").get_attribute("textContent").startswith("two, error")
    reader.press(".plot", "ESCAPE")
    assert reader.tip() == []


def column(reader: FigureReader, index: int) -> list[str]:
    return list(
        reader.run(
            "return [...document.querySelectorAll('#table-numbers tbody tr')]"
            ".filter(r => !r.hidden).map(r => r.cells[arguments[0]].textContent)",
            index,
        )
    )


def test_table_sorts_by_number_and_by_word(reader: FigureReader) -> None:
    reader.find("th:nth-child(1) button").click()
    assert column(reader, 0)[:3] == ["2", "9", "10"] and column(reader, 0)[-1] == "–"
    reader.find("th:nth-child(1) button").click()
    assert column(reader, 0)[:2] == ["35", "34"] and column(reader, 0)[-1] == "–"
    assert reader.find("th:nth-child(1)").get_attribute("aria-sort") == "descending"
    reader.find("th:nth-child(2) button").click()
    assert column(reader, 1) == ["a"] * 10 + ["b"] * 10


def test_long_texts_of_a_table_wrap(reader: FigureReader) -> None:
    wide, window = reader.run(
        "return [document.querySelector('#table-facts table').scrollWidth, innerWidth]"
    )
    assert 0 < wide < window


def test_long_table_filters(reader: FigureReader) -> None:
    reader.find(".filter input").send_keys("3 A")
    assert set(column(reader, 1)) == {"a"} and all("3" in n for n in column(reader, 0))


def test_colours_follow_dark_mode(reader: FigureReader) -> None:
    line = "getComputedStyle(document.querySelector('[data-series=\"0\"] path')).stroke"
    light = reader.run(f"return [getComputedStyle(document.body).backgroundColor, {line}]")
    with reader.colour_scheme("dark"):
        seen = reader.run(f"return [getComputedStyle(document.body).backgroundColor, {line}]")
    assert light == ["rgb(255, 255, 255)", "rgb(0, 114, 178)"]
    assert seen == ["rgb(21, 24, 28)", "rgb(74, 163, 223)"]


def test_contents_link_opens_and_marks_its_section(reader: FigureReader) -> None:
    wait = ui.WebDriverWait(reader.driver, 5)
    reader.run("document.querySelector('#other > details').open = false")
    reader.find(".contents a[href='#other']").click()
    wait.until(lambda _: reader.run("return document.querySelector('#other > details').open"))
    wait.until(lambda _: reader.find("[aria-current]").get_attribute("hash") == "#other")


def test_word_is_explained_at_first_use(reader: FigureReader) -> None:
    (term,) = reader.driver.find_elements("css selector", "a.term[href='#word-replicate']")
    assert term.get_attribute("title").startswith("One trained model of a cell")
    assert reader.find("#word-replicate").text == "replicate"


def test_narrow_page_scrolls_its_figures_alone(reader: FigureReader) -> None:
    """Letters stay ten pixels high, so the figure is wider than the page."""
    with reader.phone():
        assert reader.run("return document.documentElement.scrollWidth") == 360
        heights = reader.run(
            "const s = document.querySelector('.canvas > svg');"
            "const scale = s.clientWidth / s.viewBox.baseVal.width;"
            "return [...s.querySelectorAll('text')].map(t => scale * parseFloat("
            "getComputedStyle(t).fontSize))"
        )
    assert min(heights) >= 9.9


def test_page_is_complete_without_its_script(reader: FigureReader, page: Path) -> None:
    reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.driver.get(page.as_uri())
        assert reader.find(".canvas > svg").is_displayed()
        assert reader.find("table.data").is_displayed()
        assert "The error falls." in reader.find(".answers").text
    finally:
        reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_downloaded_figure_has_no_page_colours(reader: FigureReader) -> None:
    svg = reader.run("return plain(document.querySelector('.canvas > svg'))")
    assert svg.startswith("<svg") and "var(" not in svg and "#0072b2" in svg
    png = reader.driver.execute_async_script(
        "const done = arguments[0]; pixels(document.querySelector('.canvas > svg')).then(done)"
    )
    assert png.startswith("data:image/png;base64,") and len(png) > 5000


def test_page_is_accessible(reader: FigureReader) -> None:
    """axe-core's rules, in light and dark mode."""
    axe = pytest.importorskip("axe_core_python.base").AXE_FILE_PATH.read_text()
    for scheme in ("light", "dark"):
        with reader.colour_scheme(scheme):
            reader.run(axe)
            found = reader.driver.execute_async_script(
                "const done = arguments[0]; axe.run().then(done)"
            )
        assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
        assert len(found["passes"]) > 20


def test_open_page_of_a_running_study_becomes_the_report(browser: Any, results_copy: Path) -> None:
    folder = results_copy
    report.grow(folder, "5 done, 1 running of 6", 1)
    browser.get((folder / "report" / "index.html").as_uri())

    def wait_for(text: str) -> None:
        ui.WebDriverWait(browser, 30).until(lambda page: text in page.page_source)

    wait_for("5 done, 1 running of 6")
    report.grow(folder, "6 done, 0 running of 6", 1)
    wait_for("6 done, 0 running of 6")
    (folder / "new.html").write_text("The report.")  # in one step, as a store writes
    (folder / "new.html").rename(folder / "report" / "index.html")
    wait_for("The report.")
