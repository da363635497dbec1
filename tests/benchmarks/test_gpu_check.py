"""The check on a GPU: its parts, on a CPU, and what is kept of a part that ends early."""

import os
import subprocess

import psutil
import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.nn.functional import interpolate

from benchmarks import gpu_check
from trainables.data import load

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("most", "whole"), [(0.0, False), (1e9, True)])
def test_best_preset_is_trained_whole_if_short(most, whole, monkeypatch):
    monkeypatch.setattr(gpu_check, "BEST_SECONDS", most)
    found = dict(gpu_check.best_cell(load("digits"), 1))
    assert found["models, epochs"] == "1, 15"
    assert ("all epochs, s" in found) == whole
    assert not whole or 0 < found["test MSE"] < 0.06  # black pictures have 0.2


@pytest.mark.slow
def test_study_is_compared_with_the_best_process_count():
    """On a CPU: the same code except for the device."""
    found = dict(gpu_check.processes(CPU, (1, 2), replicates=2, steps=2))
    study = found["study, R = 2, ms"]
    best = min(found["1 at once, ms"], found["2 at once, ms"])
    assert found["study against the best number at once"] == pytest.approx(best / study)
    alone = found["one alone, ms"] / study
    assert found["study against one alone"] == pytest.approx(alone)


def failing():
    yield "first", 1.0
    raise ValueError("broken")


def endless():
    yield "first", 1.0
    subprocess.run(["sleep", "987654"], check=True)


def dying():
    yield "first", 1.0
    os._exit(7)


@pytest.mark.parametrize(
    ("part", "limit", "end"),
    [
        (failing, 60, {"failed": "ValueError: broken"}),
        (endless, 1, {"stopped": "after 1 s"}),
        (dying, 60, {"failed": "exit code 7"}),
    ],
)
def test_part_that_ends_early_keeps_what_it_measured(part, limit, end):
    found = dict(gpu_check.run_part(gpu_check.Part(part, limit), limit))
    assert found == {"first": 1.0} | end
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "987654"] not in commands


def test_summary_takes_the_best_of_each_number_of_models():
    best = {"images/s": 5e6, "against one by one": 31.25, "% of products": 7.0, "% of copies": 40.0}
    report = {
        "autoencoder, batch 64": {"best, R = 32": best},
        "against several processes": {"1 at once, ms": 2.0, "8 at once, ms": 1.0},
        "every path runs": {"one": "ok, 0.1 s", "other": "ValueError: broken", "stopped": "late"},
    }
    lines = {name: found for name, _, found in gpu_check.summary(report)}
    assert lines["autoencoder, R = 32, against one by one"] == "31.25"
    assert lines["… images/s, R = 32"] == "5e+06 (7 % of products, 40 % of copies)"
    assert lines["few-shot, R = 32, against one by one"] == "not measured"
    assert lines["paths that run"] == "1 of 2; late"
    assert "… against the best of 1 8 processes" in lines


def test_preset_is_the_sum_of_its_kinds(monkeypatch):
    """Every block takes a second to start, and a second per 1,000 units of its work."""
    data = load("digits")
    arguments = gpu_check.study_parser().parse_args(["plan", "assignment", "--preset", "full"])
    selection = gpu_check.select(arguments, data)
    cells = gpu_check.distinct(
        gpu_check.plan(selection.experiments, data.fingerprint, selection.asked)
    )
    on_gpu = [cell for cell in cells if cell.experiment.on_gpu(cell.config)]
    work = sum(cell.replicates * cell.settings.work(len(data.train)) for cell in on_gpu)
    monkeypatch.setattr(gpu_check, "line_through", lambda short, long: (1.0, 1e-3))
    found = dict(gpu_check.full_preset(data, (1, 2)))
    assert found["% of the work measured"] == pytest.approx(100)
    assert found["all, min"] == pytest.approx((len(on_gpu) + work / 1000) / 60)


def test_process_that_fails_ends_the_comparison():
    with pytest.raises(ProcessRaisedException, match="Process 0 terminated"):
        gpu_check.concurrent_seconds(1, torch.device("meta:9"), steps=1, batch_size=0)


def test_bend_is_interpolated_by_products():
    points = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = interpolate(points, 28, mode="bilinear", align_corners=True)
    assert torch.allclose(gpu_check.bend_by_products(points, 28), expected, atol=1e-6)
    found = dict(gpu_check.augmentation(CPU, 2, 4))
    assert list(found) == ["views, ms", "their draws, ms", "their bend, ms",
                           "their bend by products, ms"]  # fmt: skip
    assert min(found.values()) > 0
