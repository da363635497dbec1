"""How many trials share a GPU: counted, measured, kept to, and said."""

import os
import re
import shutil
from collections import Counter

import pandas as pd
import pytest
import torch

from study.experiments import EXPERIMENTS, FEWSHOT, PRESETS
from study.grid import Cell, override, plan
from study.packing import gpu
from study.packing.measure import TOO_MUCH, brief, recorded, weigh
from study.packing.share import Hardware, describe, largest, share_of, trials_of, trials_per_gpu
from study.store import Store
from trainables.contract import Outcome

GIB = 2**30
H100S = Hardware(gpus=2, cores=8, usable=int(79.2 * GIB))

# --- how many --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "usable", "cells", "gpus", "cores", "cpus", "trials"),
    [
        (10, 80, 28, 2, 64, 1, 7),  # 72 of 80 are given away
        (10, 80, 6, 2, 64, 1, 3),  # more would leave the other GPU idle
        (10, 80, 7, 2, 64, 1, 4),
        (10, 80, 28, 2, 4, 1, 4),  # cores for no more
        (10, 80, 28, 2, 4, 2, 2),
        (10, 80, 28, 2, 0.5, 1, 1),
        (1, 8000, 10_000, 1, 1000, 1, 99),  # Ray can't count smaller shares
        (72, 80, 28, 2, 64, 1, 1),
        (73, 80, 28, 2, 64, 1, 1),  # too large: it fails by its own error, alone
        (None, 80, 28, 2, 64, 1, 1),
        (10, None, 28, 2, 64, 1, 1),
    ],
)
def test_trials_a_gpu_are_what_memory_cells_and_cores_allow(
    need, usable, cells, gpus, cores, cpus, trials
):
    assert trials_per_gpu(need, Hardware(gpus, cores, usable), cells, cpus) == trials


@pytest.mark.parametrize("trials", range(1, 100))
def test_shares_fill_a_gpu_and_no_more_in_rays_counting(trials):
    units = round(share_of(trials) * 10_000)
    assert units == pytest.approx(share_of(trials) * 10_000, abs=1e-9)
    assert trials * units <= 10_000 < (trials + 1) * units
    assert trials_of(share_of(trials)) == trials


def test_a_share_that_a_user_gives_holds_as_many_trials_as_fit():
    assert [trials_of(share) for share in (0.3, 0.5, 0.6, 1, 2, 0.00001)] == [3, 2, 1, 1, 1, 10_000]


def test_the_line_says_what_it_was_made_from():
    need = int(1.8 * GIB)
    assert describe(4, need, H100S, 28, "") == (
        "4 trials a GPU (1.8 GiB each of 79.2 GiB, 28 cells, 2 GPUs)"
    )
    assert describe(1, None, Hardware(1, 8, None), 1, "torch sees none") == (
        "1 trial a GPU (1 cell, 1 GPU): torch sees none"
    )


# --- which cells are measured, and which have been -------------------------------------------


def cell(number, **config):
    return Cell("fewshot", "trainables.fewshot", {"depth": 3, **config}, None, f"{number:016x}")


AXES = ["latent_dim", "labels", "freeze", "learning_rate"]
CELLS = [
    cell(number, latent_dim=d, labels=labels, freeze=freeze, learning_rate=0.1)
    for number, (d, labels, freeze) in enumerate(
        [(2, 20, "full"), (30, 20, "full"), (14, 160, "full"), (2, 20, "scratch")]
    )
]


def test_the_largest_cell_of_each_kind_is_measured():
    assert largest(CELLS, AXES) == [CELLS[2], CELLS[3]]


def test_on_a_whole_grid_it_is_the_one_with_most_of_everything():
    autoencoders, few_shot = plan(
        [override(EXPERIMENTS[name], {}, {}) for name in ("autoencoder", "fewshot")], "0" * 16
    )
    (found,) = largest(autoencoders, list(EXPERIMENTS["autoencoder"].axes))
    assert [found.config[name] for name in ("latent_dim", "depth", "batch_size")] == [30, 3, 64]
    on_gpu = [cell for cell in few_shot if FEWSHOT.on_gpu(cell.config)]
    found = largest(on_gpu, list(FEWSHOT.axes))
    wanted = [(30, 160, "full"), (30, 160, "scratch")]
    assert [tuple(c.config[n] for n in ("latent_dim", "labels", "freeze")) for c in found] == wanted


def test_heads_on_fixed_encoders_stay_off_the_gpus():
    assert {mode for mode in FEWSHOT.axes["freeze"] if FEWSHOT.on_gpu({"freeze": mode})} == {
        "full", "scratch",
    }  # fmt: skip
    assert EXPERIMENTS["autoencoder"].on_gpu({})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_cell_is_measured_with_one_epoch_of_all_else(name):
    experiment = EXPERIMENTS[name]
    assert brief(experiment)
    assert set(brief(experiment)) <= {"epochs", "encoder_epochs"}
    assert set(brief(experiment).values()) == {1}
    for preset in PRESETS.values():
        changed = override(experiment, {}, preset.fixed.get(name, {}))
        for config in (cell.config for cell in plan_of(changed)):
            experiment.module().Config(**{**config, **brief(experiment)})


def plan_of(experiment):
    needed = [EXPERIMENTS[experiment.needs]] if experiment.needs else []
    return plan([*needed, experiment], "0" * 16)[-1]


@pytest.fixture
def store(tmp_path):
    """With `CELLS` in its plan, of which the second and the third are done."""
    store = Store(tmp_path)
    store.create()
    planned = [{"id": c.id, "config": c.config, "parent": None} for c in CELLS]
    group = {"name": "fewshot", "metric": "val_accuracy", "axes": {}, "cells": planned}
    words = dict.fromkeys(["study", "command", "dataset", "fingerprint"], "")
    store.write_plan({**words, "experiments": [group]})
    for done, peak in ((CELLS[1], 5), (CELLS[2], 7)):
        provenance = {"gpu_memory_bytes": peak}
        store.write(done.id, done.config, None, Outcome([{"replicate": 0}]), provenance)
    return store


def test_a_finished_cell_at_least_as_large_saves_the_measuring(store):
    assert recorded(CELLS[0], FEWSHOT_LIKE, store) == 5  # the smaller of two that are larger
    larger = cell(9, latent_dim=15, labels=160, freeze="full", learning_rate=0.1)
    assert recorded(larger, FEWSHOT_LIKE, store) is None
    assert recorded(CELLS[3], FEWSHOT_LIKE, store) is None  # of another kind


FEWSHOT_LIKE = override(FEWSHOT, {"learning_rate": (0.1,)}, {})


def test_a_cell_that_was_done_without_a_gpu_saves_nothing(store):
    for path in sorted(store.cells.glob("*/done.json")):
        text = path.read_text()
        path.write_text(re.sub('"gpu_memory_bytes": [0-9]+', '"gpu_memory_bytes": null', text))
    assert recorded(CELLS[0], FEWSHOT_LIKE, store) is None


def test_a_cell_that_fits_no_gpu_is_weighed_as_too_much(store, monkeypatch):
    from trainables import autoencoder

    def train(config, data, report, parent):
        assert config.epochs == 1
        if config.latent_dim == 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(autoencoder, "train", train)
    monkeypatch.setattr(gpu, "claim", lambda share: None)
    monkeypatch.setattr(gpu, "usable", lambda: 8 * GIB)
    monkeypatch.setattr(gpu, "peak", lambda: 3 * GIB)
    points = [({"latent_dim": d, "epochs": 1}, None) for d in (9, 2)]
    found = weigh(points, "trainables.autoencoder", None, str(store.folder))
    assert found == (8 * GIB, [TOO_MUCH, 3 * GIB])


def test_without_a_gpu_nothing_is_weighed(store, monkeypatch):
    monkeypatch.setattr(gpu, "usable", lambda: None)
    assert weigh([({}, None)], "trainables.autoencoder", None, str(store.folder)) == (None, [])


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


def test_a_trial_is_held_to_its_share_less_the_cuda_context(cuda):
    gpu.claim(0.25)
    gpu.claim(1)
    assert cuda.calls == [
        "empty_cache", "reset_peak_memory_stats", 19 / 80,
        "empty_cache", "reset_peak_memory_stats", 1,
    ]  # fmt: skip
    assert gpu.peak() == 2 * GIB
    assert gpu.limit(0.01, 80 * GIB) == int(0.4 * GIB)  # a context leaves nothing of it


@pytest.mark.parametrize("trials", range(1, 30))
def test_what_was_measured_fits_the_share_that_is_made_of_it(trials):
    total = 80 * GIB
    need = int(total * 0.9 / trials)
    assert trials_per_gpu(need, Hardware(1, 100, total), 1000) == trials
    assert need - gpu.CONTEXT <= gpu.limit(share_of(trials), total)


def test_what_others_hold_of_a_gpu_is_not_usable(cuda):
    """Of what is held besides, the process's own tensors and context are."""
    assert gpu.usable() == 77 * GIB + GIB // 2


def test_a_trial_without_a_gpu_sees_none(cuda):
    gpu.claim(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert cuda.calls == []
    assert gpu.peak() is None
    assert gpu.usable() is None


# --- on GPUs that Ray counts -----------------------------------------------------------------

TWO_GPUS = """
import ray
start = ray.init
ray.init = lambda **options: start(num_gpus=2, num_cpus=4, **options)
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


def train(config, data, report, parent=None, checkpoint=None):
    measuring = config.epochs == 1
    if not measuring:
        study.packing.gpu.take(int(os.environ["TAKEN"]) * config.latent_dim)
    return before(config, data, report, parent, checkpoint)
"""


@pytest.fixture
def with_pretended_gpus(packages, driver_in, tmp_path):
    """A driver of another copy of the packages, where a GPU is a number of bytes.
    `study.packing.gpu` alone knows CUDA, so that everything else is what it is on a real one."""
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
    driver = driver_in(tmp_path)
    driver.packages = copy
    return driver


@pytest.mark.ray
@pytest.mark.slow
def test_cells_too_large_for_their_share_get_more_and_the_largest_fails_with_the_reason(
    with_pretended_gpus, undisturbed
):
    driver = with_pretended_gpus
    code, said = driver.run(
        first=TWO_GPUS,
        options=["--latent-dims", "2", "3", "5", "12"],
        PEAK=str(5 * GIB // 2),
        TAKEN=str(7 * GIB // 10),  # times d: 3 GiB are too little for 5, 7 for 12
    )
    assert code == 1, said
    lines = said.splitlines()
    assert "victim: 2 trials a GPU (3.5 GiB each of 8.0 GiB, 3 cells, 2 GPUs)" in lines
    assert "victim: 1 cell on CPU cores alone" in lines
    retried = "2 cells have run out of GPU memory at 2 trials a GPU; trying again at 1"
    assert f"victim: {retried}" in lines, said
    assert "Traceback" not in said
    shares = Counter((driver.orders / "shares").read_text().splitlines())
    by_share = Counter()
    for line, times in shares.items():
        share, visible = line.split(" ", 1)
        assert visible in (("", "None") if float(share) == 0 else ("0", "1"))
        by_share[float(share)] += times
    assert by_share == {1.0: 1 + 1 + 2, 0.5: 3, 0.0: 1}  # a look, a measurement, the second tries

    (failure,) = driver.store.failures().values()
    assert failure["config"]["latent_dim"] == 12
    assert failure["reason"].startswith("OutOfMemoryError: the cell doesn't fit a whole GPU; ")
    rows, wanted = driver.table()[0], undisturbed[0]
    assert set(rows["latent_dim"]) == {2, 3, 5}
    same = rows[rows["latent_dim"] < 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, wanted, check_exact=True)
    markers = [driver.store.marker(cell) for cell in driver.store.done()]
    assert {m["provenance"]["gpu_memory_bytes"] for m in markers} == {5 * GIB // 2}


@pytest.mark.ray
@pytest.mark.slow
def test_where_torch_sees_no_gpu_that_is_said_and_the_study_runs(driver, undisturbed):
    code, said = driver.run(first=TWO_GPUS)
    assert code == 0, said
    assert (
        "victim: 1 trial a GPU (2 cells, 2 GPUs): torch sees no GPU in the workers, so trials "
        "compute on CPU cores"
    ) in said.splitlines()
    driver.assert_as(undisturbed)
