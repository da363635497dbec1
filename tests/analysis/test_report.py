"""The whole report on a small study: every number has its place on disk, and is right."""

import io
import json
import multiprocessing
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from analysis import correlation, redundancy, report, stamp
from analysis.report import sections
from analysis.results import load
from study import reporting
from study.errors import StoreError
from study.provenance import sources
from study.store import Block, Store
from tests.phrases import phrase

WITHOUT_CELLS = {"theory", "missing"}
"""Tables that come from no cell."""


@pytest.fixture(scope="module")
def reported(small_results, tmp_path_factory):
    """The small study's folder, copied, with its report."""
    folder = tmp_path_factory.mktemp("report") / "results"
    shutil.copytree(small_results.store.address, folder)
    report.write(folder)
    return folder


@pytest.fixture
def report_copy(reported, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(reported, tmp_path / "results")


@pytest.mark.slow
def test_second_process_writes_the_same_report(reported, tmp_path, monkeypatch):
    """The sections keep their order, though another one is written last."""
    monkeypatch.setenv("STUDY_CACHE_DIR", "")
    folder = tmp_path / "results"
    shutil.copytree(reported, folder, ignore=shutil.ignore_patterns("report"))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        report.write(folder, executor=executor)
    pages = [(of / "report" / "index.html").read_text() for of in (reported, folder)]
    titles = [re.findall("<h2.*?</h2>", page) for page in pages]
    assert len(titles[0]) >= 5 and titles[1] == titles[0]
    for kind in ("tables", "figures"):
        files = sorted(p.name for p in (reported / "report" / kind).iterdir())
        assert sorted(p.name for p in (folder / "report" / kind).iterdir()) == files
        for name in files:
            one, other = (of / "report" / kind / name for of in (reported, folder))
            assert one.read_bytes() == other.read_bytes(), name


@pytest.fixture(scope="module")
def page(reported):
    return (reported / "report" / "index.html").read_text()


def report_tables(written):
    return {p.stem: pd.read_csv(p) for p in (written / "report" / "tables").glob("*.csv")}


class Visible(HTMLParser):
    """Cells of the tables by the name of their `<details>`, and computed sentences."""

    def __init__(self):
        super().__init__()
        self.table, self.inside, self.cells, self.sentences = "", "", {}, []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "details" and attributes.get("id", "").startswith("table-"):
            self.table = attributes["id"].removeprefix("table-")
        elif tag == "ul" and attributes.get("class") == "says":
            self.inside = "says"
        elif tag == "td" and self.table:
            self.cells.setdefault(self.table, []).append("")
            self.inside = "td"
        elif tag == "li" and self.inside == "says":
            self.sentences.append("")

    def handle_endtag(self, tag):
        if tag == "details":
            self.table = ""
        if tag in ("ul", "td"):
            self.inside = ""

    def handle_data(self, data):
        if self.inside == "td":
            self.cells[self.table][-1] += data
        elif self.inside == "says" and self.sentences:
            self.sentences[-1] += data


@pytest.fixture(scope="module")
def visible(page):
    reader = Visible()
    reader.feed(page)
    return reader


def test_page_is_one_file_that_needs_no_network(page):
    assert len(page) < 15e6
    sources = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page)
    assert sources == []
    assert "@import" not in page
    assert not re.search(r"url\((?!['\"]?(data:|#))", page)


def test_report_has_its_promised_files(reported):
    folder = reported / "report"
    assert {"reconstruction", "interpolation", "correlation", "transfer"} <= set(
        report_tables(reported)
    )
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"reconstruction_all.png", "reconstruction_all.svg", "interpolation_4_7.png"} <= figures
    assert all((folder / "figures" / name).stat().st_size > 1000 for name in figures)


def test_intervals_of_accuracies_are_possible(reported):
    """Two replicates have wide intervals, as t(0.975; 1) = 12.7."""
    tables = [table for table in report_tables(reported).values() if "test_accuracy" in table]
    bounds = pd.concat([table[["low", "high"]] for table in tables if "low" in table])
    assert (bounds.min(axis=None), bounds.max(axis=None)) == (0, 1)


def test_numbers_of_page_tables_are_in_their_csv(visible, reported):
    stored = report_tables(reported)
    assert len(visible.cells) >= 10
    for name, cells in visible.cells.items():
        numbers = stored[name].select_dtypes("number").to_numpy(float).ravel()
        texts = {
            str(value) for value in stored[name].select_dtypes(exclude="number").to_numpy().ravel()
        }
        known = {f"{value:.4g}" for value in numbers[~np.isnan(numbers)]}
        known |= {str(int(v)) for v in numbers[~np.isnan(numbers)] if v == int(v)}
        for cell in cells:
            assert cell in known | texts | {"–", "yes", "NO", "NaN", ""}, (name, cell)


def test_every_table_is_there_as_parquet_too(reported):
    folder = reported / "report" / "tables"
    kept = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    assert kept.keys() == report_tables(reported).keys()
    for name, table in kept.items():
        again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
        pd.testing.assert_frame_equal(again, report_tables(reported)[name])


def test_every_sentence_is_in_a_csv_with_its_cells(visible, reported):
    stored = report_tables(reported)["conclusions"]
    assert sorted(sentence.strip() for sentence in visible.sentences) == sorted(stored["sentence"])
    done = set(load(reported).rows["cell"])
    for _, line in stored[stored["section"] != "theory"].iterrows():
        assert set(line["cells"].split()) <= done
        assert line["cells"]


def test_every_row_of_every_csv_names_its_cells(reported):
    done = set(load(reported).rows["cell"])
    for name, table in report_tables(reported).items():
        if name in WITHOUT_CELLS or name == "conclusions":
            continue
        assert "cells" in table, name
        for value in table["cells"].dropna():
            # Controls and baselines on pixels have no model.
            assert value.startswith("none") or set(value.split()) <= done, (name, value)


def test_numbers_match_those_recomputed_from_the_store(reported):
    results, stored = load(reported), report_tables(reported)
    images = results.test_images.numpy() / np.float32(255)

    line = stored["reconstruction"].iloc[-1]
    errors = []
    for model in results.autoencoders(line["cells"]):
        restored = model(results.test_images / 255).detach().numpy()
        errors.append(((restored - images) ** 2).mean())
    assert line["test_mse"] == pytest.approx(np.mean(errors), rel=1e-4)

    line = stored["transfer"].iloc[0]
    right = results.predictions(line["cells"]) == results.test_labels.numpy()
    assert line["test_accuracy"] == pytest.approx(right.mean(), abs=1e-6)

    line = stored["correlation"].query("measure == 'mean_absolute_off_diagonal'").iloc[-1]
    values = []
    training = results.dataset.train.on("cpu")[0]
    for model in results.autoencoders(line["cells"]):
        codes = model.encoder(training / 255).detach().double().numpy()
        r = np.corrcoef(codes.T)
        values.append(np.abs(r[~np.eye(len(r), dtype=bool)]).mean())
    assert line["mean"] == pytest.approx(np.mean(values), rel=1e-4)
    assert redundancy.noise_floor(len(training)) < 0.015
    assert len(correlation.images_to_encode(results)[0]) == len(training) == 3600


def test_missing_cells_are_named_and_not_counted(report_copy, remove_cell):
    folder = report_copy
    gone = load(folder).cells("fewshot")[0]
    remove_cell(folder, gone)
    load(folder).store.write_failure(gone, {}, "trainables.contract.Diverged: the loss is NaN")
    text = report.write(folder).read_text()
    warning = text[text.index('id="missing"') :][:1500]
    assert "1 of" in warning
    assert gone in warning
    assert "Diverged: the loss is NaN" in warning
    assert not report_tables(folder)["transfer"]["cells"].str.contains(gone).any()
    assert gone not in " ".join(report_tables(folder)["conclusions"]["cells"].fillna(""))


def test_autoencoders_alone_still_give_a_report(report_copy, remove_cell):
    for cell in load(report_copy).cells("fewshot"):
        remove_cell(report_copy, cell)
    text = report.write(report_copy).read_text()
    assert 'id="reconstruction"' in text
    assert 'id="transfer"' not in text
    assert "not computed yet" in text


def test_folder_without_study_or_cells_is_an_error(reported, tmp_path):
    with pytest.raises(StoreError, match=phrase("holds no study (no study.json)")):
        report.write(tmp_path)
    for name in ("study.json", "format.json"):
        shutil.copy(reported / name, tmp_path)
    with pytest.raises(StoreError, match="no cell is finished"):
        report.write(tmp_path)


def test_report_is_current_until_its_inputs_change(report_copy, remove_cell):
    folder = report_copy
    assert report.is_current(folder, {})
    plan = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**plan, "command": "in other words"}))
    assert report.is_current(folder, {})
    (folder / "study.json").write_text(json.dumps({**plan, "experiments": plan["experiments"][:1]}))
    assert not report.is_current(folder, {})
    (folder / "study.json").write_text(json.dumps(plan))
    remove_cell(folder, load(folder).cells("fewshot")[0])
    assert not report.is_current(folder, {})


def test_report_of_other_code_or_packages_is_not_current(reported, monkeypatch):
    for package in ("analysis", "study", "trainables"):

        def edited(*named, package=package):
            return "edited" if package in named else sources(*named)

        with monkeypatch.context() as patch:
            patch.setattr(stamp, "sources", edited)
            assert not report.is_current(reported, {}), package
    assert report.is_current(reported, {})
    monkeypatch.setattr(stamp, "packages", lambda: {"torch": "0"})
    assert not report.is_current(reported, {})


def test_provenance_is_at_the_foot(page, reported):
    foot = page[page.index('id="provenance"') :]
    results = load(reported)
    assert results.plan["command"] in foot
    assert results.dataset.fingerprint in foot
    for word in ("Code of the cells", "torch", "Device time", "Computed on"):
        assert word in foot


def test_report_in_a_bucket_is_the_same(small_results, reported, s3, bucket, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", "")
    s3.upload(bucket, small_results.store.address)
    place = s3.uri(bucket)
    pd.testing.assert_frame_equal(load(place).rows, small_results.rows)
    assert not report.is_current(place, {})
    report.grow(place, "5 done, 1 running of 6", 60)
    assert "5 done, 1 running" in s3.get(bucket, "results/report/index.html").decode()
    assert report.write(place) == f"s3://{bucket}/results/report/index.html"
    assert report.is_current(place, {})
    there = {key.removeprefix("results/") for key in s3.keys(bucket) if key[-1] != "/"}
    local = {
        path.relative_to(reported).as_posix() for path in reported.rglob("*") if path.is_file()
    }
    assert {name for name in there if name.startswith("report/")} == {
        name for name in local if name.startswith("report/")
    }
    for name in sorted(local):
        if name.startswith("report/tables/"):
            assert s3.get(bucket, f"results/{name}") == (reported / name).read_bytes(), name
    assert "<h1>" in s3.get(bucket, "results/report/index.html").decode()


# --- while a study runs ------------------------------------------------------------------------


def test_page_of_a_running_study_becomes_the_report(results_copy):
    folder = results_copy
    store = Store(folder)
    fewshot = next(p for p in store.plan()["experiments"] if p["name"] == "fewshot")
    store.set_aside(Block(fewshot["cells"][0]["id"], range(2)))
    report.grow(folder, "5 done, 0 failed, 1 running of 6; about 2 min left", 60)
    page = folder / "report" / "index.html"
    text = page.read_text()
    assert '<meta http-equiv="refresh" content="60">' in text
    assert "Still running:</strong> 5 done, 0 failed, 1 running of 6; about 2 min left" in text
    assert text.count("<figure") == 2 and "have no result" not in text
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html"]
    assert not report.is_current(folder, {})
    report.write(folder)
    text = page.read_text()
    assert "refresh" not in text.partition("<body>")[0] and "Still running" not in text


def test_study_without_results_has_a_page(small_results, tmp_path):
    folder = tmp_path / "results"
    whole = small_results.store.address
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("blocks", "report"))
    report.grow(folder, "0 done, 0 failed, 2 running of 6", 60)
    assert "0 done, 0 failed, 2 running of 6" in (folder / "report" / "index.html").read_text()


@pytest.mark.slow
def test_one_process_writes_page_and_report(results_copy, tmp_path, monkeypatch):
    """It goes on with what the report will need, and doesn't hold up the study meanwhile."""
    folder = results_copy
    monkeypatch.setattr(reporting, "FIRST_PAGE", 0.0)
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path / "cache"))
    page = folder / "report" / "index.html"
    with reporting.ReportProcess() as process:
        growing = reporting.GrowingPage(folder, process)
        growing.update("first")
        assert not page.exists()  # the study goes on at once
        growing.update("second, while the first is being written")
        spent = growing.pending.result(timeout=240)
        assert "Still running:</strong> first" in page.read_text()
        assert len(list(tmp_path.glob("cache/section-*"))) == len(sections.SECTIONS)
        assert not growing.has_failed() and growing.pending is None
        assert growing.prepare_seconds == spent[1] > 0
        writer = process.submit(os.getpid).result()
        assert process.call("says its number", os.getpid) == writer
        assert [child.pid for child in multiprocessing.active_children()] == [writer]
        reporting.write(folder, {}, process)
        assert "Still running:" not in page.read_text()
    assert multiprocessing.active_children() == []
