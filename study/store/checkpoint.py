"""A cell in progress: written every few seconds, read by whoever tries the cell next.

One safetensors file, RESULTS/progress/ID.safetensors: the tensors, and all else as JSON in its
header, so that one rename, or one PUT, replaces the whole. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import json
import time

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from study.store.storage import Place
from trainables.contract import Progress

EVERY = 10.0
"""Seconds between two saves at least: what an interruption costs at most, and one epoch."""


class FileCheckpoint:
    """A `trainables.contract.Checkpoint` in a file."""

    def __init__(self, place: Place, name: str, code: str, every: float = EVERY) -> None:
        """The file `name` of `place`. `code` names all that the bits of a result depend on besides
        the cell; what other code has left is not gone on with."""
        self.place = place
        self.name = name
        self.code = code
        self.every = every
        self.last = time.monotonic()
        self.resumed_after: int | None = None
        """The epoch that this try went on from; None where it started anew."""

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.last >= self.every

    def save(self, progress: Progress) -> None:
        """Replace the file in one step. Raises `OSError`, or on object storage `StoreError`,
        where that is impossible."""
        tensors = {name: value.cpu().contiguous() for name, value in progress.tensors.items()}
        content = json.dumps(
            {"code": self.code, "epoch": progress.epoch, "numbers": dict(progress.numbers)}
        )
        header = {"progress": content, "sha256": _digest(content, tensors)}
        self.place.replace(self.name, save(tensors, header))
        self.last = time.monotonic()

    def load(self) -> Progress | None:
        """What the file holds; None where there is none, it is damaged, or other code wrote it:
        then the cell starts anew, which costs time and changes nothing."""
        progress = self._read()
        self.resumed_after = progress.epoch if progress else None
        return progress

    def _read(self) -> Progress | None:
        try:
            file = self.place.read(self.name)
            tensors = load(file)
        except (OSError, SafetensorError):
            return None
        header = _header(file)
        content = header.get("progress", "")
        if _digest(content, tensors) != header.get("sha256"):
            return None
        known = json.loads(content)
        if known["code"] != self.code:
            return None
        return Progress(known["epoch"], tensors, known["numbers"])

    def remove(self) -> None:
        """Forget what is kept: the cell is done."""
        self.place.delete(self.name)


def _header(file: bytes) -> dict[str, str]:
    """What a safetensors file, which has been read without error, holds besides its tensors."""
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]).get("__metadata__", {})


def _digest(content: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy())
    return digest.hexdigest()
