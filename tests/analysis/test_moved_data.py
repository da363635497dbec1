"""Results whose images are moved or gone: what is found again, and what is left out."""

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
from trainables.data import load as load_data

AXES = {
    "autoencoder": {"latent_dim": (2, 4), "depth": (1,), "batch_size": (64,)},
    "fewshot": {"latent_dim": (2,), "depth": (1,), "labels": (4,), "freeze": ("fixed", "full")},
}
TINY = {"epochs": 1, "width": 2, "replicates": 2}
NEED_IMAGES = {"interpolation", "correlation", "transfer_baselines", "error_by_class"}


@pytest.fixture(scope="module")
def computed(compute_study, tmp_path_factory):
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
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "study.reporting.write",
        lambda folder, damaged, process, data_dir: report.write(folder, damaged, data_dir=data_dir),
    )


def tables(top):
    return {path.stem for path in (top / "results" / "report" / "tables").iterdir()}


def test_report_without_images_names_what_is_left_out(computed, capsys):
    results = computed / "results"
    assert main(["report", str(results)]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if "lacks" in line]
    assert f"{computed}/before/mine.npz is not there" in line
    assert f"`study report {results} --data-dir DIR`" in line
    assert said.err == ""
    assert {"reconstruction", "histories", "transfer", "transfer_arms"} <= tables(computed)
    assert not tables(computed) & NEED_IMAGES
    page = (results / "report" / "index.html").read_text()
    warning = page[page.index('id="left-out"') :].partition("</div>")[0]
    assert "--data-dir DIR" in warning
    for section in ("1 · Rec", "2 · Interpol", "3 · Decor", "4 · Trans"):
        assert section in warning
    assert page.count("Left out, as the images of the study are missing") == 6
    assert "mine.npz: 144 training, 16 validation and 40 test images of 1 × 8 × 8" in page
    assert "PCA with as many" not in page and ">nan" not in page
    assert not (computed / "before").exists()


def test_images_are_found_in_data_dir(computed):
    results = computed / "results"
    with pytest.raises(DataMissing):
        report.write(results)
    assert not report.is_current(results, {})
    for place in ("now/mine.npz", "now"):
        assert main(["report", str(results), "--data-dir", f"{computed}/{place}"]) == 0
        assert tables(computed) >= NEED_IMAGES
        page = (results / "report" / "index.html").read_text()
        assert "Left out" not in page and 'id="left-out"' not in page
        assert report.is_current(results, {})
    # The page has less than before, so it is not up to date.
    with pytest.raises(DataMissing):
        report.write(results)
    assert not report.is_current(results, {})


def test_images_are_found_in_study_data_dir(computed, monkeypatch):
    monkeypatch.setenv("STUDY_DATA_DIR", str(computed / "now"))
    assert len(load(computed / "results").dataset.test) == 40


def test_loaded_study_takes_its_images_from_a_folder(computed):
    assert len(load(computed / "results", data_dir=computed / "now").dataset.test) == 40
    without = load(computed / "results")
    assert without.classes == ("a", "b") and without.images == (144, 16, 40)
    with pytest.raises(DataMissing, match=r"mine\.npz is not there"):
        _ = without.dataset


def test_other_images_are_refused_before_writing(computed, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", images=np.eye(50 * 8, dtype=np.uint8).reshape(-1, 8, 8) * 9)
    with pytest.raises(DataMissing):
        report.write(computed / "results")
    page = computed / "results" / "report" / "index.html"
    before = page.read_bytes()
    where = str(tmp_path)
    assert main(["report", str(computed / "results"), "--data-dir", where]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"study report: --data-dir {where}: ")
    assert "holds other data than the cells were computed from: fingerprint" in line
    assert page.read_bytes() == before


def test_old_plan_leaves_out_what_it_does_not_record(computed):
    path = computed / "results" / "study.json"
    kept = path.read_text()
    old = {k: v for k, v in json.loads(kept).items() if k not in ("classes", "images")}
    path.write_text(json.dumps(old))
    with pytest.raises(DataMissing):
        report.write(computed / "results")
    page = (computed / "results" / "report" / "index.html").read_text()
    assert "4 · Transfer: the rest of this section" in page
    report.write(computed / "results", data_dir=computed / "now")
    path.write_text(kept)


@pytest.mark.parametrize("bad", [{"classes": "ab"}, {"classes": [1]}, {"images": [1, 2]}])
def test_plan_with_other_classes_or_counts_is_refused(computed, bad):
    known = json.loads((computed / "results" / "study.json").read_text())
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
