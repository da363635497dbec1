"""The timed steps do what they say, and the modules run at tiny sizes."""

import pytest
import torch

from benchmarks import fusion, limit, steps
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.limit import bytes_of, flops_of
from benchmarks.machine import copy_rate, matmul_rate
from benchmarks.measure import Options

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
