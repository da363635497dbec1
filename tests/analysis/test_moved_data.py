"""Results whose images have moved: they are found again, or sections are left out."""

import json

import numpy as np
import pytest

from analysis import report
from analysis.results import load
from analysis.source import Source
from study.__main__ import main
from study.errors import DataMissing
from study.experiments import EXPERIMENTS
from study.grid import override
from study.store.formats import is_plan
from tests.phrases import phrase
from trainables.data import load as load_data

AXES = {
    "autoencoder": {"latent_dim": (2, 4), "depth": (1,), "batch_size": (64,)},
    "fewshot": {"latent_dim": (2,), "depth": (1,), "labels": (4,), "freeze": ("fixed", "full")},
}
TINY = {"epochs": 1, "width": 2, "replicates": 2}
NEED_IMAGES = {"interpolation", "correlation", "transfer_baselines", "error_by_class"}


@pytest.fixture(scope="module")
def moved_study(compute_study, tmp_path_factory):
    """A folder with a study of a user's own images, and the images, moved away."""
    top, draw = tmp_path_factory.mktemp("moved"), np.random.default_rng(0)
    (top / "before").mkdir()
    images = draw.integers(0, 255, (200, 8, 8), dtype=np.uint8)
    np.savez(top / "before" / "mine.npz", images=images, labels=["a", "b"] * 100)
    data = load_data(str(top / "before" / "mine.npz"))
    experiments = [override(EXPERIMENTS[name], AXES[name], TINY) for name in AXES]
    compute_study("study", experiments, data, top / "results")
    (top / "before").rename(top / "now")
    return top


@pytest.fixture(autouse=True)
def empty_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "study.reporting.write",
        lambda folder, damaged, process, data_dir: report.write(folder, damaged, data_dir=data_dir),
    )


def table_names(top):
    return {path.stem for path in (top / "results" / "report" / "tables").iterdir()}


def test_report_without_images_names_what_is_left_out(moved_study, capsys):
    results = moved_study / "results"
    assert main(["report", str(results)]) == 1
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if "lacks" in line]
    assert f"{moved_study}/before/mine.npz is not there" in line
    assert f"`study report {results} --data-dir DIR`" in line
    assert said.err == ""
    assert {"reconstruction", "histories", "transfer", "transfer_arms"} <= table_names(moved_study)
    assert not table_names(moved_study) & NEED_IMAGES
    page = (results / "report" / "index.html").read_text()
    warning = page[page.index('id="left-out"') :].partition("</div>")[0]
    assert "--data-dir DIR" in warning
    for section in ("1 · Rec", "2 · Interpol", "3 · Decor", "4 · Trans"):
        assert section in warning
    assert page.count("Left out, as the images of the study are missing") == 6
    assert "mine.npz: 144 training, 16 validation and 40 test images of 1 × 8 × 8" in page
    assert "PCA with as many" not in page and ">nan" not in page
    assert not (moved_study / "before").exists()


def test_images_are_found_in_data_dir(moved_study):
    results = moved_study / "results"
    with pytest.raises(DataMissing):
        report.write(results)
    assert not report.is_current(results, {})
    for place in ("now/mine.npz", "now"):
        assert main(["report", str(results), "--data-dir", f"{moved_study}/{place}"]) == 0
        assert table_names(moved_study) >= NEED_IMAGES
        page = (results / "report" / "index.html").read_text()
        assert "Left out" not in page and 'id="left-out"' not in page
        assert report.is_current(results, {})
    # The page has less than before, so it is not up to date.
    with pytest.raises(DataMissing):
        report.write(results)
    assert not report.is_current(results, {})


def test_images_are_found_in_study_data_dir(moved_study, monkeypatch):
    monkeypatch.setenv("STUDY_DATA_DIR", str(moved_study / "now"))
    assert len(load(moved_study / "results").dataset.test) == 40


def test_loaded_study_takes_its_images_from_a_folder(moved_study):
    assert len(load(moved_study / "results", data_dir=moved_study / "now").dataset.test) == 40
    without = load(moved_study / "results")
    assert without.classes == ("a", "b") and without.images == (144, 16, 40)
    with pytest.raises(DataMissing, match=phrase("mine.npz is not there")):
        _ = without.dataset


def test_other_images_are_refused_before_writing(moved_study, tmp_path, refusal):
    np.savez(tmp_path / "mine.npz", images=np.eye(50 * 8, dtype=np.uint8).reshape(-1, 8, 8) * 9)
    with pytest.raises(DataMissing):
        report.write(moved_study / "results")
    page = moved_study / "results" / "report" / "index.html"
    before = page.read_bytes()
    line = refusal("report", moved_study / "results", "--data-dir", tmp_path, late=True)
    assert line.startswith(f"study report: --data-dir {tmp_path}: ")
    assert "holds other data than the cells were computed from: fingerprint" in line
    assert page.read_bytes() == before


def test_old_plan_leaves_out_what_it_does_not_record(moved_study):
    path = moved_study / "results" / "study.json"
    kept = path.read_text()
    old = {k: v for k, v in json.loads(kept).items() if k not in ("classes", "images")}
    path.write_text(json.dumps(old))
    with pytest.raises(DataMissing):
        report.write(moved_study / "results")
    page = (moved_study / "results" / "report" / "index.html").read_text()
    assert "4 · Transfer: the rest of this section" in page
    report.write(moved_study / "results", data_dir=moved_study / "now")
    path.write_text(kept)


@pytest.mark.parametrize("bad", [{"classes": "ab"}, {"classes": [1]}, {"images": [1, 2]}])
def test_plan_with_other_classes_or_counts_is_refused(moved_study, bad):
    known = json.loads((moved_study / "results" / "study.json").read_text())
    assert is_plan(known)
    assert not is_plan({**known, **bad})


def test_recorded_folder_is_read_before_a_download(tmp_path, monkeypatch):
    asked = []

    def load_or_not(name, folder, options, fetch):
        asked.append((folder, fetch))
        return load_data("digits")

    monkeypatch.setattr("analysis.source.load_data", load_or_not)
    plan = {"dataset": "mnist", "data_dir": f"{tmp_path}/old", "fingerprint": "0" * 16}
    found = Source(plan).found
    assert isinstance(found, DataMissing) and f"{tmp_path}/old holds other data" in str(found)
    assert asked == [(tmp_path / "old", False), (None, True)]
    asked.clear()
    assert isinstance(Source(plan, tmp_path / "new").found, DataMissing)
    assert asked == [(tmp_path / "new", False)]
