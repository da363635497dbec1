"""Trials that share a GPU: their number, their measured memory and its limit."""

import os
import shutil
from collections import Counter

import pandas as pd
import pytest
import torch

from study.experiments import EXPERIMENTS, FEWSHOT
from study.grid import override, plan
from study.packing import gpu
from study.packing.measure import TOO_MUCH, Probe, measure_peaks, probe_of
from study.packing.share import Hardware, describe, largest, share_of, trials_of, trials_per_gpu
from study.presets import NAMED
from study.queue import Task
from trainables.contract import Outcome

GIB = 2**30
H100S = Hardware(gpus=2, cores=8, usable=int(79.2 * GIB))

# --- trials a GPU ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "hardware", "cells", "cpus", "trials"),
    [
        (10, Hardware(2, 64, 80), 28, 1, 7),  # 72 of 80 are given away
        (10, Hardware(2, 64, 80), 6, 1, 3),  # more would leave the other GPU idle
        (10, Hardware(2, 64, 80), 7, 1, 4),
        (10, Hardware(2, 4, 80), 28, 1, 4),  # cores for no more
        (10, Hardware(2, 4, 80), 28, 2, 2),
        (10, Hardware(2, 0.5, 80), 28, 1, 1),
        (1, Hardware(1, 1000, 8000), 10_000, 1, 99),  # Ray can't count smaller shares
        (72, Hardware(2, 64, 80), 28, 1, 1),
        (73, Hardware(2, 64, 80), 28, 1, 1),  # too large: it fails by its own error, alone
        (None, Hardware(2, 64, 80), 28, 1, 1),
        (10, Hardware(2, 64, None), 28, 1, 1),
    ],
)
def test_memory_blocks_and_cores_limit_trials_per_gpu(need, hardware, cells, cpus, trials):
    assert trials_per_gpu(need, hardware, cells, cpus) == trials


@pytest.mark.parametrize("trials", range(1, 100))
def test_shares_fill_a_gpu_by_rays_counting(trials):
    units = round(share_of(trials) * 10_000)
    assert units == pytest.approx(share_of(trials) * 10_000, abs=1e-9)
    assert trials * units <= 10_000 < (trials + 1) * units
    assert trials_of(share_of(trials)) == trials


def test_given_share_holds_as_many_trials_as_fit():
    assert [trials_of(share) for share in (0.3, 0.5, 0.6, 1, 2, 0.00001)] == [3, 2, 1, 1, 1, 10_000]


def test_description_states_what_it_is_based_on():
    need = int(1.8 * GIB)
    assert describe(4, need, H100S, 28, "") == (
        "4 trials per GPU (1.8 GiB each of 79.2 GiB, 28 blocks, 2 GPUs)"
    )
    assert describe(1, None, Hardware(1, 8, None), 1, "torch sees none") == (
        "1 trial per GPU (1 block, 1 GPU): torch sees none"
    )


# --- blocks that are measured ----------------------------------------------------------------


def tasks_of(experiment, **axes):
    """A task per cell of an experiment's grid, with all its replicates."""
    needed = [EXPERIMENTS[experiment.needs]] if experiment.needs else []
    cells = plan([*needed, override(experiment, axes, {})], "0" * 16)[-1]
    return [Task(cell, range(cell.replicates)) for cell in cells]


def settings_of(task, *names):
    return tuple(task.cell.config[name] for name in names)


def test_largest_block_of_each_kind_is_measured():
    (found,) = largest(tasks_of(EXPERIMENTS["autoencoder"]))
    assert settings_of(found, "latent_dim", "depth", "batch_size") == (30, 3, 32)
    on_gpu = [task for task in tasks_of(FEWSHOT) if FEWSHOT.on_gpu(task.cell.config)]
    found = [settings_of(task, "latent_dim", "labels", "freeze") for task in largest(on_gpu)]
    assert found == [(30, 160, "full"), (30, 160, "scratch")]


def test_more_replicates_make_a_block_larger():
    small, large = tasks_of(
        EXPERIMENTS["autoencoder"], latent_dim=(14, 16), depth=(2,), batch_size=(64,)
    )
    small.replicates, large.replicates = range(8), range(4)
    assert largest([small, large]) == [small]


def test_heads_on_fixed_encoders_use_no_gpu():
    assert {mode for mode in FEWSHOT.axes["freeze"] if FEWSHOT.on_gpu({"freeze": mode})} == {
        "full",
        "scratch",
    }
    assert EXPERIMENTS["autoencoder"].on_gpu({})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_probe_changes_only_the_number_of_epochs(name):
    experiment = EXPERIMENTS[name]
    short = experiment.probe_settings
    assert short
    assert set(short) <= {"epochs"}
    assert set(short.values()) == {1}
    for preset in NAMED.values():
        for task in tasks_of(override(experiment, {}, preset.fixed.get(name, {}))):
            probe = probe_of(task.cell, task.replicates)
            assert probe.config == {**task.cell.config, **short}
            experiment.settings_module().Config(**probe.config)


def test_probe_brings_the_parent_replicates_it_needs():
    task = next(task for task in tasks_of(FEWSHOT, encoders=(4,)) if task.cell.parent)
    probe = probe_of(task.cell, range(2, 8))
    assert probe.replicates == range(2, 8)
    assert probe.parent.trainable == "trainables.autoencoder"
    assert probe.parent.config["epochs"] == 1
    assert probe.parent.replicates == range(4)


def test_block_too_large_for_a_gpu_is_measured_as_too_much(monkeypatch):
    from trainables.autoencoder import train as autoencoder

    def train(config, replicates, data, report, parent):
        assert (config.epochs, replicates) == (1, range(3))
        if config.latent_dim == 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Outcome(rows=[])

    monkeypatch.setattr(autoencoder, "train", train)
    monkeypatch.setattr(gpu, "claim", lambda share: None)
    monkeypatch.setattr(gpu, "usable", lambda: 8 * GIB)
    monkeypatch.setattr(gpu, "peak", lambda: 3 * GIB)
    probes = [
        Probe("trainables.autoencoder", {"latent_dim": d, "epochs": 1}, range(3), None)
        for d in (9, 2)
    ]
    assert measure_peaks(probes, None) == (8 * GIB, [TOO_MUCH, 3 * GIB])


def test_nothing_is_measured_without_a_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "usable", lambda: None)
    probe = Probe("trainables.autoencoder", {}, range(1), None)
    assert measure_peaks([probe], None) == (None, [])


# --- a share is kept to ----------------------------------------------------------------------


class FakeCuda:
    """torch.cuda of a GPU of 80 GiB, 3 of which another process holds."""

    def __init__(self):
        self.calls = []
        self.held = GIB

    def is_available(self):
        return os.environ.get("CUDA_VISIBLE_DEVICES") != ""

    def get_device_properties(self, device):
        return type("Properties", (), {"total_memory": 80 * GIB})

    def mem_get_info(self):
        return 80 * GIB - 3 * GIB - self.held - GIB // 2, 80 * GIB

    def memory_reserved(self):
        return self.held

    def max_memory_reserved(self):
        return 2 * GIB

    def empty_cache(self):
        self.calls.append("empty_cache")

    def reset_peak_memory_stats(self):
        self.calls.append("reset_peak_memory_stats")

    def set_per_process_memory_fraction(self, fraction):
        self.calls.append(fraction)


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    return fake


def test_trial_is_held_to_its_share_less_the_context(cuda):
    gpu.claim(0.25)
    gpu.claim(1)
    assert cuda.calls == [
        "empty_cache", "reset_peak_memory_stats", 19 / 80,
        "empty_cache", "reset_peak_memory_stats", 1,
    ]  # fmt: skip
    assert gpu.peak() == 2 * GIB
    assert gpu.limit(0.01, 80 * GIB) == int(0.4 * GIB)  # a context leaves nothing of it


@pytest.mark.parametrize("trials", range(1, 30))
def test_measured_need_fits_the_share_made_from_it(trials):
    total = 80 * GIB
    need = int(total * 0.9 / trials)
    assert trials_per_gpu(need, Hardware(1, 100, total), 1000) == trials
    assert need - gpu.CONTEXT_BYTES <= gpu.limit(share_of(trials), total)


def test_memory_held_by_others_is_not_usable(cuda):
    """The process's own tensors and context are usable."""
    assert gpu.usable() == 77 * GIB + GIB // 2


def test_trial_without_a_gpu_sees_none(cuda):
    gpu.claim(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert cuda.calls == []
    assert gpu.peak() is None
    assert gpu.usable() is None


# --- on GPUs that Ray counts -----------------------------------------------------------------

TWO_GPUS = """
import ray
start = ray.init
ray.init = lambda **options: start(**options | {"num_gpus": 2, "num_cpus": 4})
"""

PRETENDED = '''
"""A GPU of 8 GiB, as Ray's workers are told; each cell takes of it what its order says."""

import os
from pathlib import Path

import torch

CONTEXT = 2**30
share = 0.0


def claim(of_a_gpu):
    global share
    share = of_a_gpu
    with (Path(os.environ["ORDERS"]) / "shares").open("a") as file:
        print(float(of_a_gpu), os.environ.get("CUDA_VISIBLE_DEVICES"), file=file)


def usable():
    return 8 * 2**30


def peak():
    return int(os.environ["PEAK"])


def take(amount):
    """What torch's allocator does."""
    if share and amount > share * 8 * 2**30 - CONTEXT:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
'''

TAKING = """
import study.packing.gpu
before = train


def train(config, replicates, data, report, parent=None, checkpoint=None):
    measuring = config.epochs == 1
    if not measuring:
        memory = int(os.environ["TAKEN"]) * config.latent_dim * len(replicates) // 2
        study.packing.gpu.take(memory)
    return before(config, replicates, data, report, parent, checkpoint)
"""


@pytest.fixture
def fake_gpu_driver(packages, make_driver, tmp_path):
    """A driver of another copy of the packages, where a GPU is a number of bytes. Only
    `study.packing.gpu` knows CUDA, so everything else is as on a real one."""
    copy = tmp_path / "copy"
    shutil.copytree(packages, copy)
    (copy / "study" / "packing" / "gpu.py").write_text(PRETENDED)
    victim = copy / "trainables" / "victim.py"
    victim.write_text(victim.read_text() + TAKING)
    registry = copy / "study" / "experiments.py"
    text = registry.read_text()
    assert text.count('name="victim",') == 1
    without = 'name="victim", on_gpu=lambda config: config["latent_dim"] != 2,'
    registry.write_text(text.replace('name="victim",', without))
    driver = make_driver(tmp_path)
    driver.packages = copy
    return driver


@pytest.mark.ray
@pytest.mark.slow
def test_too_large_block_gets_more_then_splits_then_fails(fake_gpu_driver, undisturbed):
    driver = fake_gpu_driver
    code, output = driver.run(
        first=TWO_GPUS,
        options=["--latent-dims", "2", "3", "5", "12", "24"],
        PEAK=str(5 * GIB // 2),
        TAKEN=str(7 * GIB // 10),  # times d: 3 GiB are too little for 5; 7 for 12, not for half
    )
    assert code == 1, output
    lines = output.splitlines()
    assert "victim: 2 trials per GPU (3.5 GiB each of 8.0 GiB, 4 blocks, 2 GPUs)" in lines
    assert "1 block on CPU cores alone" in lines
    retried = "1 block of victim tried again: the GPU's memory, or its share of it, was too small"
    assert sum(line.startswith(retried) for line in lines) == 1 + 2 + 2, output  # of d = 5, 12, 24
    assert "Traceback" not in output
    shares = Counter((driver.orders / "shares").read_text().splitlines())
    for line in shares:
        share, visible = line.split(" ", 1)
        assert visible in (("", "None") if float(share) == 0 else ("0", "1"))

    (failure,) = driver.store.failures().values()
    assert failure["config"]["latent_dim"] == 24
    assert failure["reason"].startswith("OutOfMemoryError: one replicate doesn't fit a whole GPU; ")
    by_dim = {
        driver.store.config(cell)["latent_dim"]: found
        for cell, found in driver.store.blocks().items()
    }
    assert by_dim == {2: [range(2)], 3: [range(2)], 5: [range(2)], 12: [range(1), range(1, 2)]}
    rows, wanted = driver.tables()[0], undisturbed[0]
    same = rows[rows["latent_dim"] < 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, wanted, check_exact=True)
    made = driver.store.provenance(driver.done())
    assert {provenance["gpu_memory_bytes"] for provenance in made} == {5 * GIB // 2}


@pytest.mark.ray
@pytest.mark.slow
def test_study_runs_and_says_that_torch_sees_no_gpu(driver, undisturbed):
    code, output = driver.run(first=TWO_GPUS)
    assert code == 0, output
    assert (
        "victim: 1 trial per GPU (2 blocks, 2 GPUs): torch sees no GPU in the workers, so trials "
        "compute on CPU cores"
    ) in output.splitlines()
    driver.assert_as(undisturbed)
