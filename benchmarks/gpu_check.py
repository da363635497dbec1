"""Checks on a GPU: whether everything runs, how fast, and how near to the card's limit.

`benchmarks/gpu_check.sh` starts it. It needs PyTorch, not Ray.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.multiprocessing.spawn import spawn

from benchmarks.limit import flops_of
from benchmarks.machine import copy_rate, matmul_rate, seconds_of, synchronised
from benchmarks.steps import Workload, autoencoder, classifier, ordinary_step, study_step
from study.presets import find
from trainables import fastest
from trainables.autoencoder import train as autoencoders
from trainables.autoencoder.settings import OBJECTIVES
from trainables.contract import PRECISIONS, Report
from trainables.data import Dataset, Split, load
from trainables.fewshot import train as fewshot
from trainables.fewshot.settings import FREEZE
from trainables.graph import capture
from trainables.precision import computing_in
from trainables.replicates import Strategy, pick_device
from trainables.rotation import train as rotation
from trainables.rotation.losses import LOSSES
from trainables.supervised import train as supervised

TIME_LIMIT = 400.0
"""Seconds after which no further part or measurement starts."""
BEST_SECONDS = 120.0
"""The preset `best` is trained for all its epochs only if that is expected to take less."""
STARTED = time.perf_counter()

Values = dict[str, Any]


def is_late() -> bool:
    """Return whether the time limit has passed."""
    return time.perf_counter() - STARTED > TIME_LIMIT


def noise(images: int) -> Split:
    """Random images with labels 0, 1, … 9, 0, …, to test that code runs, not what it learns."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (images, 28, 28), dtype=np.uint8)
    return Split(pixels, (np.arange(images) % 10).astype(np.uint8))


def paths() -> Values:
    """Train a small cell of every trainable, objective and arm: by name, `ok` or the error."""
    data = Dataset("noise", noise(400), noise(100), noise(100))
    results: Values = {}
    parent: Any = None

    def attempt(name: str, module: Any, parent: Any = None, **settings: Any) -> Any:
        """Train a cell of `module` and record the result under `name`.

        Returns its `Outcome`, or None after an error. Warnings about CUDA graphs are recorded too.
        """
        started = time.perf_counter()
        try:
            config = module.Config(width=4, **settings)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outcome = module.train(config, range(2), data, Report(), parent)
        except Exception as error:  # the other cells still run
            results[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return None
        messages = [f"; {w.message}" for w in caught if "graph" in str(w.message)]
        results[name] = f"ok, {time.perf_counter() - started:.1f} s{''.join(messages)}"
        return outcome

    for optimiser in ("adamw", "muon"):
        for views in ({}, {"augment": 1.0, "noise": 0.2}):
            name = f"autoencoder {optimiser}{' augmented' if views else ''}"
            cell = attempt(name, autoencoders, latent_dim=3, epochs=2, optimiser=optimiser, **views)
            if cell and parent is None:
                parent = {r: {k: v[r] for k, v in cell.weights.items()} for r in range(2)}
    for precision, objective in product(PRECISIONS[1:], OBJECTIVES):
        attempt(
            f"autoencoder {objective} {precision}",
            autoencoders,
            latent_dim=3,
            epochs=2,
            precision=precision,
            objective=objective,
            contrastive_updates=8,
            augment=1.0,
        )
    for pretraining in ("plain", "augmented"):
        for freeze in FREEZE:
            attempt(
                f"few-shot {freeze} {pretraining}",
                fewshot,
                parent,
                latent_dim=3,
                labels=20,
                freeze=freeze,
                pretraining=pretraining,
                epochs=4,
                views=3,
                pseudo_epochs=1,
            )
    for precision, freeze in product(PRECISIONS[1:], ("fixed", "full", "consistency")):
        attempt(
            f"few-shot {freeze} {precision}",
            fewshot,
            parent,
            latent_dim=3,
            labels=20,
            freeze=freeze,
            epochs=4,
            pseudo_epochs=1,
            precision=precision,
        )
    for augment, precision in ((0.0, "float32"), (1.0, "float32"), (1.0, "bfloat16")):
        attempt(
            f"supervised, augment {augment:g}, {precision}",
            supervised,
            labels=20,
            augment=augment,
            epochs=4,
            views=3,
            precision=precision,
        )
    for loss in LOSSES:
        attempt(f"rotation {loss}", rotation, loss=loss, epochs=1)
    return results


def tests() -> Values:
    """The last line of `pytest -m gpu`; if a test fails, print the last 60."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/trainables/test_gpu.py"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    lines = (process.stdout + process.stderr).strip().splitlines() or ["no output"]
    if process.returncode:
        print("\n".join(lines[-60:]))
    return {"pytest": lines[-1]}


def ceilings(device: torch.device, side: int) -> Values:
    """Copy rate (TB/s) and matrix product rates (TFLOP/s) of the device."""
    found: Values = {"copy, TB/s": copy_rate(device, 16 * side**2) / 1e12}
    for precision in PRECISIONS:
        with computing_in(precision):
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            found[f"{precision} product, TFLOP/s"] = matmul_rate(device, dtype, side) / 1e12
    return found


STRATEGIES: tuple[Strategy, ...] = ("products", "vectorised", "loop")


def fused(
    workload: Callable[[int], Workload],
    device: torch.device,
    counts: tuple[int, ...],
    steps: int,
) -> Values:
    """Milliseconds per step, images/s, ratio to one by one, and % of the float32 product's rate.

    In float32, by strategy and R in `counts`; in the other precisions, at the third R. On a GPU,
    steps run as CUDA graphs, and in float32 at the third R also without graphs.
    """
    found: Values = {}
    images, plain = workload(1).batch_size, {}
    side = 8192 if device.type == "cuda" else 1024
    rate, operations = matmul_rate(device, torch.float32, side), flops_of(workload(1))
    for kind in PRECISIONS:
        with computing_in(kind):
            plain[kind] = seconds_of(ordinary_step(workload(1), device), steps, device)
        found[f"one by one, {kind}"] = {"ms": 1e3 * plain[kind], "images/s": images / plain[kind]}
    on_gpu, middle = device.type == "cuda", counts[2:3] or counts[-1:]
    cases = [(on_gpu, "float32", *case) for case in product(STRATEGIES, counts)]
    cases += [(on_gpu, *case) for case in product(PRECISIONS[1:], STRATEGIES[:2], middle)]
    if on_gpu:  # to measure the gain of graphs
        cases += [(False, "float32", *case) for case in product(STRATEGIES, middle)]
    for graph, kind, strategy, count in cases:
        if is_late() or (strategy == "loop" and count > 32):
            continue  # a loop's time is linear in R
        name = f"{strategy}{', graph' if graph else ''}, {kind}, R = {count}"
        try:
            step = study_step(workload(count), device, strategy, kind)
            step = capture(step).replay if graph else step
            # Fewer steps if they are slow: about a second is enough.
            one_step = seconds_of(step, 1, device)
            seconds = seconds_of(step, max(1, min(steps, round(1 / one_step))), device)
        except RuntimeError as error:  # out of memory, or a step that no graph can record
            found[name] = f"{type(error).__name__}: {error}".partition("\n")[0][:120]
            continue
        found[name] = {
            "ms": 1e3 * seconds,
            "images/s": count * images / seconds,
            "against one by one": count * plain[kind] / seconds,
            "% of the product's rate": 100 * count * operations / seconds / rate,
        }
    return found


def training(device: torch.device, count: int, images: int, epochs: int) -> Values:
    """Images/s of the study's training with and without graphs, and its fastest strategy."""
    data = Dataset("noise", noise(images), noise(100), noise(100))
    config = autoencoders.Config(latent_dim=14, batch_size=64, epochs=epochs)
    trained_images = count * epochs * (images // 64) * 64
    found: Values = {}

    def time_training(name: str) -> None:
        started = time.perf_counter()
        autoencoders.train(config, range(count), data, Report())
        if device.type == "cuda":
            torch.cuda.synchronize()
        found[name] = trained_images / (time.perf_counter() - started)

    time_training("images/s, the first block, measuring included")
    time_training("images/s, the next block")
    for (_, _, replicates, *_), strategy in fastest.measured.items():
        found[f"fastest at R = {replicates}"] = strategy
    with mock.patch("trainables.training.as_graph", lambda step, device, generators: step):
        time_training("images/s, without graphs")
    return found


def kernels(device: torch.device, count: int) -> Values:
    """Launches per step, and the kernels that take most of its time, in %."""
    if device.type != "cuda":
        return {"not measured": "no GPU here"}
    found: Values = {}
    for strategy in STRATEGIES[:2]:
        step = study_step(autoencoder(64, count), device, strategy)
        seconds_of(step, 3, device)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            seconds_of(step, 5, device)
        on_device = [
            entry
            for entry in profile.key_averages()
            if entry.device_type.name == "CUDA"  # kernels, not the CPU calls that launch them
        ]
        entries = sorted(on_device, key=lambda entry: -entry.self_device_time_total)
        total = sum(entry.self_device_time_total for entry in entries)
        launches = sum(entry.count for entry in entries)
        found[strategy] = {"ms of kernels a step": total / 6e3, "launches a step": launches / 6}
        for entry in entries[:8]:
            share = 100 * entry.self_device_time_total / total
            found[f"{strategy}, {entry.key[:60]}"] = {"%": share, "a step": entry.count / 6}
    return found


def concurrent_seconds(
    processes: int, device: torch.device, steps: int, batch_size: int = 64
) -> float:
    """Seconds per step and model of k = `processes` processes that train on one device at once.

    They represent Ray Tune with 1/k GPU per trial. They have an advantage: they start without Ray,
    have their data on the device, and are timed only when all are warm.

    Raises `ProcessException` of `torch.multiprocessing.spawn` if a process fails or is killed.
    """
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes), context.SimpleQueue()
    arguments = (str(device), batch_size, steps, ready, times)
    spawn(_train_concurrently, arguments, processes)
    spans = [times.get() for _ in range(processes)]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return (last - first) / (processes * steps)


def _train_concurrently(
    rank: int, name: str, batch_size: int, steps: int, ready: Any, times: Any
) -> None:
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    device = torch.device(name)
    step = ordinary_step(autoencoder(batch_size, 1), device)
    synchronised(lambda: [step() for _ in range(max(1, steps // 10))], device)()
    ready.wait()
    started = time.time()
    synchronised(lambda: [step() for _ in range(steps)], device)()
    times.put((started, time.time()))


def processes(device: torch.device, counts: tuple[int, ...], replicates: int, steps: int) -> Values:
    """Milliseconds per step and model: one process, k processes at once, and the study.

    The study trains R = `replicates` models together. Also its ratio to one process and to the
    best k.
    """
    alone = seconds_of(ordinary_step(autoencoder(64, 1), device), steps, device)
    several = {k: concurrent_seconds(k, device, steps) for k in counts if k == 1 or not is_late()}
    step = study_step(autoencoder(64, replicates), device)
    step = capture(step).replay if device.type == "cuda" else step
    study = seconds_of(step, steps, device) / replicates
    return {
        "one alone, ms": 1e3 * alone,
        **{f"{k} at once, ms": 1e3 * seconds for k, seconds in several.items()},
        f"study, R = {replicates}, ms": 1e3 * study,
        "study against one alone (n = 1; wanted: 20)": alone / study,
        f"study against the best of {' '.join(map(str, several))} at once (n = 1; wanted: 5)": (
            min(several.values()) / study
        ),
    }


def memory(device: torch.device, counts: tuple[int, ...]) -> Values:
    """Peak reserved memory of a step as a graph, in GiB, by R; choosing the strategy excluded."""
    if device.type != "cuda":
        return {"not measured": "no GPU here"}
    found: Values = {}
    for count in counts:
        step = study_step(autoencoder(64, count), device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds_of(capture(step).replay, 2, device)
        found[f"R = {count}"] = torch.cuda.max_memory_reserved() / 2**30
    return found


def real_cell(data: Dataset, count: int, metric: str, module: Any, **settings: Any) -> Values:
    """Train `count` replicates of a cell in each precision: seconds, images/s, mean and SD of
    `metric`."""
    config = module.Config(**settings)
    found: Values = {"models": count, "epochs": config.epochs}
    for precision in PRECISIONS:
        if is_late():
            continue
        started = time.perf_counter()
        rows = module.train(replace(config, precision=precision), range(count), data, Report()).rows
        seconds = time.perf_counter() - started
        images = getattr(config, "labels", len(data.train))
        scores = [row[metric] for row in rows]
        found[precision] = {
            "seconds": seconds,
            "images/s": count * config.epochs * images / seconds,
            f"{metric}, mean": float(np.mean(scores)),
            "SD": float(np.std(scores, ddof=1)),
        }
    return found


def best_cell(data: Dataset, count: int) -> Values:
    """Time two epochs of the preset `best` at d = 14, in float32 and bfloat16.

    If all its epochs are expected to take less than `BEST_SECONDS`, also train them in float32, and
    return the seconds and the mean test error.
    """
    preset, latent_dim = find("best"), 14
    settings = {**preset.fixed["autoencoder"], **preset.recipes["autoencoder"][latent_dim]}
    names = {setting.name for setting in fields(autoencoders.Config)}
    config = autoencoders.Config(
        latent_dim=latent_dim, **{k: v for k, v in settings.items() if k in names}
    )

    def time_training(**changes: Any) -> tuple[float, list[dict[str, Any]]]:
        started = time.perf_counter()
        changed = replace(config, **changes)
        rows = autoencoders.train(changed, range(count), data, Report()).rows
        return time.perf_counter() - started, rows

    found: Values = {"models": count, "epochs": config.epochs}
    for precision in ("float32", "bfloat16"):
        found[f"2 epochs, {precision}, s"], _ = time_training(epochs=2, precision=precision)
    expected = found["2 epochs, float32, s"] * config.epochs / 2
    if expected < BEST_SECONDS and not is_late():
        found["all epochs, s"], rows = time_training()
        found["test MSE"] = float(np.mean([row["test_mse"] for row in rows]))
    return found


def main() -> None:
    """Run the parts within the time limit; print and write the results of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data-dir", type=Path, help="folder with full MNIST")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal of a few seconds")
    options = parser.parse_args()
    device, tiny = torch.device(options.device), options.tiny
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    counts = (1, 2) if tiny else (1, 8, 32, 64, 128, 256)
    steps = 2 if tiny else 50

    def data() -> Dataset:
        return load("digits") if tiny else load("mnist", options.data_dir)

    # fmt: off
    parts: dict[str, Callable[[], Values]] = {
        "every path runs": paths,
        "tests of what a GPU computes": tests,
        "ceilings": lambda: ceilings(device, 256 if tiny else 8192),
        "training, R = 32": lambda: training(
            device, 2 if tiny else 32, 640 if tiny else 12_800, 2 if tiny else 4
        ),
        "autoencoder, batch 64": lambda: fused(lambda r: autoencoder(64, r), device, counts, steps),
        "few-shot, full, 160 labels": lambda: fused(
            lambda r: classifier(160, r), device, counts[:4], steps
        ),
        "a real cell, by precision": lambda: (
            real_cell(
                data(), 2 if tiny else 32, "val_mse", autoencoders,
                latent_dim=14, batch_size=64, epochs=1 if tiny else 5,
            )
        ),
        "few-shot, all trains, by precision": lambda: (
            real_cell(
                data(), 2 if tiny else 32, "val_accuracy", fewshot,
                latent_dim=14, labels=160, freeze="scratch", epochs=2 if tiny else 200,
            )
        ),
        "supervised, by precision": lambda: (
            real_cell(
                data(), 2 if tiny else 32, "val_accuracy", supervised,
                labels=160, epochs=2 if tiny else 200, views=2 if tiny else 50,
            )
        ),
        "preset best, d = 14": lambda: best_cell(data(), 1 if tiny else 3),
        "against several processes": lambda: processes(
            device, (1, 2) if tiny else (1, 2, 4, 8), 2 if tiny else 32, steps
        ),
        "kernels, R = 32": lambda: kernels(device, 32),
        "memory, GiB": lambda: memory(device, counts),
    }
    # fmt: on
    report: Values = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    print("\n".join(f"{name}: {value}" for name, value in report.items()))
    for name, part in parts.items():
        if is_late():
            report[name] = {"not measured": "no time was left"}
            continue
        started = time.perf_counter()
        try:
            report[name] = part()
        except Exception as error:  # the other parts still run
            traceback.print_exc()
            reason = str(error).strip().splitlines()[-1:]  # a process's error has many lines
            report[name] = {"failed": f"{type(error).__name__}: {''.join(reason)}"[:300]}
        # Each part is printed and written at once, so a run that is cut off loses only the rest.
        print(f"\n{name} ({time.perf_counter() - started:.0f} s)")
        for key, value in report[name].items():
            print(f"  {key:<42} {as_text(value)}", flush=True)
        options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")


def as_text(value: Any) -> str:
    """A value as text; numbers have four digits."""
    if isinstance(value, dict):
        return "  ".join(f"{name} {as_text(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
