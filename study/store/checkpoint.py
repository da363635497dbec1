"""Checkpoint of a block in progress: saved after an epoch, loaded by the block's next try.

One safetensors file, RESULTS/progress/BLOCK.safetensors, holds the tensors, and all else as JSON in
its header. So one rename, or one PUT, replaces the whole. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import json
import time

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from study.store.places import Place
from trainables.contract import Progress

SAVE_INTERVAL = 10.0
"""Minimum seconds between two saves. An interruption loses at most as much and one epoch."""


class FileCheckpoint:
    """A `trainables.contract.Checkpoint` in a file."""

    def __init__(self, place: Place, name: str, key: str, interval: float = SAVE_INTERVAL) -> None:
        """Checkpoint in the file `name` of `place`.

        What was saved under another `key` is not resumed: see `study.adapter.resume_key`.
        """
        self.place = place
        self.name = name
        self.key = key
        self.interval = interval
        self.last = time.monotonic()
        self.resumed_after: int | None = None
        """The epoch after which this try resumed; None if it started anew."""
        self.earlier_seconds = 0.0
        """Seconds of training up to that epoch, in earlier tries."""

    def due(self) -> bool:
        """True if the last save was at least `interval` seconds ago."""
        return time.monotonic() - self.last >= self.interval

    def save(self, progress: Progress) -> None:
        """Replace the file in one step.

        Raises `OSError`, or `StoreError` in a bucket, if that is impossible.
        """
        tensors = {name: value.cpu().contiguous() for name, value in progress.tensors.items()}
        content = json.dumps(
            {"key": self.key, "epoch": progress.epoch, "numbers": dict(progress.numbers)}
        )
        header = {"progress": content, "sha256": _digest(content, tensors)}
        self.place.write(self.name, save(tensors, header))
        self.last = time.monotonic()

    def load(self) -> Progress | None:
        """Progress in the file; None if it is absent, damaged or has another key.

        Then the block starts anew, which costs time and changes no result.
        """
        progress = self._read()
        if progress:
            self.resumed_after = progress.epoch
            self.earlier_seconds = progress.numbers.get("seconds", 0.0)
        return progress

    def _read(self) -> Progress | None:
        try:
            file = self.place.read(self.name)
            tensors = load(file)
            header = _header(file)
            known = json.loads(header["progress"])
            progress = Progress(known["epoch"], tensors, known["numbers"])
            whole = _digest(header["progress"], tensors) == header["sha256"]
            return progress if whole and known["key"] == self.key else None
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError):
            return None

    def remove(self) -> None:
        """Delete the file, when the block is done."""
        self.place.delete(self.name)


def _header(file: bytes) -> dict[str, str]:
    """Metadata of a safetensors file that has been read without error."""
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]).get("__metadata__", {})


def _digest(content: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy())
    return digest.hexdigest()
