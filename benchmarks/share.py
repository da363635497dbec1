"""Time and memory besides computing: Ray's share of the time, planning, restarting, and memory."""

from __future__ import annotations

import os

from benchmarks.commands import Memory, assignment, block_seconds, run
from benchmarks.measure import Line, Options, Sample
from study.command_line.options import select
from study.command_line.parser import parser
from study.grid import plan
from study.store import Block, Store
from trainables.contract import Outcome
from trainables.data import load

GIB = 2**30


def rays_share(options: Options) -> list[Line]:
    """Ray's share in the default study: autoencoder cells are long, few-shot cells short."""
    _, store = assignment(options)
    cores = os.cpu_count() or 1
    lines = []
    seconds, span = block_seconds(store, "autoencoder")
    lines.append(
        Line(
            "Ray's share of the wall-clock, autoencoders' cells",
            Sample((100 * (1 - sum(seconds) / (cores * span)),)),
            "%",
            at_most=5,
            note=f"{len(seconds)} blocks of {min(seconds):.1f} … {max(seconds):.1f} s on {cores} "
            "cores, from the first one's start to the last one's end",
        )
    )
    seconds, span = block_seconds(store, "fewshot")
    lines.append(
        Line(
            "Ray's cost a trial, few-shot blocks",
            Sample(((cores * span - sum(seconds)) / len(seconds),)),
            "s",
            at_most=0.3,
            note=f"{len(seconds)} blocks; idle time of the {cores} cores, divided by the blocks",
        )
    )
    return lines


def grid(dims: int, batches: int) -> list[str]:
    """Options of a grid of `dims` × 2 × `batches` cells."""
    axes = {"--latent-dims": range(1, dims + 1), "--depths": (2, 3)}
    axes["--batch-sizes"] = range(1, batches + 1)
    return [part for name, values in axes.items() for part in (name, *map(str, values))]


def planning(options: Options) -> Line:
    """Time `study plan` of 100,000 cells, from the command to its end."""
    axes = grid(2, 10) if options.tiny else grid(250, 200)
    folder = options.folder / "empty"
    seconds = []
    for turn in range(1 + options.repeats):
        options.say("share: planning")
        command = run("-m", "study", "plan", "autoencoder", *axes, "--out", folder)
        if turn:
            seconds.append(command.seconds)
    cells = next(line for _, line in command.lines if "cells" in line)
    return Line("study plan", Sample(tuple(seconds)), "s", at_most=2, note=cells.strip())


def restarting(options: Options) -> Line:
    """Time `study run` on a folder with 10,000 finished cells, up to "nothing to compute".

    The blocks are real files, written through the store, with the rows of two replicates.
    """
    axes = grid(2, 5) if options.tiny else grid(50, 100)
    command = ["autoencoder", "--epochs", "1", "--replicates", "2", *axes]
    arguments = parser().parse_args(["plan", *command])
    (cells,) = plan(select(arguments).experiments, load("mnist-5k").fingerprint)
    store = Store(options.folder / "finished")
    store.create()
    options.say(f"share: writing {len(cells)} finished cells")
    rows = [{"replicate": r, "parameters": 1, "val_mse": 0.1, "test_mse": 0.1} for r in range(2)]
    history = [{"replicate": r, "epoch": 1, "train_mse": 0.1, "val_mse": 0.1} for r in range(2)]
    for cell in cells:
        block = Block(cell.id, range(2))
        store.write_block(block, cell.config, None, Outcome(rows, history), {"seconds": 1.0})
    seconds = []
    for _ in range(options.repeats):
        options.say("share: restarting")
        done = run(
            "-m", "study", "run", *command, "--out", store.address, stop_at="nothing to compute"
        )
        seconds.append(done.seconds_until("nothing to compute"))
    note = f"{len(cells)} finished cells, checksums verified; to the line 'nothing to compute'"
    return Line("restart of a finished study", Sample(tuple(seconds)), "s", at_most=2, note=note)


def memory(options: Options) -> list[Line]:
    """Memory of `study run autoencoder` on full MNIST with its report."""
    options.say("share: memory")
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    full = ["--dataset", "mnist", *data, "--depths", 3, "--replicates", 1]
    command = run(
        *("-m", "study", "run", "autoencoder", "--latent-dims", 14),
        *("--out", options.folder / "memory"),
        *(["--preset", "smoke"] if options.tiny else full),
    )
    peak: Memory = command.memory
    note = "peak of samples every half second"
    driver_and_report = f"{peak.driver_and_report / GIB:.2f} GiB"
    return [
        Line("memory of the driver", gib(peak.driver), "GiB", at_most=1, note=note),
        Line(
            "memory of the report's two processes",
            gib(peak.report),
            "GiB",
            note=f"{note}; with the driver, which waits for them, {driver_and_report}",
        ),
        Line(
            "memory of a worker, resident",
            gib(peak.worker),
            "GiB",
            at_most=1.5,
            note=f"{note}; includes the data set that workers share",
        ),
        Line(
            "memory of a worker, proportional",
            gib(peak.worker_share),
            "GiB",
            note=f"{note}; a page that k processes share counts 1/k",
        ),
    ]


def gib(size: int) -> Sample:
    """A sample of one value, from bytes to GiB."""
    return Sample((size / GIB,))


def measure(options: Options) -> list[Line]:
    """Measure Ray's share, planning, restarting and memory."""
    return [
        *rays_share(options),
        planning(options),
        restarting(options),
        *memory(options),
    ]
