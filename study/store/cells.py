"""Finished blocks as facts: written once, under the name of what they were computed from.

    RESULTS/format.json        which form the rest has
    RESULTS/study.json         the cells that the latest command asked for
    RESULTS/blocks/ID/A-B.json         replicates A to B of the cell ID are finished: two lines, a
                                       SHA-256 and the configuration, rows, history, provenance …
    RESULTS/blocks/ID/A-B.TRY-SIZE.safetensors    their weights and predictions
    RESULTS/failed/ID.json     why a cell has no result
    RESULTS/progress/          blocks in progress, as `study.store.checkpoint` keeps them
    RESULTS/damaged/           blocks whose files are no longer what was written
    RESULTS/search/NAME.json   the trials of a search, as `study search` leaves them
    RESULTS/report/            what `analysis` makes of it
    RESULTS/tune/              Ray Tune's own tables and TensorBoard files

RESULTS is a folder or a URI of a bucket. The arrays of a block are written first, under a name that
no other writer has; the JSON file, written in one step and only if there is none, makes the block
exist. Whatever is read is verified by its SHA-256, and none of it can run code.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from study.errors import StoreError
from study.store.formats import ID, NAME, is_block, is_plan, is_search
from study.store.places import Folder, Place, at
from study.words import plain, reason

if TYPE_CHECKING:  # knowing which blocks are done needs neither numpy, pandas nor torch
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from trainables.contract import Outcome

FORMAT = orjson.dumps({"format": 2})
PREDICTIONS = "predictions"
"""Name of the predictions among the arrays of a block."""
OLD = 3600.0
"""Seconds after which arrays that belong to no block are a dead writer's."""


class Block(NamedTuple):
    """Replicates of a cell that are computed and stored together."""

    cell: str
    """Id of the cell."""
    replicates: range
    """Their numbers."""

    @property
    def name(self) -> str:
        """`0123456789abcdef.4-19`. Raises `StoreError` unless `cell` is an id."""
        return f"{checked_id(self.cell)}.{self.replicates.start}-{self.replicates.stop - 1}"

    @property
    def marker(self) -> str:
        """Name of the file that makes it exist, in a place."""
        return f"blocks/{self.name.replace('.', '/')}.json"

    def arrays(self, name: str) -> str:
        """Name of the file with its arrays, of which `name` is the writer's own part."""
        return f"{self.marker.removesuffix('.json')}.{name}.safetensors"

    @staticmethod
    def parse(name: str) -> Block | None:
        """The block of this name; None where it is not the name of one."""
        found = re.fullmatch(r"([0-9a-f]{16})\.(\d{1,9})-(\d{1,9})", name)
        if not found or int(found[2]) > int(found[3]):
            return None
        return Block(found[1], range(int(found[2]), int(found[3]) + 1))


class DamagedBlock(StoreError):
    """A finished block with a file that is no longer what was written."""

    def __init__(self, block: Block, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: damaged ({problem}); `study run` recomputes the block")
        self.block = block
        self.reason = f"damaged: {str(path).rpartition('/')[2]}: {problem}"
        """Which file and what, without the path: the same wherever the results are moved."""
        self.arguments = block, path, problem

    def __reduce__(self) -> tuple[Any, ...]:  # it goes from the report's process to the driver's
        return type(self), self.arguments


class Store:
    """The blocks of a results folder, or of a place in a bucket."""

    def __init__(self, place: str | Path | Place) -> None:
        """Raises `StoreError` where `place` is a URI of no use."""
        self.place = at(place)
        self.address = self.place.address
        """Text that makes the same store on any node."""
        self._known: dict[str, list[range]] = {}

    def reach(self) -> None:
        """Raise `StoreError` where results can't be read from here; that there are none is fine."""
        self.place.reach()

    def create(self) -> None:
        """Make it ready to be written to. Raises `StoreError` where that is impossible."""
        self.require_writable()
        if not self.exists():
            self.place.write("format.json", FORMAT)

    def require_writable(self) -> None:
        """Raise `StoreError` unless `create` would succeed. Leaves no file behind."""
        self.place.create()
        if not self.exists() and self._file("study.json") is not None:
            raise self._older()

    def exists(self) -> bool:
        """Whether `create` has been here. Raises `StoreError` for another form of results."""
        found = self._file("format.json")
        if found not in (None, FORMAT):
            raise self._older()
        return found is not None

    def _older(self) -> StoreError:
        return StoreError(
            f"{self.place.where()} holds results of another version of the study, which can't be "
            "used; choose another --out"
        )

    def _file(self, name: str) -> bytes | None:
        try:
            return self.place.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            path = self.place.where(name)
            raise StoreError(f"{path}: can't be read ({error.strerror})") from error

    def leave_mark(self) -> str:
        """Leave a file of a new name, by which others can tell that they see this place; return
        the name."""
        mark = f".mark.{uuid.uuid4().hex}.json"
        self.place.write(mark, b"")
        return mark

    def has_mark(self, mark: str) -> bool:
        """Whether `leave_mark` has left this one here."""
        return self._file(mark) is not None

    def remove_mark(self, mark: str) -> None:
        """Take it away."""
        self.place.delete(mark)

    # --- which blocks there are --------------------------------------------------------------

    def _listed(self, cell: str | None = None) -> dict[Block, dict[str, int]]:
        """The blocks of one cell or all, finished or not: their files' names and sizes."""
        prefix = "" if cell is None else f"{checked_id(cell)}/"
        found: dict[Block, dict[str, int]] = {}
        for name, size in self.place.list(
            "/".join(["blocks", cell] if cell else ["blocks"])
        ).items():
            folder, _, file = (prefix + name).partition("/")
            if block := Block.parse(f"{folder}.{file.partition('.')[0]}"):
                found.setdefault(block, {})[f"blocks/{folder}/{file}"] = size
        return found

    def blocks(self) -> dict[str, list[range]]:
        """By cell, the replicates of its finished blocks, sorted: from one listing."""
        self._known = finished(self._listed())
        return {cell: list(found) for cell, found in self._known.items()}

    def has(self, block: Block) -> bool:
        """Whether a block is finished."""
        return block.marker in self._listed(block.cell).get(block, ())

    def verify(self, cells: Collection[str]) -> dict[Block, str]:
        """The damaged blocks of these cells, and what is wrong with each.

        In a folder every byte is read: half a second a gigabyte. A bucket verifies what it stores;
        there a block is read only if the listing lacks its arrays, or has others.
        """
        listed, asked = self._listed(), set(cells)
        self._known = finished(listed)
        suspects = [
            block
            for block, files in listed.items()
            if block.cell in asked
            and block.marker in files
            and (isinstance(self.place, Folder) or not looks_whole(files))
        ]
        reasons = self.place.each(self._damage, suspects)
        return {b: why for b, why in zip(suspects, reasons, strict=True) if why is not None}

    def _damage(self, block: Block) -> str | None:
        """The damage of a block, after reading every byte; None for a whole one."""
        try:
            self._arrays(block, self._content(block))
        except DamagedBlock as error:
            return error.reason
        return None

    def set_aside(self, block: Block) -> Path | str:
        """Move a damaged block to where nothing reads it, and return where that is."""
        files = sorted(
            self._listed(block.cell).get(block, {}), key=lambda name: name != block.marker
        )
        target = f"damaged/{block.name}-{uuid.uuid4().hex[:8]}"
        for name in files:  # the marker first, so that there never is half a block
            content = None
            with suppress(OSError):  # nothing is kept of what can't be read
                content = self.place.read(name)
            if content is not None:
                self.place.write(f"{target}/{name.rpartition('/')[2]}", content)
            self.place.delete(name)
        self._known = {}
        return self.place.where(target)

    def progress(self, block: Block) -> str:
        """The name, in the store's place, of the file for a block in progress."""
        return f"progress/{block.name}.safetensors"

    def begun(self) -> dict[str, list[range]]:
        """By cell, the replicates of blocks in progress."""
        found: dict[str, list[range]] = {}
        for name in self.place.list("progress"):
            if block := Block.parse(name.removesuffix(".safetensors")):
                found.setdefault(block.cell, []).append(block.replicates)
        return found

    def tidy(self) -> None:
        """Remove what killed processes have left: temporary files, arrays that belong to no block,
        the progress of blocks that are done. Only for who holds the lock."""
        if isinstance(self.place, Folder):
            self.place.sweep()
        listed = self._listed()
        for block, files in listed.items():
            kept: str | None = None
            if block.marker in files:
                if len(files) <= 2:
                    continue
                try:
                    arrays = self._content(block)["arrays"]
                except DamagedBlock:
                    continue
                kept = arrays and block.arrays(arrays["name"])
            for name in files:
                old = name.endswith(".safetensors") and name != kept
                if old and self.place.age(name) > OLD:
                    self.place.delete(name)
        there = finished(listed)
        for cell, ranges in self.begun().items():
            for replicates in ranges:
                if set(replicates) & set().union(*there.get(cell, ())):
                    self.place.delete(self.progress(Block(cell, replicates)))

    # --- writing -----------------------------------------------------------------------------

    def write_block(
        self,
        block: Block,
        config: Mapping[str, Any],
        parent: str | None,
        outcome: Outcome,
        provenance: Mapping[str, Any],
    ) -> None:
        """Make a finished block of `outcome`. Where another process was faster, its block stays.

        Raises `StoreError` or `OSError` where that is impossible.
        """
        import torch
        from safetensors.torch import save

        arrays = {name: value.cpu().contiguous() for name, value in outcome.weights.items()}
        if outcome.predictions is not None:
            arrays[PREDICTIONS] = torch.from_numpy(outcome.predictions).contiguous()
        content: dict[str, Any] = {
            "config": dict(config),
            "parent": parent,
            "rows": outcome.rows,
            "history": outcome.history,
            "provenance": dict(provenance),
            "arrays": None,
        }
        if arrays:
            data = save(arrays)
            own = f"{uuid.uuid4().hex[:16]}-{len(data)}"
            content["arrays"] = {"name": own, "sha256": sha256(data)}
        line = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        if not is_block(orjson.loads(line), block.replicates):
            raise ValueError(f"{block.name}: its rows or its history are not what a store can hold")
        if not self.exists():
            raise StoreError(f"{self.place.where()} holds no study any more; is it unmounted?")
        if arrays:
            self.place.write(block.arrays(own), data)
        digest = orjson.dumps({"sha256": sha256(line)})
        first = self.place.write(block.marker, digest + b"\n" + line, only_if_absent=True)
        if not first and arrays:
            self.place.delete(block.arrays(own))
        self.place.delete(f"failed/{block.cell}.json")

    def write_failure(self, cell: str, config: Mapping[str, Any], error: str) -> None:
        """Note why a cell has no result; `error` may be a traceback, whose last line is kept
        apart as the reason."""
        note = {
            "cell": cell,
            "config": dict(config),
            "reason": reason(error),
            "traceback": plain(error),
        }
        self.place.write(f"failed/{checked_id(cell)}.json", pretty(note))

    def failures(self) -> dict[str, dict[str, Any]]:
        """By id: what is known of cells whose last try failed (`reason`, `traceback`, …)."""
        names = [name.partition(".json") for name in self.place.list("failed")]
        cells = [cell for cell, *rest in names if ID.fullmatch(cell) and rest == [".json", ""]]
        return dict(zip(cells, self.place.each(self._failure, cells), strict=True))

    def _failure(self, cell: str) -> dict[str, Any]:
        try:
            note = orjson.loads(self.place.read(f"failed/{cell}.json"))
            return {**note, "reason": str(note["reason"])}
        except (OSError, ValueError, KeyError, TypeError):
            # The note itself is damaged. The cell has no result all the same.
            return {"reason": "failed; why can't be read any more"}

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Remember what the latest command asked for."""
        self.place.write("study.json", orjson.dumps(plan))

    def plan(self) -> dict[str, Any]:
        """The plan of the latest command. Raises `StoreError` where there was none."""
        path = self.place.where("study.json")
        content = self._file("study.json")
        if content is None:
            raise StoreError(
                f"{self.place.where()} holds no study (no study.json); `study run` makes one"
            )
        if not self.exists():
            raise self._older()
        plan = decoded(content, path)
        if not is_plan(plan):
            raise StoreError(f"{path}: not what `study run` writes; run it again")
        return plan

    def write_search(self, name: str, content: Mapping[str, Any]) -> None:
        """Remember the trials of a search."""
        if not NAME.fullmatch(name):
            raise StoreError(f"{name!r} is not the name of a search")
        self.place.write(f"search/{name}.json", orjson.dumps(content))

    def searches(self) -> dict[str, dict[str, Any]]:
        """By name: the searches in this place. Raises `StoreError` for one that is damaged."""
        found = {}
        for file in self.place.list("search"):
            name = file.removesuffix(".json")
            if file.endswith(".json") and NAME.fullmatch(name):
                path = self.place.where(f"search/{file}")
                content = decoded(self.place.read(f"search/{file}"), path)
                if not is_search(content):
                    raise StoreError(f"{path}: not what `study search` writes; run it again")
                found[name] = content
        return found

    # --- reading blocks ----------------------------------------------------------------------

    def _content(self, block: Block) -> dict[str, Any]:
        """The content of a finished block's marker, verified."""
        path = self.place.where(block.marker)
        try:
            file = self.place.read(block.marker)
        except FileNotFoundError:
            raise StoreError(f"{block.name} is not finished: {path} is not there") from None
        except OSError as error:
            raise DamagedBlock(block, path, f"can't be read: {error.strerror}") from error
        first, _, line = file.partition(b"\n")
        if first != orjson.dumps({"sha256": sha256(line)}):
            raise DamagedBlock(block, path, "its checksum is not the recorded one")
        try:
            content = orjson.loads(line)
        except ValueError:
            content = None
        if not is_block(content, block.replicates):
            raise DamagedBlock(block, path, "not what was written")
        return content

    def _arrays(self, block: Block, content: Mapping[str, Any]) -> bytes:
        """The safetensors file of a block, verified; empty where it has none."""
        if content["arrays"] is None:
            return b""
        name = block.arrays(content["arrays"]["name"])
        path = self.place.where(name)
        try:
            file = self.place.read(name)
        except OSError as error:
            raise DamagedBlock(block, path, f"can't be read: {error.strerror}") from error
        if sha256(file) != content["arrays"]["sha256"]:
            raise DamagedBlock(block, path, "its checksum is not the recorded one")
        return file

    def _parts(
        self, wanted: Mapping[str, Iterable[int]]
    ) -> Iterator[tuple[Block, dict[str, Any], list[int]]]:
        """The blocks that together have the wanted replicates of each cell: their content, and
        which of their replicates are meant. Raises `StoreError` where one is missing."""
        parts: list[tuple[Block, list[int]]] = []
        for cell, replicates in wanted.items():
            left = list(replicates)
            for found in self._ranges(cell, left):
                if here := [replicate for replicate in left if replicate in found]:
                    parts.append((Block(cell, found), here))
                    left = [replicate for replicate in left if replicate not in found]
            if left:
                raise StoreError(f"{cell} has no replicate {left[0]} in {self.place.where()}")
        contents = self.place.each(self._content, [block for block, _ in parts])
        for (block, here), content in zip(parts, contents, strict=True):
            yield block, content, here

    def _ranges(self, cell: str, replicates: Collection[int]) -> list[range]:
        """The finished blocks of a cell, listed again unless those known have the replicates."""
        known = self._known.get(cell, [])
        if not set(replicates) <= set().union(*known):
            known = finished(self._listed(cell)).get(cell, [])
            self._known[cell] = known
        return known

    def rows(self, wanted: Mapping[str, int]) -> pd.DataFrame:
        """The rows of the first so many replicates of each cell, one a replicate."""
        import pandas as pd

        # A row may correct a setting: `batch_size` 0 stands for a number that it knows.
        return pd.DataFrame(
            [
                {"cell": block.cell, **content["config"], "encoder_cell": content["parent"], **row}
                for block, content, here in self._parts(first(wanted))
                for row in content["rows"]
                if row["replicate"] in here
            ]
        )

    def history(self, wanted: Mapping[str, int]) -> pd.DataFrame:
        """The histories of the first so many replicates of each cell, one line a replicate and
        epoch, by epoch: in whichever blocks they were computed."""
        import pandas as pd

        lines = [
            {"cell": block.cell, **line}
            for block, content, here in self._parts(first(wanted))
            for line in content["history"]
            if line["replicate"] in here
        ]
        order = {cell: number for number, cell in enumerate(wanted)}
        lines.sort(key=lambda line: (order[line["cell"]], line["epoch"], line["replicate"]))
        return pd.DataFrame(lines)

    def config(self, cell: str) -> dict[str, Any]:
        """The complete configuration of a cell."""
        known = self._known.get(cell) or self._ranges(cell, [0])
        if not known:
            raise StoreError(f"{cell} is not finished")
        return dict(self._content(Block(cell, known[0]))["config"])

    def provenance(self, cells: Iterable[str]) -> list[dict[str, Any]]:
        """The provenance of the blocks of these cells: one dictionary a block."""
        return self.provenance_of(
            Block(cell, found) for cell in cells for found in self._ranges(cell, [0])
        )

    def provenance_of(self, blocks: Iterable[Block]) -> list[dict[str, Any]]:
        """The provenance of each of these blocks."""
        return [dict(content["provenance"]) for content in self.place.each(self._content, blocks)]

    def _tensors(self, cell: str, replicates: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """By replicate: its arrays, predictions included, on the CPU."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        found = {}
        for block, content, here in self._parts({cell: replicates}):
            try:
                arrays = load(self._arrays(block, content)) if content["arrays"] else {}
                for replicate in here:
                    row = block.replicates.index(replicate)
                    found[replicate] = {name: value[row] for name, value in arrays.items()}
            except (SafetensorError, IndexError) as error:
                path = self.place.where(block.marker)
                raise DamagedBlock(block, path, "its arrays are not what was written") from error
        return found

    def weights(self, cell: str, replicates: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """The weights of single models by number of the replicate, on the CPU."""
        return {
            replicate: {name: value for name, value in arrays.items() if name != PREDICTIONS}
            for replicate, arrays in self._tensors(cell, replicates).items()
        }

    def predictions(self, cell: str, replicates: Iterable[int]) -> np.ndarray:
        """Predicted classes (R, N_test) uint8, or angles float32, of these replicates."""
        import numpy as np

        wanted = list(replicates)
        found = self._tensors(cell, wanted)
        if any(PREDICTIONS not in arrays for arrays in found.values()):
            raise StoreError(f"{cell} has no predictions")
        return np.stack([found[replicate][PREDICTIONS].numpy() for replicate in wanted])


def first(wanted: Mapping[str, int]) -> dict[str, range]:
    """By cell, the numbers of the first so many replicates."""
    return {cell: range(count) for cell, count in wanted.items()}


def finished(listed: Mapping[Block, Mapping[str, int]]) -> dict[str, list[range]]:
    """By cell, the replicates of the blocks whose marker is there, sorted."""
    found: dict[str, list[range]] = {}
    for block in sorted(
        (block for block, files in listed.items() if block.marker in files),
        key=lambda block: (block.cell, block.replicates.start, block.replicates.stop),
    ):
        found.setdefault(block.cell, []).append(block.replicates)
    return found


def looks_whole(files: Mapping[str, int]) -> bool:
    """Whether a listing has one file of arrays beside the marker, of the size in its name."""
    arrays = [size for name, size in files.items() if name.endswith(f"-{size}.safetensors")]
    return len(files) == 2 and len(arrays) == 1


def checked_id(cell: str) -> str:
    """`cell`, if it is an id, and so may be a part of a name."""
    if not ID.fullmatch(cell):
        raise StoreError(f"{cell!r} is not the id of a cell")
    return cell


def sha256(content: bytes) -> str:
    """By which content is known to be what was written: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def decoded(content: bytes, path: Path | str) -> Any:
    """The content of a JSON file."""
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise StoreError(f"{path}: can't be read ({error})") from error


def pretty(content: Any) -> bytes:
    """JSON for people."""
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)
