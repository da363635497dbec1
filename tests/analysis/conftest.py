"""A small finished study, computed without Ray by each trainable's `train`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.results import Results, load
from study.experiments import EXPERIMENTS, Experiment
from study.grid import override, plan, record
from study.store import Store
from tests.computing import compute
from trainables.data import Dataset
from trainables.data import load as load_data

AXES = {
    "autoencoder": {"latent_dim": (2, 8), "depth": (2,), "batch_size": (64,)},
    "fewshot": {"latent_dim": (2, 8), "depth": (2,), "labels": (20, 40)},
}
FIXED = {
    "autoencoder": {"epochs": 1, "width": 4, "replicates": 2},
    "fewshot": {"epochs": 10, "width": 4, "replicates": 2},
}


FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, driven by selenium; the test is skipped where one of them is missing."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium or chromedriver is not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def errorless_browser(browser: Any) -> Iterator[Any]:
    """The browser; an error in its console fails the test."""
    browser.get_log("browser")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def compute_all(
    name: str,
    experiments: Sequence[Experiment],
    data: Dataset,
    folder: Path,
    asked: Sequence[str] | None = None,
) -> Store:
    """Write a study of these experiments to a folder, with one block per cell."""
    groups = plan(experiments, data.fingerprint, asked)
    store = Store(folder)
    store.create()
    store.write_plan(record(name, f"study run {name}", data, None, experiments, groups))
    for cell in [cell for cells in groups for cell in cells]:
        compute(cell, range(cell.replicates), data, store)
    return store


@pytest.fixture(scope="session")
def compute_study() -> Callable[..., Store]:
    """`compute_all`, for tests that have experiments of their own."""
    return compute_all


def remove(folder: Path, cell: str) -> None:
    """Delete the blocks of a cell."""
    shutil.rmtree(folder / "blocks" / cell)


@pytest.fixture(scope="session")
def remove_cell() -> Callable[[Path, str], None]:
    """`remove`, for tests of missing cells."""
    return remove


@pytest.fixture
def report_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what commands do in the report's."""
    monkeypatch.setattr(
        "study.reporting.ReportProcess.call", lambda self, task, do, *given: do(*given)
    )


@pytest.fixture
def results_copy(small_results: Results, tmp_path: Path) -> Path:
    """A copy of the small study's folder, which a test may change."""
    return Path(shutil.copytree(small_results.store.address, tmp_path / "results"))


@pytest.fixture(scope="session")
def small_results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Autoencoders of 2 layers with d = 2 and 8, and few-shot classifiers on them, 2 replicates
    each, on mnist-5k: trained so briefly that their numbers mean nothing."""
    data = load_data("mnist-5k")
    experiments = [override(EXPERIMENTS[name], AXES[name], FIXED[name]) for name in AXES]
    return load(
        compute_all("assignment", experiments, data, tmp_path_factory.mktemp("study")).address
    )
