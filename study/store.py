"""Finished cells as facts on disk: written once, under the name of what they were computed from.

    RESULTS/study.json         the cells that the latest command asked for
    RESULTS/cells/ID/          config.json, rows.parquet, history.parquet, weights.safetensors,
                               predictions.npz (those that the cell has), and done.json
    RESULTS/failed/ID.json     why a cell has no result
    RESULTS/progress/          cells that are being computed, as `study.checkpoint` keeps them
    RESULTS/damaged/ID-N/      cells whose files are no longer what was written
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
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from study.words import plain, reason

if TYPE_CHECKING:  # knowing which cells are done needs neither numpy, pandas nor torch
    import numpy as np
    import pandas as pd
    import torch

    from trainables.contract import Outcome

MARKER = "done.json"
FILES = ("config.json", "rows.parquet", "history.parquet", "weights.safetensors", "predictions.npz")
"""All that a cell may have besides its marker."""
PLAN = ("study", "command", "dataset", "fingerprint")
"""What a plan has besides its experiments, each a word or a line."""
IDENTITY = re.compile(r"[0-9a-f]{16}")


class StoreError(RuntimeError):
    """A results folder, or a cell in it, that can't be used: says which and why."""


class DamagedCell(StoreError):
    """A finished cell with a file that is no longer what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: damaged ({what}); `study run` recomputes the cell")
        self.reason = f"damaged: {path.name}: {what}"
        """Which file and what, without the path: the same wherever the results are moved."""


def _write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """Replace `path` in one step."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(json.dumps(content, indent=indent), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: can't be read ({error})") from error


def _is_plan(content: Any) -> bool:
    """Whether this has what readers of a plan rely on; its ids become paths."""
    try:
        return all(isinstance(content[name], str) for name in PLAN) and all(
            isinstance(planned["name"], str)
            and isinstance(planned["metric"], str)
            and IDENTITY.fullmatch(cell["id"])
            and set(planned["axes"]) <= set(cell["config"])
            and (cell["parent"] is None or IDENTITY.fullmatch(cell["parent"]))
            for planned in content["experiments"]
            for cell in planned["cells"]
        )
    except (LookupError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(path: Path, known: object) -> Path:
    """`path`, if its content has the SHA-256 `known`."""
    try:
        found = _sha256(path)
    except OSError as error:
        raise DamagedCell(path, f"can't be read: {error.strerror}") from error
    if found != known:
        raise DamagedCell(path, "its checksum is not the recorded one")
    return path


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Whatever a decoder makes of foreign content, as one kind of error that names the file."""
    from pyarrow.lib import ArrowException
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError, ValueError, TypeError, LookupError, EOFError, NotImplementedError,
        ArrowException, BadZipFile, SafetensorError, zlib.error,
    ) as error:  # fmt: skip
        raise StoreError(f"{path}: can't be read ({error})") from error


class Store:
    """The results folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self.cells = self.folder / "cells"
        self.failed = self.folder / "failed"
        self.set_aside = self.folder / "damaged"
        self.in_progress = self.folder / "progress"

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

    def leave_mark(self) -> str:
        """Leave a file of a new name, by which others can tell that they see this folder; return
        the name."""
        mark = f".mark.{uuid.uuid4().hex}"
        (self.folder / mark).touch()
        return mark

    def has_mark(self, mark: str) -> bool:
        """Whether `leave_mark` has left this one here."""
        return (self.folder / mark).exists()

    def remove_mark(self, mark: str) -> None:
        """Take it away."""
        (self.folder / mark).unlink(missing_ok=True)

    def has_space(self) -> bool:
        """Whether a mebibyte can still be written."""
        probe = self.folder / f".space.{uuid.uuid4().hex}"
        try:
            probe.write_bytes(bytes(2**20))
        except OSError:
            return False
        finally:
            probe.unlink(missing_ok=True)
        return True

    def _cell(self, identity: str) -> Path:
        if not IDENTITY.fullmatch(identity):
            raise StoreError(f"{identity!r} is not the id of a cell")
        return self.cells / identity

    def progress(self, identity: str) -> Path:
        """The file for a cell in progress."""
        return self.in_progress / f"{self._cell(identity).name}.safetensors"

    def tidy(self) -> None:
        """Remove what processes that were killed have left: temporary files, and the progress
        of cells that are done. Only for who holds the folder's lock."""
        for folder in (self.cells, self.in_progress):
            for left in folder.glob(".*.*"):
                if not IDENTITY.match(left.name[1:]):
                    continue
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
        for identity in self.done():
            self.progress(identity).unlink(missing_ok=True)

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
        notes = {}
        for path in sorted(self.failed.glob("*.json")):
            if IDENTITY.fullmatch(path.stem):
                try:
                    note = _read_json(path)
                    notes[path.stem] = {**note, "reason": str(note["reason"])}
                except (StoreError, KeyError, TypeError):
                    # The note itself is damaged. The cell has no result all the same.
                    notes[path.stem] = {"reason": "failed; why can't be read any more"}
        return notes

    def damaged(self, identities: Iterable[str]) -> dict[str, str]:
        """What is wrong with those of these finished cells whose files are not the ones that
        were written, by id. Reads every byte of them: half a second a gigabyte."""
        found = {}
        for identity in identities:
            try:
                for name, known in self.marker(identity)["files"].items():
                    _checked(self._cell(identity) / name, known)
            except DamagedCell as error:
                found[identity] = error.reason
        return found

    def put_aside(self, identity: str) -> Path:
        """Move a damaged cell to where nothing reads it, and return where that is."""
        number = 1
        self.set_aside.mkdir(exist_ok=True)
        while (place := self.set_aside / f"{identity}-{number}").exists():
            number += 1
        self._cell(identity).rename(place)
        return place

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
        from safetensors.torch import save

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
                # Not `save_file`, whose error for a full disk is one of its own.
                (temporary / "weights.safetensors").write_bytes(save(weights))
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

    def has_plan(self) -> bool:
        """Whether a study has been started here."""
        return (self.folder / "study.json").is_file()

    def plan(self) -> dict[str, Any]:
        """What the latest command asked for. Raises `StoreError` where there was none."""
        path = self.folder / "study.json"
        if not self.has_plan():
            raise StoreError(f"{self.folder} holds no study (no study.json); `study run` makes one")
        plan = _read_json(path)
        if not _is_plan(plan):
            raise StoreError(f"{path}: not what `study run` writes; run it again")
        return plan

    def marker(self, identity: str) -> dict[str, Any]:
        """`files` with their checksums and `provenance`."""
        path = self._cell(identity) / MARKER
        if not path.exists():
            raise StoreError(f"cell {identity} is not finished: {path} is not there")
        try:
            marker = _read_json(path)
        except StoreError as error:
            raise DamagedCell(path, "can't be read") from error
        if not (
            isinstance(marker, dict)
            and isinstance(marker.get("provenance"), dict)
            and isinstance(marker.get("files"), dict)
            and {"config.json", "rows.parquet"} <= set(marker["files"]) <= set(FILES)
        ):
            raise DamagedCell(path, "not what was written")
        return marker

    def _file(self, identity: str, name: str) -> Path:
        known = self.marker(identity)["files"].get(name)
        if known is None:
            raise StoreError(f"cell {identity} has no {name}")
        return _checked(self._cell(identity) / name, known)

    def config(self, identity: str) -> dict[str, Any]:
        """The complete configuration of a cell."""
        path = self._file(identity, "config.json")
        with _decoding(path):
            return dict(_read_json(path)["config"])

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
            path = self._file(identity, name)
            with _decoding(path):
                table = pd.read_parquet(path)
            if "cell" not in table:
                table.insert(0, "cell", identity)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def weights(self, identity: str) -> dict[str, torch.Tensor]:
        """Stacked weights of a cell's replicates, (R, …) each, on the CPU."""
        from safetensors.torch import load_file

        path = self._file(identity, "weights.safetensors")
        with _decoding(path):
            return load_file(path)

    def predictions(self, identity: str) -> np.ndarray:
        """Predicted classes (R, N_test) uint8, or angles float32."""
        import numpy as np

        path = self._file(identity, "predictions.npz")
        with _decoding(path), np.load(path, allow_pickle=False) as arrays:
            return arrays["predictions"]
