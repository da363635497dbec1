"""Cached sections of a report, and which of them are rewritten."""

import json
import shutil
from collections import Counter
from concurrent.futures import Future
from importlib import import_module
from types import SimpleNamespace

import pytest

from analysis import cache, redundancy, report
from analysis.document import Document
from analysis.report import kept, sections
from analysis.results import load
from study.store import Block, Store
from study.store.cells import signed


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory):
    """The folder of the cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def use_cache(cache_folder, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", str(cache_folder))


@pytest.fixture(scope="module")
def reported(small_results, cache_folder, tmp_path_factory):
    """The small study's folder, copied, with its report; all sections are kept."""
    folder = tmp_path_factory.mktemp("sections") / "results"
    shutil.copytree(small_results.store.address, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_CACHE_DIR", str(cache_folder))
        report.write(folder)
    return folder


@pytest.fixture
def written_sections(monkeypatch):
    """Names of the sections that are written, not taken from the cache."""
    names = []
    write = sections._write

    def noted(part, results):
        names.append(part.name)
        return write(part, results)

    monkeypatch.setattr(sections, "_write", noted)
    return names


@pytest.fixture
def report_copy(reported, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(reported, tmp_path / "copy")


def report_files(folder):
    """Files of a report, without the page, which says when it was written."""
    paths = [p for kind in ("figures", "tables") for p in (folder / "report" / kind).iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_same_cells_rewrite_nothing(report_copy, reported, written_sections):
    folder = report_copy
    shutil.rmtree(folder / "report")
    page = report.write(folder)
    assert written_sections == []
    assert report_files(folder) == report_files(reported)
    text, before = (path.read_text() for path in (page, reported / "report" / "index.html"))
    assert len(text) == len(before) and text.count("<figure") == before.count("<figure") > 10


def test_missing_few_shot_cell_rewrites_transfer_alone(report_copy, written_sections):
    folder = report_copy
    store = Store(folder)
    cell = next(
        c for p in store.plan()["experiments"] if p["name"] == "fewshot" for c in p["cells"]
    )
    store.set_aside(Block(cell["id"], range(2)))
    report.write(folder)
    assert written_sections == ["transfer"]


def test_same_cells_with_other_numbers_are_written_anew(report_copy, reported, written_sections):
    """As another machine computes them."""
    folder = report_copy
    store = Store(folder)
    cell = store.plan()["experiments"][0]["cells"][0]["id"]
    block = Block(cell, range(2))
    path = folder / block.marker
    content = json.loads(path.read_bytes().partition(b"\n")[2])
    content["rows"][0]["test_mse"] = 0.123456
    path.write_bytes(signed(json.dumps(content).encode()))
    report.write(folder)
    assert sorted(written_sections) == ["correlation", "interpolation", "reconstruction"]
    changed = {
        n for n, content in report_files(folder).items() if content != report_files(reported)[n]
    }
    assert "reconstruction.csv" in changed and not {"transfer.csv", "theory.csv"} & changed


def test_other_code_writes_all_anew(report_copy, written_sections, monkeypatch):
    monkeypatch.setattr(cache, "CODE", ["other sources"])
    report.write(report_copy)
    assert {"reconstruction", "transfer"} <= set(written_sections)


def test_running_study_prepares_its_report(
    report_copy, reported, written_sections, tmp_path, remove_cell, monkeypatch
):
    """When the last cell is done, its models are measured, and no others."""
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path / "cache"))
    folder = report_copy
    results = load(folder)
    largest = results.of("autoencoder").sort_values("latent_dim")["cell"].iloc[-1]
    remove_cell(folder, largest)
    report.prepare(folder)
    assert written_sections == ["transfer", "theory"]
    shutil.copytree(reported / "blocks" / largest, folder / "blocks" / largest)
    measured = Counter()
    scorecard = import_module("analysis.interpolation.scorecard")  # a function's name as well
    for module, name in ((scorecard, "_with_model"), (redundancy, "summary")):
        monkeypatch.setattr(module, name, counting(getattr(module, name), name, measured))
    report.write(folder)
    assert sorted(written_sections[2:]) == ["correlation", "interpolation", "reconstruction"]
    replicates = len(results.replicates(largest))
    assert measured == {"_with_model": replicates, "summary": replicates}
    assert report_files(folder) == report_files(reported)


def counting(function, name, counts):
    """The function; counts its calls under the name."""

    def counted(*arguments):
        counts[name] += 1
        return function(*arguments)

    return counted


def test_section_sees_only_what_it_reads(small_results):
    part = next(part for part in sections.parts(small_results) if part.name == "transfer")
    seen = part.seen(small_results)
    assert seen.of("autoencoder").empty and len(seen.of("fewshot")) > 0


def test_report_reads_each_experiment_once(small_results, monkeypatch):
    """In a bucket, each of these is at least one request."""
    monkeypatch.setenv("STUDY_CACHE_DIR", "")
    calls = Counter()

    def write(part, results):
        seen = part.seen(results)
        assert len(seen.rows) or not part.reads
        assert seen.missing.empty
        return Document()

    for name in ("blocks", "failures", "rows"):
        monkeypatch.setattr(Store, name, counting(getattr(Store, name), name, calls))
    monkeypatch.setattr(sections, "_write", write)
    results = load(small_results.store.address, {})
    assert len(sections.write(results)) == 5
    assert calls == {"blocks": 1, "failures": 1, "rows": len(results.plan["experiments"])}


def test_damaged_or_foreign_sections_are_rewritten(
    report_copy, reported, written_sections, cache_folder, tmp_path, monkeypatch
):
    other = tmp_path / "cache"
    shutil.copytree(cache_folder, other)
    for index, path in enumerate(sorted(other.glob("section-*"))):
        path.write_bytes(b"" if index % 2 else b"\x80\x04\x8c\x05hello\x94.")
    monkeypatch.setenv("STUDY_CACHE_DIR", str(other))
    folder = report_copy
    report.write(folder)
    assert {"reconstruction", "interpolation", "correlation", "transfer"} <= set(written_sections)
    assert report_files(folder) == report_files(reported)


def kept_section(**fields):
    """The content of a kept section with these fields."""
    whole = {"anchor": "one", "title": "One", "glance": None, **fields}
    return {"sections": [whole], "files": {}}


@pytest.mark.parametrize(
    "content",
    [
        [],
        "sections",
        {"sections": ["one"], "files": {}},
        {"sections": [], "files": ["figures/a.png"]},
        {"sections": [], "files": {"figures/a.png": 1}},
        kept_section(unknown=""),
        kept_section(glance="The error falls."),
        kept_section(elements="<p>text</p>"),
        kept_section(elements=[1]),
        kept_section(conclusions=None),
        kept_section(conclusions=[None]),
        kept_section(cells={"a": "b"}),
        kept_section(cells=[["a"]]),
        *(
            {"sections": [], "files": {name: ""}}
            for name in (
                "../x.csv", "/x.csv", "index.html", "figures/../x.png", "figures/a.html",
                "tables/.csv", "tables/a/b.csv", "tables/-a.csv", "tables/a.csv\n", "tables/é.csv",
            )
        ),
    ],
)  # fmt: skip
def test_damaged_section_is_not_read(content, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path))
    assert cache.write("one", json.dumps(content).encode())
    assert kept.read("one") is None


def test_kept_section_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path))
    document = Document(files={"figures/a-b_1.png": b"1", "tables/2.parquet": b"2"})
    document.section("one", "One").conclusions = ["It falls."]
    document.text("Text.")
    kept.keep("one", document)
    assert kept.read("one") == document


def test_part_missing_in_the_other_process_is_written_here(small_results, tmp_path, monkeypatch):
    """A cell may be removed before the other process reads the results."""
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path))
    names = []

    def write(part, results):
        names.append(part.name)
        return Document()

    def submit(*task):
        future = Future()
        future.set_result({})
        return future

    monkeypatch.setattr(sections, "_write", write)
    documents = sections.write(small_results, SimpleNamespace(submit=submit))
    every = [part.name for part in sections.parts(small_results)]
    assert sorted(names) == sorted(every)
    assert len(documents) == len(every)


def test_part_that_lacks_images_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE_DIR", str(tmp_path))
    kept.keep("whole", Document())
    kept.keep("partial", Document(left_out=["of images"]))
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert kept.read("whole") is not None and kept.read("partial") is None


def test_two_processes_share_the_work_evenly():
    half = sections._half(list(sections.SECTIONS))
    seconds = sum(part.seconds for part in half)
    assert abs(2 * seconds - sum(part.seconds for part in sections.SECTIONS)) <= 10
