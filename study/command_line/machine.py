"""Checks before anything starts: paths, GPUs and cores."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.errors import BadInput, resolving
from study.limits import cores
from study.words import counted


def check_out(out: Path, option: str = "--out") -> None:
    """Raise `BadInput` if `out`, the value of `option`, can't be a folder."""
    with resolving(option, out):
        existing = next(path for path in (out, *out.absolute().parents) if path.exists())
        if not existing.is_dir():
            which = "is a file" if existing == out else f"{existing} is a file"
            raise BadInput(option, out, f"{which}; it must be a folder, or not exist yet")


def require_machine(arguments: argparse.Namespace) -> None:
    """Raise `BadInput` if a local trial needs more GPUs or cores than there are.

    Also if a running cluster is given `--cpus`.
    """
    if arguments.address != "local":
        if arguments.cpus:
            reason = "is for a Ray on this machine; a running cluster has what it has"
            raise BadInput("--cpus", arguments.cpus, reason)
        return
    gpus, cpus = arguments.gpus_per_trial, arguments.cpus_per_trial
    if gpus not in ("auto", 0):
        import torch

        seen = torch.cuda.device_count()
        if gpus > seen:
            allowed = f"this machine has {seen} GPUs; 0 runs on the CPU"
            raise BadInput("--gpus-per-trial", f"{gpus:g}", allowed)
    usable = arguments.cpus or cores()
    if cpus > usable:
        raise BadInput("--cpus-per-trial", f"{cpus:g}", f"{counted(usable, 'core')} can be used")
