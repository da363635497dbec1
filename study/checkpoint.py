"""A cell in progress on disk: written every few seconds, read by whoever tries the cell next.

One safetensors file, RESULTS/progress/ID.safetensors: the tensors, and all else as JSON in its
header, so that one rename replaces the whole. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainables.contract import Progress

EVERY = 10.0
"""Seconds between two saves at least: what an interruption costs at most, and one epoch."""


class FileCheckpoint:
    """A `trainables.contract.Checkpoint` in a file."""

    def __init__(self, path: Path, code: str, every: float = EVERY) -> None:
        """`code` names all that the bits of a result depend on besides the cell; what other code
        has left is not gone on with."""
        self.path = path
        self.code = code
        self.every = every
        self.last = time.monotonic()
        self.resumed_after: int | None = None
        """The epoch that this try went on from; None where it started anew."""

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.last >= self.every

    def save(self, progress: Progress) -> None:
        """Replace the file in one step. Raises `OSError` where that is impossible."""
        tensors = {name: value.cpu().contiguous() for name, value in progress.tensors.items()}
        content = json.dumps(
            {"code": self.code, "epoch": progress.epoch, "numbers": dict(progress.numbers)}
        )
        header = {"progress": content, "sha256": _digest(content, tensors)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(save(tensors, header))
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self.last = time.monotonic()

    def load(self) -> Progress | None:
        """What the file holds; None where there is none, it is damaged, or other code wrote it:
        then the cell starts anew, which costs time and changes nothing."""
        progress = self._read()
        self.resumed_after = progress.epoch if progress else None
        return progress

    def _read(self) -> Progress | None:
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        content = header.get("progress", "")
        if _digest(content, tensors) != header.get("sha256"):
            return None
        known = json.loads(content)
        if known["code"] != self.code:
            return None
        return Progress(known["epoch"], tensors, known["numbers"])

    def remove(self) -> None:
        """Forget what is kept: the cell is done."""
        self.path.unlink(missing_ok=True)


def _digest(content: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy())
    return digest.hexdigest()
