"""The timed steps do what they say, and the modules run at tiny sizes."""

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from benchmarks import fusion, gpu_check, limit, steps
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.limit import bytes_of, flops_of
from benchmarks.machine import copy_rate, matmul_rate
from benchmarks.measure import Options
from trainables.data import load

CPU = torch.device("cpu")
QUIET = Options(repeats=1, tiny=True, say=lambda text: None)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("strategy", ["loop", "vectorised"])
def test_training_together_matches_one_after_another(strategy):
    workload = steps.classifier(10, 3, width=2)
    batch = workload.batch(3)
    losses = []

    def record(model, *arguments):
        losses.append(steps.cross_entropy(model, *arguments))
        return losses[-1]

    same = steps.Workload("same", workload.build, record, lambda r: batch, 10, 3)
    ordinary_step = steps.ordinary_step(same, CPU)
    for _ in range(3):
        ordinary_step()
    expected = torch.stack(losses[-3:]).detach()
    plain = steps.Workload("same", workload.build, steps.cross_entropy, lambda r: batch, 10, 3)
    study_step = steps.study_step(plain, CPU, strategy)
    for _ in range(3):
        found = study_step()
    assert torch.allclose(found, expected, rtol=0, atol=1e-8)


def test_flops_of_a_head_match_its_matrix_products():
    # [14, 32], [32, 10] forward and for the weights' gradients; the first layer's input needs none.
    labels = 20
    forward = 2 * labels * (14 * 32 + 32 * 10)
    assert flops_of(steps.head(labels, 8)) == forward * 2 + 2 * labels * 32 * 10


def test_bytes_cover_weights_inputs_and_gradients():
    parameters = 14 * 32 + 32 + 32 * 10 + 10
    assert bytes_of(steps.head(20, 8)) >= 4 * (2 * parameters + 20 * 14)


def test_rates_of_the_machine_are_positive_numbers():
    assert matmul_rate(CPU, torch.float32, 16) > 0
    assert copy_rate(CPU, 2**12) > 0


@pytest.mark.parametrize("module", [fusion, limit])
def test_every_workload_has_a_line(module):
    threads = torch.get_num_threads()
    lines = module.measure(QUIET)
    assert len(lines) == len(fusion.workloads(tiny=True)) == 3
    assert all(line.value is not None and line.value.median > 0 for line in lines)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.parametrize(("most", "whole"), [(0.0, False), (1e9, True)])
def test_best_preset_is_trained_whole_if_short(most, whole, monkeypatch):
    monkeypatch.setattr(gpu_check, "is_late", lambda: False)
    monkeypatch.setattr(gpu_check, "BEST_SECONDS", most)
    found = gpu_check.best_cell(load("digits"), 1)
    assert (found["models"], found["epochs"]) == (1, 15)
    assert ("all epochs, s" in found) == whole
    assert not whole or 0 < found["test MSE"] < 0.06  # black pictures have 0.2


@pytest.mark.slow
def test_study_is_compared_with_the_best_process_count(monkeypatch):
    """On a CPU: the same code except for the device."""
    monkeypatch.setattr(gpu_check, "is_late", lambda: False)  # the clock runs from the import on
    found = gpu_check.processes(CPU, (1, 2), replicates=2, steps=2)
    study = found["study, R = 2, ms"]
    best = min(found["1 at once, ms"], found["2 at once, ms"])
    ratio = found["study against the best of 1 2 at once (n = 1; wanted: 5)"]
    assert ratio == pytest.approx(best / study)
    alone = found["one alone, ms"] / study
    assert found["study against one alone (n = 1; wanted: 20)"] == pytest.approx(alone)


def test_process_that_fails_ends_the_comparison():
    with pytest.raises(ProcessRaisedException, match="Process 0 terminated"):
        gpu_check.concurrent_seconds(1, torch.device("meta:9"), steps=1, batch_size=0)


def test_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["nonsense"])
    assert stopped.value.code == 2
    assert "there is no 'nonsense'; there are " + ", ".join(QUESTIONS) in capsys.readouterr().err


def test_notebook_says_that_full_mnist_is_needed(tmp_path, capsys):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (raw / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_bytes(b"no")
    assert main(["notebook", "--data-dir", str(tmp_path)]) == 2
    assert "full MNIST is needed" in capsys.readouterr().err
