"""Checks on a GPU: whether everything runs, how fast, and how near to the card's limit.

`benchmarks/gpu_check.sh` starts it. It needs PyTorch, not Ray.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import interpolate

from benchmarks.limit import bytes_of, flops_of
from benchmarks.machine import copy_rate, matmul_rate, seconds_of, synchronised
from benchmarks.steps import (
    Step,
    Workload,
    autoencoder,
    classifier,
    ordinary_step,
    study_step,
)
from study.command_line.options import select
from study.command_line.parser import parser as study_parser
from study.grid import distinct, plan
from study.packing.seconds import line_through, sample
from study.presets import find
from study.queue import Task, missing_tasks
from trainables import augment, fastest
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
from trainables.rotation.settings import LOSSES
from trainables.seeds import generators
from trainables.supervised import train as supervised

TIME_LIMIT = 430.0
"""Seconds, after PyTorch is imported, when the last part is stopped."""
BEST_SECONDS = 85.0
"""The preset `best` is trained for all its epochs only if that is expected to take less."""
REPEATS = 5
"""Measurements of each step, of which the median counts."""

Results = Iterator[tuple[str, Any]]
"""The names and values of a part, each as soon as it is measured."""


def noise(images: int) -> Split:
    """Random images with labels 0, 1, … 9, 0, …, to test that code runs, not what it learns."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (images, 28, 28), dtype=np.uint8)
    return Split(pixels, (np.arange(images) % 10).astype(np.uint8))


def paths() -> Results:
    """Train a small cell of every trainable, objective and arm: by name, `ok` or the error."""
    data = Dataset("noise", noise(400), noise(100), noise(100))
    parent: Any = None

    def attempt(module: Any, parent: Any = None, **settings: Any) -> tuple[str, Any]:
        """Train a cell of `module`; return `ok` or the error, and its `Outcome`, None on error.

        Warnings about CUDA graphs are added.
        """
        started = time.perf_counter()
        try:
            config = module.Config(**{"width": 4, **settings})
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outcome = module.train(config, range(2), data, Report(), parent)
        except Exception as error:  # the other cells still run
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", None
        messages = [f"; {w.message}" for w in caught if "graph" in str(w.message)]
        return f"ok, {time.perf_counter() - started:.1f} s{''.join(messages)}", outcome

    small: dict[str, Any] = {"latent_dim": 3, "epochs": 2}
    for optimiser in ("adamw", "muon"):
        for views in ({}, {"augment": 1.0, "noise": 0.2}):
            said, cell = attempt(autoencoders, **small, optimiser=optimiser, **views)
            yield f"autoencoder {optimiser}{' augmented' if views else ''}", said
            if cell and parent is None:
                parent = {r: {k: v[r] for k, v in cell.weights.items()} for r in range(2)}
    for network in ({"network": "resnet", "kernel": 5}, {"network": "mlp"}):
        yield f"autoencoder {network['network']}", attempt(autoencoders, **small, **network)[0]
    for precision, objective in product(PRECISIONS[1:], OBJECTIVES):
        settings = {"precision": precision, "objective": objective, "contrastive_updates": 8}
        said, _ = attempt(autoencoders, **small, **settings, augment=1.0)
        yield f"autoencoder {objective} {precision}", said
    few: dict[str, Any] = {"latent_dim": 3, "labels": 20, "epochs": 4, "pseudo_epochs": 1}
    for pretraining, freeze in product(("plain", "augmented"), FREEZE):
        arm = {"freeze": freeze, "pretraining": pretraining, "views": 3}
        yield f"few-shot {freeze} {pretraining}", attempt(fewshot, parent, **few, **arm)[0]
    for precision, freeze in product(PRECISIONS[1:], ("fixed", "full", "consistency")):
        arm = {"freeze": freeze, "precision": precision}
        yield f"few-shot {freeze} {precision}", attempt(fewshot, parent, **few, **arm)[0]
    said, _ = attempt(fewshot, parent, **few, freeze="full", batch_size=10)
    yield "few-shot full in minibatches", said
    for strength, precision in ((0.0, "float32"), (1.0, "float32"), (1.0, "bfloat16")):
        settings = {"augment": strength, "precision": precision, "views": 3}
        said, _ = attempt(supervised, labels=20, epochs=4, **settings)
        yield f"supervised, augment {strength:g}, {precision}", said
    for loss in LOSSES:
        yield f"rotation {loss}", attempt(rotation, loss=loss, epochs=1)[0]


def tests(log: Path) -> Results:
    """The last line of `pytest -m gpu`; its whole output is in `log`."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/trainables/test_gpu.py"]
    command += ["--maxfail=8", "--durations=5", "-p", "no:cacheprovider"]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield from ((f"test {number + 1}", line[:300]) for number, line in enumerate(failed))
    yield "pytest", f"{lines[-1]} (exit code {process.returncode})"


def ceilings(device: torch.device, side: int) -> Results:
    """Names and versions; copy rate (TB/s) and matrix product rates (TFLOP/s) of the device."""
    on_gpu = device.type == "cuda"
    yield "device", torch.cuda.get_device_name() if on_gpu else platform.machine()
    yield "torch, CUDA", f"{torch.__version__}, {torch.version.cuda}"
    yield "copy, TB/s", copy_rate(device, 16 * side**2) / 1e12
    for precision in PRECISIONS:
        yield f"{precision} product, TFLOP/s", product_rate(device, precision, side) / 1e12


def product_rate(device: torch.device, precision: str, side: int) -> float:
    """Floating-point operations per second of a square matrix product in this precision."""
    with computing_in(precision):
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        return matmul_rate(device, dtype, side)


def median_seconds(step: Step, steps: int, device: torch.device) -> float:
    """Median seconds per step of `REPEATS` runs of at most `steps` steps and 0.2 s each."""
    one_step = seconds_of(step, 1, device)
    steps = max(1, min(steps, round(0.2 / one_step)))
    return median(seconds_of(step, steps, device) for _ in range(REPEATS))


STRATEGIES: tuple[Strategy, ...] = ("products", "vectorised", "loop")


def fused(
    workload: Callable[[int], Workload],
    device: torch.device,
    counts: tuple[int, ...],
    steps: int,
) -> Results:
    """Milliseconds per step, images/s, ratio to one by one, and % of the device's rates.

    The ratio is to the fastest precision of one by one. The rates are that of matrix products in
    the same precision, and that of copies: bytes are counted as if nothing were cached, so they
    can exceed 100 %.

    In float32, by strategy and R in `counts`; at the third R also in the other precisions. On a
    GPU, steps run as CUDA graphs; at the third R in float32 also without.
    """
    on_gpu, middle = device.type == "cuda", counts[2:3] or counts[-1:]
    side = 8192 if on_gpu else 256
    images, alone = workload(1).batch_size, float("inf")
    operations, moved = flops_of(workload(1)), bytes_of(workload(1))
    rates = {kind: product_rate(device, kind, side) for kind in PRECISIONS}
    copies = copy_rate(device, 16 * side**2)
    for kind in PRECISIONS:
        with computing_in(kind):
            seconds = median_seconds(ordinary_step(workload(1), device), steps, device)
        alone = min(alone, seconds)
        yield f"one by one, {kind}", {"ms": 1e3 * seconds, "images/s": images / seconds}

    def measured(graph: bool, kind: str, strategy: Strategy, count: int) -> tuple[str, Any]:
        name = f"{strategy}{', graph' if graph else ''}, {kind}, R = {count}"
        try:
            step = study_step(workload(count), device, strategy, kind)
            step = capture(step).replay if graph else step
            seconds = median_seconds(step, steps, device)
        except RuntimeError as error:  # out of memory; from torch 2.12 also no graph
            return name, f"{type(error).__name__}: {error}".partition("\n")[0][:120]
        return name, {
            "ms": 1e3 * seconds,
            "images/s": count * images / seconds,
            "against one by one": count * alone / seconds,
            "% of products": 100 * count * operations / seconds / rates[kind],
            "% of copies": 100 * count * moved / seconds / copies,
        }

    # The R that most figures are about comes first.
    for count in sorted(counts, key=lambda count: (count not in middle, count)):
        found = []
        for strategy in STRATEGIES:
            if strategy == "loop" and count > 32:
                continue  # a loop's time is linear in R
            name, values = measured(on_gpu, "float32", strategy, count)
            yield name, values
            found += [values] if isinstance(values, dict) else []
        if found:
            yield f"best, R = {count}", max(found, key=lambda values: values["images/s"])
    for kind, strategy, count in product(PRECISIONS[1:], STRATEGIES[:2], middle):
        yield measured(on_gpu, kind, strategy, count)
    if on_gpu:  # to measure the gain of graphs
        for strategy, count in product(STRATEGIES, middle):
            yield measured(False, "float32", strategy, count)


def training(device: torch.device, count: int, images: int, epochs: int) -> Results:
    """Images/s of the study's training with and without graphs, and its fastest strategy.

    CUDA has started before.
    """
    synchronised(ordinary_step(autoencoder(64, 1), device), device)()
    data = Dataset("noise", noise(images), noise(100), noise(100))
    config = autoencoders.Config(latent_dim=14, batch_size=64, epochs=epochs)
    trained_images = count * epochs * (images // 64) * 64

    def images_a_second() -> float:
        started = time.perf_counter()
        synchronised(lambda: autoencoders.train(config, range(count), data, Report()), device)()
        return trained_images / (time.perf_counter() - started)

    yield "images/s, the first block, measuring included", images_a_second()
    yield "images/s, the next block", images_a_second()
    for (_, _, replicates, *_), strategy in fastest.measured.items():
        yield f"fastest at R = {replicates}", strategy
    with mock.patch("trainables.training.as_graph", lambda step, device, generators: step):
        yield "images/s, without graphs", images_a_second()


def augmentation(device: torch.device, count: int, batch_size: int) -> Results:
    """Milliseconds of the views of a minibatch and of two of their parts.

    These are their draws, from a generator per replicate, and the interpolation of the bend, which
    PyTorch's kernel computes with one thread per pixel; also that interpolation as matrix products.
    """
    images = torch.rand(count, batch_size, 1, 28, 28, device=device)
    points = torch.randn(count * batch_size, 2, augment.CONTROL, augment.CONTROL, device=device)
    draws = generators(0, range(count), "views", device)
    cases: dict[str, Callable[[], Any]] = {
        "views": lambda: augment.views(images, 1.0, 0.2, draws),
        "their draws": lambda: [
            augment.draw(sampler, (batch_size, *shape), draws, images)
            for sampler, shape in (
                (torch.rand, (6,)),
                (torch.randn, points.shape[1:]),
                (torch.randn, images.shape[2:]),
            )
        ],
        "their bend": lambda: interpolate(points, 28, mode="bilinear", align_corners=True),
        "their bend by products": lambda: bend_by_products(points, 28),
    }
    for name, function in cases.items():
        yield f"{name}, ms", 1e3 * median_seconds(function, 50, device)
        if device.type == "cuda":
            replay = capture(function, draws).replay
            yield f"{name} as a graph, ms", 1e3 * median_seconds(replay, 50, device)


def bend_by_products(points: torch.Tensor, side: int) -> torch.Tensor:
    """Control points (…, K, K), interpolated between the corners of a square: (…, S, S)."""
    corners = torch.eye(points.shape[-1], device=points.device).unsqueeze(0)
    weights = interpolate(corners, side, mode="linear", align_corners=True)[0]
    return weights.T @ points @ weights


def kernels(device: torch.device, count: int) -> Results:
    """Launches per step, the kernels that take most of its time in %, and the share of a replayed
    step's time in which the GPU computes."""
    if device.type != "cuda":
        yield "not measured", "no GPU here"
        return
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
        computing = total / 6e6  # microseconds of six steps: one warms up
        replayed = median_seconds(capture(step).replay, 50, device)
        yield (
            strategy,
            {
                "ms of kernels a step": 1e3 * computing,
                "launches a step": sum(entry.count for entry in entries) / 6,
                "ms of a replayed step": 1e3 * replayed,
                "% of it in kernels": 100 * computing / replayed,
            },
        )
        for number, entry in enumerate(entries[:8]):
            share = 100 * entry.self_device_time_total / total
            kernel = entry.key.replace("void ", "").replace("at::native::", "")[:110]
            yield f"{strategy} {number + 1}", {"%": share, "a step": entry.count / 6, "": kernel}


def concurrent_seconds(
    processes: int, device: torch.device, steps: int, batch_size: int = 64, replicates: int = 0
) -> float:
    """Seconds per step and model of k = `processes` processes that train on one device at once.

    Each trains one ordinary model, or a block of `replicates` as the study does. They represent Ray
    Tune with 1/k GPU per trial. They have an advantage: they start without Ray, have their data on
    the device, and are timed only when all are warm.

    Raises `ProcessException` of `torch.multiprocessing.spawn` if a process fails or is killed.
    """
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes), context.SimpleQueue()
    arguments = (str(device), batch_size, replicates, steps, ready, times)
    spawn(_train_concurrently, arguments, processes)
    spans = [times.get() for _ in range(processes)]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return (last - first) / (processes * steps * max(1, replicates))


def _train_concurrently(
    rank: int, name: str, batch_size: int, replicates: int, steps: int, ready: Any, times: Any
) -> None:
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    device = torch.device(name)
    if replicates:
        step = graph_step(autoencoder(batch_size, replicates), device)
    else:
        step = ordinary_step(autoencoder(batch_size, 1), device)
    synchronised(lambda: [step() for _ in range(max(1, steps // 10))], device)()
    ready.wait()
    started = time.time()
    synchronised(lambda: [step() for _ in range(steps)], device)()
    times.put((started, time.time()))


def graph_step(workload: Workload, device: torch.device) -> Step:
    """A step of the study's, on a GPU as a CUDA graph."""
    step = study_step(workload, device)
    return capture(step).replay if device.type == "cuda" else step


def processes(
    device: torch.device, counts: tuple[int, ...], replicates: int, steps: int
) -> Results:
    """Milliseconds per step and model: one process, k processes at once, and the study.

    The study trains R = `replicates` models together. Also its ratio to one process and to the
    best k.
    """
    alone = median_seconds(ordinary_step(autoencoder(64, 1), device), steps, device)
    yield "one alone, ms", 1e3 * alone
    study = median_seconds(graph_step(autoencoder(64, replicates), device), steps, device)
    study /= replicates
    yield f"study, R = {replicates}, ms", 1e3 * study
    yield "study against one alone", alone / study
    best = float("inf")
    for k in counts:
        seconds = concurrent_seconds(k, device, steps)
        yield f"{k} at once, ms", 1e3 * seconds
        best = min(best, seconds)
        yield "study against the best number at once", best / study


def blocks_at_once(device: torch.device, replicates: int, steps: int) -> Results:
    """Milliseconds per step and model of k blocks at once on one device, to decide how to fill it:
    k blocks of `replicates`, and k that have as many models together."""
    for k, each in ((1, replicates), (2, replicates), (4, replicates), (4, replicates // 4)):
        seconds = concurrent_seconds(k, device, steps, replicates=each)
        yield f"{k} of R = {each}, ms", 1e3 * seconds


def memory(device: torch.device, counts: tuple[int, ...]) -> Results:
    """Peak reserved memory of a step as a graph, in GiB, by R; choosing the strategy excluded."""
    if device.type != "cuda":
        yield "not measured", "no GPU here"
        return
    for count in counts:
        step = study_step(autoencoder(64, count), device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds_of(capture(step).replay, 2, device)
        yield f"R = {count}", torch.cuda.max_memory_reserved() / 2**30


def real_cell(data: Dataset, count: int, metric: str, module: Any, **settings: Any) -> Results:
    """Train `count` replicates of a cell in each precision: seconds, images/s, mean and SD of
    `metric`. A few-shot cell starts from autoencoders of one epoch."""
    config = module.Config(**settings)
    parent = None
    if module is fewshot:
        pretraining = autoencoders.Config(config.latent_dim, epochs=1, batch_size=64)
        weights = autoencoders.train(pretraining, range(count), data, Report()).weights
        parent = {r: {name: value[r] for name, value in weights.items()} for r in range(count)}
    images = getattr(config, "labels", len(data.train))
    # The first training starts CUDA and its libraries; it isn't timed.
    module.train(replace(config, epochs=1), range(count), data, Report(), parent)
    for precision in PRECISIONS:
        started = time.perf_counter()
        cell = replace(config, precision=precision)
        rows = module.train(cell, range(count), data, Report(), parent).rows
        seconds = time.perf_counter() - started
        scores = [row[metric] for row in rows]
        yield (
            precision,
            {
                "seconds": seconds,
                "images/s": count * config.epochs * images / seconds,
                f"{metric}, mean": float(np.mean(scores)),
                "SD": float(np.std(scores, ddof=1)),
            },
        )


def best_cell(data: Dataset, count: int) -> Results:
    """Time two epochs of the preset `best` at d = 14, in float32 and bfloat16.

    If all its epochs are expected to take less than `BEST_SECONDS`, also train them in float32, for
    the seconds and the mean test error.
    """
    preset, latent_dim = find("best"), 14
    settings = {**preset.fixed["autoencoder"], **preset.recipes["autoencoder"][latent_dim]}
    names = {setting.name for setting in fields(autoencoders.Config)}
    config = autoencoders.Config(
        latent_dim=latent_dim, **{k: v for k, v in settings.items() if k in names}
    )
    yield "training images", len(data.train)
    yield "models, epochs", f"{count}, {config.epochs}"

    def time_training(**changes: Any) -> tuple[float, list[dict[str, Any]]]:
        started = time.perf_counter()
        changed = replace(config, **changes)
        rows = autoencoders.train(changed, range(count), data, Report()).rows
        return time.perf_counter() - started, rows

    time_training(epochs=1)  # starts CUDA
    expected = {}
    for precision in ("float32", "bfloat16"):
        seconds, _ = time_training(epochs=2, precision=precision)
        yield f"2 epochs, {precision}, s", seconds
        expected[precision] = seconds * config.epochs / 2
    if expected["float32"] < BEST_SECONDS:
        seconds, rows = time_training()
        yield "all epochs, s", seconds
        yield "test MSE", float(np.mean([row["test_mse"] for row in rows]))


def full_preset(data: Dataset, steps: tuple[int, int]) -> Results:
    """Minutes of the preset `full` on one GPU, block after block, from a block of each kind.

    A line through trainings of `steps` steps gives the seconds of the others of its kind, by their
    work. Kinds with the most work come first; the sum counts those that are not measured yet as
    the others. Blocks that compute on CPU cores, beside the GPU, are left out.
    """
    arguments = study_parser().parse_args(["plan", "assignment", "--preset", "full"])
    selection = select(arguments, data)
    cells = distinct(plan(selection.experiments, data.fingerprint, selection.asked))

    def work_of(task: Task) -> float:
        return len(task.replicates) * task.cell.settings.work(len(data.train))

    kinds: dict[tuple[object, ...], list[Task]] = {}
    for task in missing_tasks(cells, {}):
        config = task.cell.config
        if task.cell.experiment.on_gpu(config):
            shape = config.get("batch_size"), config.get("depth"), config.get("width")
            kinds.setdefault((*task.kind, *shape), []).append(task)
    yield "training images", len(data.train)
    yield "blocks on the GPU, kinds", f"{sum(map(len, kinds.values()))}, {len(kinds)}"
    whole = sum(work_of(task) for tasks in kinds.values() for task in tasks)
    seconds = done = 0.0
    for kind, tasks in sorted(kinds.items(), key=lambda item: -sum(map(work_of, item[1]))):
        typical = sorted(tasks, key=work_of)[len(tasks) // 2]
        start, per_work = line_through(*sample(typical, data, steps)[0])
        works = [work_of(task) for task in tasks]
        of_kind = sum(start + per_work * work for work in works)
        name = " ".join(str(part) for part in kind if part not in (None, ()))
        yield name, {"blocks": len(tasks), "seconds": of_kind}
        seconds, done = seconds + of_kind, done + sum(works)
        yield "all, min", seconds * whole / done / 60
        yield "% of the work measured", 100 * done / whole


@dataclass(frozen=True)
class Part:
    """One part of the check."""

    run: Callable[[], Results]
    seconds: float
    """Time limit. The limits of all parts together are more than `TIME_LIMIT`."""


def run_part(part: Part, limit: float) -> Results:
    """Run a part in a process of its own, for at most `limit` seconds.

    What it has measured is kept if it fails or is stopped. A process of its own, because an error
    on the GPU spoils all further work of the process. It is forked, which saves importing torch.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(part.run, sending))
    process.start()
    sending.close()
    end = time.monotonic() + limit
    try:
        while receiving.poll(max(0.0, end - time.monotonic())):
            yield receiving.recv()
        yield "stopped", f"after {limit:.0f} s"
    except EOFError:  # the process has closed its end
        process.join(5)
        if process.exitcode:
            yield "failed", f"exit code {process.exitcode}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)  # with the processes that it has started
        process.join()


def _send(run: Callable[[], Results], sending: Connection) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    pick_device()  # sets the precision that the study computes in
    try:
        for found in run():
            sending.send(found)
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().splitlines()[-1:]  # a process's error has many lines
        sending.send(("failed", f"{type(error).__name__}: {''.join(reason)}"[:300]))


def summary(report: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The figures that are asked of a GPU: name, wanted, found."""

    def found(part: str, name: str, column: str = "") -> str:
        value = report.get(part, {}).get(name)
        if column and isinstance(value, dict):
            value = value.get(column)
        return "not measured" if value is None else as_text(value)

    several = report.get("against several processes", {})
    numbers = " ".join(key.partition(" ")[0] for key in several if key.endswith("at once, ms"))
    autoencoders, fewshots = "autoencoder, batch 64", "few-shot, full, 160 labels"
    ratio, rate = "against one by one", "images/s"
    share = "% of products", "% of copies"
    lines = [
        ("device", "", found("ceilings", "device")),
        (
            "autoencoder, R = 32, against one by one",
            "≥ 20",
            found(autoencoders, "best, R = 32", ratio),
        ),
        (
            f"… against the best of {numbers or 'several'} processes",
            "≥ 5",
            found("against several processes", "study against the best number at once"),
        ),
    ]
    for count in (32, 64, 128, 256):
        best = f"best, R = {count}"
        shares = ", ".join(f"{found(autoencoders, best, column)} {column}" for column in share)
        lines.append(
            (f"… images/s, R = {count}", "rising", f"{found(autoencoders, best, rate)} ({shares})")
        )
    every = dict(report.get("every path runs", {}))
    ended = [every.pop(end) for end in ("stopped", "failed", "not measured") if end in every]
    ran = sum(str(said).startswith("ok") for said in every.values())
    return [
        *lines,
        ("few-shot, R = 32, against one by one", "≥ 20", found(fewshots, "best, R = 32", ratio)),
        (
            "training images of the presets",
            "55000",
            found("preset best, d = 14", "training images"),
        ),
        ("preset full on one GPU, min", "≤ 15", found("preset full", "all, min")),
        ("preset best, d = 14, s", "≤ 60", found("preset best, d = 14", "all epochs, s")),
        ("… its test MSE", "", found("preset best, d = 14", "test MSE")),
        ("paths that run", "all", "; ".join([f"{ran} of {len(every)}", *ended])),
        ("tests", "all", found("tests of what a GPU computes", "pytest")),
    ]


def main() -> None:
    """Run the parts within the time limit; print and write each value, and the table last."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cuda", help="`cpu` for a rehearsal")
    options.add_argument("--data-dir", type=Path, help="folder with full MNIST; else mnist-5k")
    options.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    options.add_argument("--only", nargs="+", default=[""], help="parts whose names contain these")
    options.add_argument("--tiny", action="store_true", help="a rehearsal of a minute")
    given = options.parse_args()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part is ended, too
    if given.data_dir and not list(given.data_dir.glob("MNIST/raw/train-images-idx3-ubyte*")):
        options.error(f"--data-dir {given.data_dir}: there is no MNIST/raw/train-images-idx3-ubyte")
    device, tiny = torch.device(given.device), given.tiny
    counts = (1, 2) if tiny else (1, 8, 32, 64, 128, 256)
    steps, models = (2, 2) if tiny else (50, 32)

    def data() -> Dataset:
        if tiny:
            return load("digits")
        return load("mnist", given.data_dir) if given.data_dir else load("mnist-5k")

    def cell(metric: str, module: Any, **settings: Any) -> Results:
        if tiny:
            settings |= {"epochs": 2} | ({"views": 2} if "views" in settings else {})
        return real_cell(data(), models, metric, module, **settings)

    # fmt: off
    parts = {
        "ceilings": Part(lambda: ceilings(device, 256 if tiny else 8192), 20),
        "autoencoder, batch 64": Part(
            lambda: fused(lambda r: autoencoder(64, r), device, counts, steps), 90),
        "few-shot, full, 160 labels": Part(
            lambda: fused(lambda r: classifier(160, r), device, counts[:4], steps), 60),
        "against several processes": Part(
            lambda: processes(device, (1, 2) if tiny else (1, 8, 4, 2, 3, 6), models,
                              2 if tiny else 500), 80),
        "preset best, d = 14": Part(lambda: best_cell(data(), 1 if tiny else 3), 130),
        "preset full": Part(lambda: full_preset(data(), (1, 2) if tiny else (20, 220)), 90),
        "every path runs": Part(paths, 60),
        "tests of what a GPU computes": Part(lambda: tests(given.out.with_suffix(".log")), 100),
        "training, R = 32": Part(
            lambda: training(device, models, 640 if tiny else 12_800, 2 if tiny else 4), 40),
        "several blocks at once": Part(
            lambda: blocks_at_once(device, 4 if tiny else 32, 2 if tiny else 500), 60),
        "augmentation, R = 32": Part(lambda: augmentation(device, models, 64), 30),
        "kernels, R = 32": Part(lambda: kernels(device, 32), 30),
        "a real cell, by precision": Part(lambda: cell(
            "val_mse", autoencoders, latent_dim=14, batch_size=64, epochs=5), 60),
        "few-shot, all trains, by precision": Part(lambda: cell(
            "val_accuracy", fewshot, latent_dim=14, labels=160, freeze="full", epochs=200), 40),
        "supervised, by precision": Part(lambda: cell(
            "val_accuracy", supervised, labels=160, epochs=200, views=50), 40),
        "memory, GiB": Part(lambda: memory(device, counts), 30),
    }
    # fmt: on
    report: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        if not any(words in name for words in given.only):
            continue
        started = time.monotonic()
        left = TIME_LIMIT - (started - began)
        found = report[name] = {}
        print(f"\n{name}")
        late: Results = iter([("not measured", "no time was left")])
        for key, value in run_part(part, min(left, part.seconds)) if left >= 5 else late:
            found[key] = value
            print(f"  {key:<42} {as_text(value)}", flush=True)
            # A run that is cut off loses only what it has not measured.
            given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
    lines = summary(report)
    given.out.write_text(json.dumps(report | {"summary": lines}, indent=1), encoding="utf-8")
    print(f"\n{'figure':<42} {'wanted':<8} found")
    for figure, wanted, value in lines:
        print(f"{figure:<42} {wanted:<8} {value}")


def as_text(value: Any) -> str:
    """A value as text; numbers have four digits."""
    if isinstance(value, dict):
        return "  ".join(f"{name} {as_text(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
