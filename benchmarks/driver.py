"""The driver's cost of a block: time to the first trial, CPU seconds, Tune's state."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.commands import run
from benchmarks.measure import Line, Options, Sample
from study.experiments import Experiment
from study.grid import override, plan
from trainables.data import load

TRIVIAL = Experiment("trivial", "benchmarks.trivial", {"number": (0,)}, replicates=1)


WORKERS = 8
"""Number of Ray actors. They compute nothing, so they may outnumber the cores."""


def run_grid(options: Options, count: int, *arguments: object) -> dict[str, float]:
    """Run `main` in a new process and return the figures that it prints."""
    options.say(f"driver: {count} cells")
    folder = options.folder / f"driver-{time.monotonic_ns()}"
    command = run("-m", "benchmarks.driver", folder, count, WORKERS, *arguments)
    return json.loads(next(line for _, line in reversed(command.lines) if line.startswith("{")))


def measure(options: Options) -> list[Line]:
    """Measure the driver on grids of cells that compute nothing."""
    many, most = (20, 40) if options.tiny else (10_000, 100_000)
    smallest = [run_grid(options, WORKERS, "first") for _ in range(options.repeats)]
    ray = min(figures["first"] for figures in smallest)
    lines = []
    for count, at_most in ((many, 5), (most, 30)):
        runs = [run_grid(options, count, "first") for _ in range(options.repeats)]
        seconds = [f["layout"] + f["plan"] + f["first"] - ray for f in runs]
        lines.append(
            Line(
                f"from the command to the first trial, {count:,} missing cells",
                Sample(tuple(seconds)),
                "s",
                at_most=at_most,
                note=f"without the {ray:.1f} s that Ray takes for one cell per worker",
            )
        )
    whole = [run_grid(options, many) for _ in range(options.repeats)]
    note = f"{many:,} cells that compute nothing, {WORKERS} workers; the driver's process"
    cpu = tuple(1000 * f["cpu"] / f["done"] for f in whole)
    state = tuple(f["state"] / f["done"] / 1000 for f in whole)
    trials = f"{whole[0]['trials']:.0f} trials"
    lines += [
        Line("the driver's CPU a block", Sample(cpu), "ms", at_most=8, note=note),
        Line("Tune's files a block", Sample(state), "kB", at_most=2, note=f"{note}; {trials}"),
    ]
    return lines


def main(folder: str, count: int, workers: int, first_only: bool) -> None:
    """Compute `count` trivial cells with `workers` actors and print the figures as one JSON object.

    Times are in seconds, `state` (Tune's files) in bytes. With `first_only`, stop at the first
    trial.
    """
    began = time.perf_counter()
    (cells,) = plan(
        [override(TRIVIAL, {"number": tuple(range(count))}, {})], load("mnist-5k").fingerprint
    )
    laid_out = time.perf_counter()

    import ray

    from study.grid import record
    from study.launch import Session
    from study.progress import StudyProgress
    from study.resources import Resources
    from study.store import Store

    store = Store(folder)
    store.create()
    data = load("mnist-5k")
    store.write_plan(record("trivial", "", data, None, [cells[0].experiment], [cells]))
    ready = time.perf_counter()
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    started = time.perf_counter()
    first: list[float] = []
    original = StudyProgress.started

    def record_start(self: StudyProgress, task: object) -> None:
        first.append(time.perf_counter())
        if first_only:
            raise KeyboardInterrupt
        original(self, task)  # type: ignore[arg-type]

    StudyProgress.started = record_start  # type: ignore[method-assign]
    with open("/dev/null", "w", encoding="utf-8") as devnull:
        session = Session(store, data, Resources(gpus_per_trial=0), Console(file=devnull))
        _ = session.shared_data  # in Ray's store before the clock starts
        cpu = time.process_time()
        with contextlib.suppress(KeyboardInterrupt):
            session.compute("trivial", cells, store.blocks())
        cpu = time.process_time() - cpu
    state = sum(path.stat().st_size for path in Path(folder, "tune").rglob("*") if path.is_file())
    trials = len(list(Path(folder, "tune").glob("*/*/")))
    figures = {
        "layout": laid_out - began,
        "plan": ready - laid_out,
        "first": first[0] - started,
        "cpu": cpu,
        "done": sum(map(len, store.blocks().values())),
        "state": state,
        "trials": trials,
    }
    print(json.dumps(figures))
    sys.stdout.flush()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["first"])
