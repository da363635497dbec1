"""Finished cells as facts: written once, under the name of what they were computed from.

    RESULTS/study.json         the cells that the latest command asked for
    RESULTS/cells/ID/          config.json, rows.parquet, history.parquet, weights.safetensors,
                               predictions.npz (those that the cell has), and done.json
    RESULTS/failed/ID.json     why a cell has no result
    RESULTS/progress/          cells that are being computed, as `study.store.checkpoint` keeps them
    RESULTS/damaged/ID-N/      cells whose files are no longer what was written
    RESULTS/search/NAME.json   the trials of a search, as `study search` leaves them
    RESULTS/report/            what `analysis` makes of it
    RESULTS/tune/              Ray Tune's own tables and TensorBoard files

RESULTS is a folder or a URI of object storage; `study.store.storage` knows which. In a folder, a
cell is written to a temporary one, its marker `done.json` last, and renamed. On object storage,
which has no rename, the files are in RESULTS/cells/ID/TRY/, and the marker, written last, names
TRY. Either way half a cell does not exist. The marker holds a SHA-256 of every file, which is
verified whenever the file is read. Nothing that is read can run code.
"""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.store.decoding import DamagedCell, checked_identity, decoded, decoding, sha256
from study.store.formats import IDENTITY, TRY, is_plan, is_search
from study.store.storage import Place, StoreError, at
from study.words import plain, reason

if TYPE_CHECKING:  # knowing which cells are done needs neither numpy, pandas nor torch
    import numpy as np
    import pandas as pd
    import torch

    from trainables.contract import Outcome

MARKER = "done.json"
FILES = ("config.json", "rows.parquet", "history.parquet", "weights.safetensors", "predictions.npz")
"""All that a cell may have besides its marker."""
SEARCH = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class State:
    """What is known of some cells."""

    done: set[str]
    """Ids of those that are finished and whole."""
    damaged: dict[str, str]
    """By id: what is wrong with finished ones that are no longer what was written."""


def _inside(identity: str, marker: Mapping[str, Any]) -> str:
    """The folder of a cell's files. One that was fetched from object storage keeps its form."""
    return f"cells/{identity}/{marker['try']}" if "try" in marker else f"cells/{identity}"


class Store:
    """The cells of a results folder, or of a place on object storage."""

    def __init__(self, place: str | Path | Place) -> None:
        """Raises `StoreError` where `place` is a URI of no use."""
        self.place = at(place)
        self.folder = self.place.where()
        """Path or URI: as text, it makes the same store on any node."""
        self.cells = self.place.where("cells")
        self.failed = self.place.where("failed")
        self.set_aside = self.place.where("damaged")
        self.in_progress = self.place.where("progress")

    def create(self) -> None:
        """Make it ready to be written to. Raises `StoreError` where that is impossible."""
        self.place.create("cells", "failed")

    def leave_mark(self) -> str:
        """Leave a file of a new name, by which others can tell that they see this place; return
        the name."""
        mark = f".mark.{uuid.uuid4().hex}"
        self.place.replace(mark, b"")
        return mark

    def has_mark(self, mark: str) -> bool:
        """Whether `leave_mark` has left this one here."""
        return self.place.exists(mark)

    def remove_mark(self, mark: str) -> None:
        """Take it away."""
        self.place.delete(mark)

    def progress(self, identity: str) -> str:
        """The name, in the store's place, of the file for a cell in progress."""
        return f"progress/{checked_identity(identity)}.safetensors"

    def tidy(self) -> None:
        """Remove what processes that were killed have left: temporary files, and the progress
        of cells that are done. Only for who holds the lock."""
        for folder in ("cells", "progress"):
            self.place.sweep(folder, MARKER, lambda name: IDENTITY.match(name) is not None)
        in_progress = self.place.names("progress")
        done = self.done() if in_progress else set()
        for name in in_progress:
            if name.removesuffix(".safetensors") in done:
                self.place.delete(f"progress/{name}")

    # --- what is there -----------------------------------------------------------------------

    def _finished(self) -> dict[str, bool]:
        """Finished cells, and whether each is known to be whole without reading it."""
        found = self.place.finished("cells", MARKER)
        return {name: sure for name, sure in found.items() if IDENTITY.fullmatch(name)}

    def done(self) -> set[str]:
        """Ids of all finished cells."""
        return set(self._finished())

    def state(self, identities: Iterable[str]) -> State:
        """Which of these cells are done, and which are damaged.

        In a folder every byte of them is read: half a second a gigabyte. Object storage is
        listed: a file that is missing, of another size, or written after its cell was finished
        is a reason to read the cell whole; otherwise each file is verified when it is used.
        """
        finished = self._finished()
        asked = sorted(finished.keys() & set(identities))
        unsure = [identity for identity in asked if not finished[identity]]
        reasons = self.place.each(self._reason, unsure)
        found = zip(unsure, reasons, strict=True)
        damaged = {identity: reason for identity, reason in found if reason is not None}
        return State(set(asked) - set(damaged), damaged)

    def damaged(self, identities: Iterable[str]) -> dict[str, str]:
        """What is wrong with those of these finished cells that are damaged, by id."""
        return self.state(identities).damaged

    def _reason(self, identity: str) -> str | None:
        """What is wrong with a cell, every byte of it read; None where nothing is."""
        try:
            marker = self.marker(identity)
            for name in marker["files"]:
                self._verified(identity, name, marker)
        except DamagedCell as error:
            return error.reason
        return None

    def failures(self) -> dict[str, dict[str, Any]]:
        """By id: what is known of cells whose last try failed (`reason`, `traceback`, …)."""
        names = [name for name in self.place.names("failed") if name.endswith(".json")]
        identities = [i for name in names if IDENTITY.fullmatch(i := name.removesuffix(".json"))]
        return dict(zip(identities, self.place.each(self._failure, identities), strict=True))

    def _failure(self, identity: str) -> dict[str, Any]:
        name = f"failed/{identity}.json"
        try:
            note = decoded(self.place.read(name), name)
            return {**note, "reason": str(note["reason"])}
        except (OSError, StoreError, KeyError, TypeError):
            # The note itself is damaged. The cell has no result all the same.
            return {"reason": "failed; why can't be read any more"}

    def put_aside(self, identity: str) -> Path | str:
        """Move a damaged cell to where nothing reads it, and return where that is."""
        return self.place.move_away(f"cells/{checked_identity(identity)}", f"damaged/{identity}")

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

        name = f"cells/{checked_identity(identity)}"
        with self.place.staging(name) as folder:
            (folder / "config.json").write_text(
                json.dumps({"config": dict(config), "parent": parent}, indent=1), encoding="utf-8"
            )
            settings = {k: v for k, v in config.items() if k != "replicates"}
            rows = pd.DataFrame(
                # A row may correct a setting: `batch_size` 0 stands for a number that it knows.
                [
                    {"cell": identity, **settings, "encoder_cell": parent, **row}
                    for row in outcome.rows
                ]
            )
            rows.to_parquet(folder / "rows.parquet", index=False)
            if outcome.history:
                pd.DataFrame(outcome.history).to_parquet(folder / "history.parquet", index=False)
            if outcome.weights:
                weights = {name: w.cpu().contiguous() for name, w in outcome.weights.items()}
                # Not `save_file`, whose error for a full disk is one of its own.
                (folder / "weights.safetensors").write_bytes(save(weights))
            if outcome.predictions is not None:
                np.savez_compressed(folder / "predictions.npz", predictions=outcome.predictions)
            files = {path.name: sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
            content = {"files": files, "provenance": dict(provenance)}
            self.place.publish(folder, name, MARKER, content)
        self.place.delete(f"failed/{identity}.json")

    def write_failure(self, identity: str, config: Mapping[str, Any], error: str) -> None:
        """Note why a cell has no result; `error` may be a traceback, whose last line is kept
        apart as the reason."""
        note = {
            "cell": identity,
            "config": dict(config),
            "reason": reason(error),
            "traceback": plain(error),
        }
        name = f"failed/{checked_identity(identity)}.json"
        self.place.replace(name, json.dumps(note, indent=1).encode())

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Remember what the latest command asked for."""
        # Compact, as only that takes json's fast path: 15 times as fast for 10,000 cells.
        self.place.replace("study.json", json.dumps(plan).encode())

    def write_search(self, name: str, content: Mapping[str, Any]) -> None:
        """Remember the trials of a search."""
        if not SEARCH.fullmatch(name):
            raise StoreError(f"{name!r} is not the name of a search")
        self.place.replace(f"search/{name}.json", json.dumps(content).encode())

    def searches(self) -> dict[str, dict[str, Any]]:
        """By name: the searches in this place. Raises `StoreError` for one that is damaged."""
        found = {}
        for file in self.place.names("search"):
            name = file.removesuffix(".json")
            if file.endswith(".json") and SEARCH.fullmatch(name):
                where = self.place.where(f"search/{file}")
                content = decoded(self.place.read(f"search/{file}"), str(where))
                if not is_search(content):
                    raise StoreError(f"{where}: not what `study search` writes; run it again")
                found[name] = content
        return found

    # --- reading -----------------------------------------------------------------------------

    def has_plan(self) -> bool:
        """Whether a study has been started here."""
        return self.place.exists("study.json")

    def plan(self) -> dict[str, Any]:
        """What the latest command asked for. Raises `StoreError` where there was none."""
        path = self.place.where("study.json")
        try:
            content = self.place.read("study.json")
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"{self.folder} holds no study (no study.json); `study run` makes one"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: can't be read ({error})") from error
        plan = decoded(content, path)
        if not is_plan(plan):
            raise StoreError(f"{path}: not what `study run` writes; run it again")
        return plan

    def marker(self, identity: str) -> dict[str, Any]:
        """`files` with their checksums, `provenance`, and on object storage `try`."""
        name = f"cells/{checked_identity(identity)}/{MARKER}"
        path = self.place.where(name)
        try:
            marker = decoded(self.place.read(name), path)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"cell {identity} is not finished: {path} is not there") from None
        except OSError as error:
            raise DamagedCell(path, f"can't be read: {error.strerror}") from error
        except StoreError as error:
            raise DamagedCell(path, "can't be read") from error
        if not (
            isinstance(marker, dict)
            and isinstance(marker.get("provenance"), dict)
            and isinstance(marker.get("files"), dict)
            and {"config.json", "rows.parquet"} <= set(marker["files"]) <= set(FILES)
            and ("try" not in marker or TRY.fullmatch(str(marker["try"])))
        ):
            raise DamagedCell(path, "not what was written")
        return marker

    def _verified(self, identity: str, name: str, marker: Mapping[str, Any]) -> bytes:
        """The content of a file of a cell, if it has the SHA-256 of the marker."""
        file = f"{_inside(identity, marker)}/{name}"
        try:
            content = self.place.read(file)
        except OSError as error:
            problem = f"can't be read: {error.strerror}"
            raise DamagedCell(self.place.where(file), problem) from error
        if sha256(content) != marker["files"][name]:
            raise DamagedCell(self.place.where(file), "its checksum is not the recorded one")
        return content

    def _file(self, identity: str, name: str) -> tuple[Path | str, bytes]:
        """Where a file of a finished cell is, and its verified content."""
        marker = self.marker(identity)
        if name not in marker["files"]:
            raise StoreError(f"cell {identity} has no {name}")
        content = self._verified(identity, name, marker)
        return self.place.where(f"{_inside(identity, marker)}/{name}"), content

    def config(self, identity: str) -> dict[str, Any]:
        """The complete configuration of a cell."""
        path, content = self._file(identity, "config.json")
        with decoding(path):
            return dict(decoded(content, path)["config"])

    def rows(self, identities: Iterable[str]) -> pd.DataFrame:
        """The rows of cells, one a replicate."""
        return self._tables(identities, "rows.parquet")

    def history(self, identities: Iterable[str]) -> pd.DataFrame:
        """The histories of cells, one line a replicate and epoch; column `cell` says whose."""
        return self._tables(identities, "history.parquet")

    def _tables(self, identities: Iterable[str], name: str) -> pd.DataFrame:
        import pandas as pd

        identities, tables = list(identities), []
        files = self.place.each(lambda identity: self._file(identity, name), identities)
        for identity, (path, content) in zip(identities, files, strict=True):
            with decoding(path):
                table = pd.read_parquet(io.BytesIO(content))
            if "cell" not in table:
                table.insert(0, "cell", identity)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def weights(self, identity: str) -> dict[str, torch.Tensor]:
        """Stacked weights of a cell's replicates, (R, …) each, on the CPU."""
        from safetensors.torch import load

        path, content = self._file(identity, "weights.safetensors")
        with decoding(path):
            return load(content)

    def predictions(self, identity: str) -> np.ndarray:
        """Predicted classes (R, N_test) uint8, or angles float32."""
        import numpy as np

        path, content = self._file(identity, "predictions.npz")
        with decoding(path), np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return arrays["predictions"]
