"""Finished cells as facts on disk: written once, under the name of what they were computed from.

    RESULTS/study.json         the cells that the latest command asked for
    RESULTS/cells/ID/          config.json, rows.parquet, history.parquet, weights.safetensors,
                               predictions.npz (those that the cell has), and done.json
    RESULTS/failed/ID.json     why a cell has no result
    RESULTS/report/            what `analysis` makes of it
    RESULTS/tune/              Ray Tune's own tables and TensorBoard files

A cell is written to a temporary folder, its marker `done.json` last, and renamed: half a cell
does not exist. The marker holds a SHA-256 of every file. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.words import plain, reason

if TYPE_CHECKING:  # knowing which cells are done needs neither numpy, pandas nor torch
    import numpy as np
    import pandas as pd
    import torch

    from trainables.contract import Outcome

MARKER = "done.json"
IDENTITY = re.compile(r"[0-9a-f]{16}")


class StoreError(RuntimeError):
    """A results folder, or a cell in it, that can't be used: says which and why."""


def _write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """Replace `path` in one step."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content, indent=indent))
    os.replace(temporary, path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read ({error})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """The results folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self.cells = self.folder / "cells"
        self.failed = self.folder / "failed"

    def create(self) -> None:
        """Make the folders. Raises `StoreError` where that is impossible."""
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"{self.folder} is a file, not a folder")
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            self.failed.mkdir(exist_ok=True)
            probe = self.folder / f".writable.{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(f"{self.folder} can't be written to ({error.strerror})") from error

    def _cell(self, identity: str) -> Path:
        if not IDENTITY.fullmatch(identity):
            raise StoreError(f"{identity!r} is not the id of a cell")
        return self.cells / identity

    # --- what is there -----------------------------------------------------------------------

    def done(self) -> set[str]:
        """Ids of all finished cells."""
        if not self.cells.is_dir():
            return set()
        return {
            entry.name
            for entry in os.scandir(self.cells)
            if IDENTITY.fullmatch(entry.name) and os.path.exists(os.path.join(entry.path, MARKER))
        }

    def failures(self) -> dict[str, dict[str, Any]]:
        """By id: what is known of cells whose last try failed (`reason`, `traceback`, …)."""
        if not self.failed.is_dir():
            return {}
        return {
            path.stem: _read_json(path)
            for path in sorted(self.failed.glob("*.json"))
            if IDENTITY.fullmatch(path.stem)
        }

    # --- writing -----------------------------------------------------------------------------

    def write(
        self,
        identity: str,
        config: Mapping[str, Any],
        parent: str | None,
        outcome: Outcome,
        provenance: Mapping[str, Any],
    ) -> None:
        """Make a finished cell of `outcome`. Where another process was faster, its cell stays."""
        import numpy as np
        import pandas as pd
        from safetensors.torch import save_file

        final = self._cell(identity)
        temporary = self.cells / f".{identity}.{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            _write_json(temporary / "config.json", {"config": dict(config), "parent": parent})
            settings = {k: v for k, v in config.items() if k != "replicates"}
            rows = pd.DataFrame(
                # A row may correct a setting: `batch_size` 0 stands for a number that it knows.
                [
                    {"cell": identity, **settings, "encoder_cell": parent, **row}
                    for row in outcome.rows
                ]
            )
            rows.to_parquet(temporary / "rows.parquet", index=False)
            if outcome.history:
                pd.DataFrame(outcome.history).to_parquet(temporary / "history.parquet", index=False)
            if outcome.weights:
                weights = {name: w.cpu().contiguous() for name, w in outcome.weights.items()}
                save_file(weights, temporary / "weights.safetensors")
            if outcome.predictions is not None:
                np.savez_compressed(temporary / "predictions.npz", predictions=outcome.predictions)
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            _write_json(temporary / MARKER, {"files": files, "provenance": dict(provenance)})
            if not (final / MARKER).exists():
                # A folder without a marker is what a copy or a deletion left half done.
                shutil.rmtree(final, ignore_errors=True)
            try:
                temporary.rename(final)
            except OSError:
                if not (final / MARKER).exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        (self.failed / f"{identity}.json").unlink(missing_ok=True)

    def write_failure(self, identity: str, config: Mapping[str, Any], error: str) -> None:
        """Note why a cell has no result; `error` may be a traceback, whose last line is kept
        apart as the reason."""
        self._cell(identity)
        self.failed.mkdir(parents=True, exist_ok=True)
        _write_json(
            self.failed / f"{identity}.json",
            {
                "cell": identity,
                "config": dict(config),
                "reason": reason(error),
                "traceback": plain(error),
            },
        )

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Remember what the latest command asked for."""
        # Compact, as only that takes json's fast path: 15 times as fast for 10,000 cells.
        _write_json(self.folder / "study.json", plan, indent=None)

    # --- reading -----------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        """What the latest command asked for. Raises `StoreError` where there was none."""
        path = self.folder / "study.json"
        if not path.is_file():
            raise StoreError(f"{self.folder} holds no study (no study.json); `study run` makes one")
        return _read_json(path)

    def _file(self, identity: str, name: str) -> Path:
        path = self._cell(identity) / name
        known = _read_json(self._cell(identity) / MARKER)["files"].get(name)
        if known is None:
            raise StoreError(f"cell {identity} has no {name}")
        if not path.is_file() or _sha256(path) != known:
            raise StoreError(
                f"{path}: damaged (its checksum is not the recorded one); "
                f"delete {path.parent} and run the study again to recompute it"
            )
        return path

    def marker(self, identity: str) -> dict[str, Any]:
        """`files` with their checksums and `provenance`."""
        return _read_json(self._cell(identity) / MARKER)

    def config(self, identity: str) -> dict[str, Any]:
        """The complete configuration of a cell."""
        return _read_json(self._file(identity, "config.json"))["config"]

    def rows(self, identities: Iterable[str]) -> pd.DataFrame:
        """The rows of cells, one a replicate."""
        return self._tables(identities, "rows.parquet")

    def history(self, identities: Iterable[str]) -> pd.DataFrame:
        """The histories of cells, one line a replicate and epoch; column `cell` says whose."""
        return self._tables(identities, "history.parquet")

    def _tables(self, identities: Iterable[str], name: str) -> pd.DataFrame:
        import pandas as pd

        tables = []
        for identity in identities:
            table = pd.read_parquet(self._file(identity, name))
            if "cell" not in table:
                table.insert(0, "cell", identity)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def weights(self, identity: str) -> dict[str, torch.Tensor]:
        """Stacked weights of a cell's replicates, (R, …) each, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self._file(identity, "weights.safetensors"))

    def predictions(self, identity: str) -> np.ndarray:
        """Predicted classes (R, N_test) uint8."""
        import numpy as np

        with np.load(self._file(identity, "predictions.npz"), allow_pickle=False) as arrays:
            return arrays["predictions"]
