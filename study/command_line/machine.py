"""What this machine allows, checked before anything starts: paths, GPUs, cores, a terminal."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from study.errors import BadInput


@contextmanager
def resolving(option: str, path: Path) -> Iterator[None]:
    """Turn path-resolution errors inside the block into `BadInput`."""
    try:
        path.resolve()  # which alone complains of links in a circle
        yield
    except (OSError, RuntimeError) as error:
        raise BadInput(option, path, getattr(error, "strerror", None) or str(error)) from error


def check_out(out: Path) -> None:
    """Raise `BadInput` for a path that can't be a folder of results."""
    with resolving("--out", out):
        there = next(path for path in (out, *out.absolute().parents) if path.exists())
        if not there.is_dir():
            which = "is a file" if there == out else f"{there} is a file"
            raise BadInput("--out", out, f"{which}; it must be a folder, or not exist yet")


def require_machine(arguments: argparse.Namespace) -> None:
    """Raise `BadInput` where a trial is to have more GPUs or cores than this machine has."""
    if arguments.address == "local" and arguments.gpus_per_trial not in ("auto", 0):
        import torch

        seen = torch.cuda.device_count()
        if arguments.gpus_per_trial > seen:
            allowed = f"this machine has {seen} GPUs; 0 runs on the CPU"
            raise BadInput("--gpus-per-trial", f"{arguments.gpus_per_trial:g}", allowed)
    if arguments.address == "local":
        cores = os.cpu_count() or 1
        if arguments.cpus_per_trial > cores:
            allowed = f"this machine has {cores} cores"
            raise BadInput("--cpus-per-trial", f"{arguments.cpus_per_trial:g}", allowed)


class PipeConsole(Console):
    """Console that raises `BrokenPipeError` when stdout is closed."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def replace_unencodable() -> None:
    """Print characters that the terminal's encoding lacks, such as … in ASCII, as `?`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
