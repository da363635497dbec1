"""Store of finished blocks: each is written once, under the id of its cell.

    RESULTS/format.json        version of this format
    RESULTS/study.json         the cells that the latest command asked for
    RESULTS/blocks/ID/A-B.json         replicates A to B of the cell ID are finished: two lines, a
                                       SHA-256 and the configuration, rows, history, provenance …
    RESULTS/blocks/ID/A-B.TRY-SIZE.safetensors    their weights and predictions
    RESULTS/failed/ID.json     why a cell has no result
    RESULTS/progress/          blocks in progress, as `study.store.checkpoint` keeps them
    RESULTS/damaged/           blocks whose files are no longer what was written
    RESULTS/search/NAME.json   the trials of a search, written by `study search`
    RESULTS/report/            the report that `analysis` writes
    RESULTS/tune/              Ray Tune's own tables and TensorBoard files

RESULTS is a folder or a URI of a bucket. A block's arrays are written first, under a name that no
other writer uses. Its JSON file makes the block exist; it is written in one step, and only if there
is none. Blocks are verified by their SHA-256 when read. Nothing that is read can run code.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from study.errors import StoreError
from study.store.formats import ID, NAME, is_block, is_plan, is_search
from study.store.places import Folder, Place, open_place
from study.words import plain, reason

if TYPE_CHECKING:  # listing blocks needs neither numpy, pandas nor torch
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from trainables.contract import Outcome

FORMAT = orjson.dumps({"format": 2})
PREDICTIONS = "predictions"
"""Name of the predictions among the arrays of a block."""
ORPHAN_SECONDS = 3600.0
"""Seconds after which arrays that belong to no block are deleted: their writer is dead."""


class Block(NamedTuple):
    """Replicates of a cell that are computed and stored together."""

    cell: str
    """Id of the cell."""
    replicates: range
    """Their numbers."""

    @property
    def name(self) -> str:
        """`0123456789abcdef.4-19`. Raises `StoreError` unless `cell` is an id."""
        return f"{require_id(self.cell)}.{self.replicates.start}-{self.replicates.stop - 1}"

    @property
    def marker(self) -> str:
        """Name, in a place, of the file that makes the block exist."""
        return f"blocks/{self.name.replace('.', '/')}.json"

    def arrays(self, name: str) -> str:
        """Name of the file with the block's arrays; `name` is the part that each writer chooses."""
        return f"{self.marker.removesuffix('.json')}.{name}.safetensors"

    @staticmethod
    def parse(name: str) -> Block | None:
        """Block of this name; None if the name isn't a block's."""
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
        """The file's name and the problem, without the folder: unchanged when results are moved."""
        self.arguments = block, path, problem

    def __reduce__(self) -> tuple[Any, ...]:  # pickled from the report's process to the driver
        return type(self), self.arguments


class Store:
    """The blocks of a results folder, or of a place in a bucket."""

    def __init__(self, place: str | Path | Place) -> None:
        """Raises `StoreError` for a URI that can't be used."""
        self.place = open_place(place)
        self.address = self.place.address
        """Text that opens the same store on any node."""
        self._known: dict[str, list[range]] = {}
        self.digests: dict[Block, bytes] = {}
        """SHA-256 of the content, arrays included, of each block that has been read."""

    def create(self) -> None:
        """Prepare the place for writing. Raises `StoreError` if that is impossible."""
        self.require_writable()
        if not self.exists():
            self.place.write("format.json", FORMAT)

    def require_writable(self) -> None:
        """Raise `StoreError` unless `create` would succeed. Leaves no file behind."""
        self.place.create()
        if not self.exists() and self.file("study.json") is not None:
            raise self._older()

    def exists(self) -> bool:
        """True if `create` has prepared this place. Raises `StoreError` for another format."""
        found = self.file("format.json")
        if found not in (None, FORMAT):
            raise self._older()
        return found is not None

    def _older(self) -> StoreError:
        return StoreError(
            f"{self.place.where()} holds results of another version of the study, which can't be "
            "used; choose another --out"
        )

    def file(self, name: str) -> bytes | None:
        """Content of a file; None if there is none. Raises `StoreError` if it can't be read."""
        try:
            return self.place.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            path = self.place.where(name)
            raise StoreError(f"{path}: can't be read ({error.strerror})") from error

    # --- listing blocks ----------------------------------------------------------------------

    def _listed(self, cell: str | None = None) -> dict[Block, dict[str, int]]:
        """File names and sizes of each block, finished or not, of one cell or of all."""
        top = "blocks" if cell is None else f"blocks/{require_id(cell)}"
        found: dict[Block, dict[str, int]] = {}
        for file, size in self.place.list(top).items():
            name = f"{top}/{file}"
            folder, _, file = name.removeprefix("blocks/").partition("/")
            if block := Block.parse(f"{folder}.{file.partition('.')[0]}"):
                found.setdefault(block, {})[name] = size
        return found

    def blocks(self) -> dict[str, list[range]]:
        """Replicates of the finished blocks of each cell, sorted, from one listing."""
        self._known = finished_ranges(self._listed())
        return {cell: list(found) for cell, found in self._known.items()}

    def has(self, block: Block) -> bool:
        """True if a block is finished."""
        return block.marker in self._listed(block.cell).get(block, ())

    def verify(self, cells: Collection[str]) -> dict[Block, str]:
        """The damaged blocks of these cells, each with the problem.

        In a folder, reads every byte: half a second per gigabyte. A bucket verifies what it stores;
        there, reads only blocks whose listed files fail `looks_whole`.
        """
        listed, asked = self._listed(), set(cells)
        self._known = finished_ranges(listed)
        suspects = [
            block
            for block, files in listed.items()
            if block.cell in asked
            and block.marker in files
            and (isinstance(self.place, Folder) or not looks_whole(files))
        ]
        reasons = self.place.parallel_map(self._damage, suspects)
        return {b: why for b, why in zip(suspects, reasons, strict=True) if why is not None}

    def _damage(self, block: Block) -> str | None:
        """Read every byte of a block, and return its damage; None if it is intact."""
        try:
            self._arrays(block, self._content(block))
        except DamagedBlock as error:
            return error.reason
        return None

    def set_aside(self, block: Block) -> Path | str:
        """Move a damaged block to `damaged/`, which nothing reads; return its new path or URI."""
        files = sorted(
            self._listed(block.cell).get(block, {}), key=lambda name: name != block.marker
        )
        target = f"damaged/{block.name}-{uuid.uuid4().hex[:8]}"
        for name in files:  # the marker first: without it, the block doesn't exist
            content = None
            with suppress(OSError):  # a file that can't be read is only deleted
                content = self.place.read(name)
            if content is not None:
                self.place.write(f"{target}/{name.rpartition('/')[2]}", content)
            self.place.delete(name)
        self._known = {}
        return self.place.where(target)

    def progress(self, block: Block) -> str:
        """Name, in the store's place, of the file of a block in progress."""
        return f"progress/{block.name}.safetensors"

    def unfinished_blocks(self) -> dict[str, list[range]]:
        """Replicates of the blocks in progress, by cell."""
        names = (name.removesuffix(".safetensors") for name in self.place.list("progress"))
        return by_cell(filter(None, map(Block.parse, names)))

    def tidy(self) -> None:
        """Remove what killed processes left behind. The caller must hold the lock.

        Removes temporary files, arrays without a block, and checkpoints of finished blocks.
        """
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
                if old and self.place.age(name) > ORPHAN_SECONDS:
                    self.place.delete(name)
        done = finished_ranges(listed)
        for cell, ranges in self.unfinished_blocks().items():
            for replicates in ranges:
                if set(replicates) & set().union(*done.get(cell, ())):
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
        """Write `outcome` as a finished block. If another process was faster, its block stays.

        Raises `StoreError` or `OSError` if writing fails, and `ValueError` for malformed rows or
        history.
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
            raise ValueError(f"{block.name}: its rows or its history are malformed")
        if not self.exists():
            raise StoreError(f"{self.place.where()} holds no study any more; is it unmounted?")
        if arrays:
            self.place.write(block.arrays(own), data)
        first = self.place.write(block.marker, signed(line), only_if_absent=True)
        if not first and arrays:
            self.place.delete(block.arrays(own))

    def write_failure(self, cell: str, config: Mapping[str, Any], error: str) -> None:
        """Record why a cell has no result.

        `error` may be a traceback; its last line is also stored as the reason.
        """
        note = {
            "cell": cell,
            "config": dict(config),
            "reason": reason(error),
            "traceback": plain(error),
        }
        content = orjson.dumps(note, option=orjson.OPT_INDENT_2)
        self.place.write(f"failed/{require_id(cell)}.json", content)

    def forget_failure(self, cell: str) -> None:
        """Delete the note that a cell has failed, if there is one."""
        self.place.delete(f"failed/{require_id(cell)}.json")

    def failures(self) -> dict[str, dict[str, Any]]:
        """Notes on cells whose last try failed (`reason`, `traceback`, …), by id."""
        cells = self._json_files("failed", ID)
        return dict(zip(cells, self.place.parallel_map(self._failure, cells), strict=True))

    def _failure(self, cell: str) -> dict[str, Any]:
        try:
            note = orjson.loads(self.place.read(f"failed/{cell}.json"))
            return {**note, "reason": str(note["reason"])}
        except (OSError, ValueError, KeyError, TypeError):
            # The note is damaged, but the cell still has no result.
            return {"reason": "failed; the record of the reason is damaged"}

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Record what the latest command asked for."""
        self.place.write("study.json", orjson.dumps(plan))

    def plan(self) -> dict[str, Any]:
        """Plan of the latest command. Raises `StoreError` if there is none that can be used."""
        content = self.file("study.json")
        if content is None:
            raise StoreError(
                f"{self.place.where()} holds no study (no study.json); `study run` makes one"
            )
        if not self.exists():
            raise self._older()
        return parse_json(content, self.place.where("study.json"), is_plan, "study run")

    def write_search(self, name: str, content: Mapping[str, Any]) -> None:
        """Record the trials of a search."""
        if not NAME.fullmatch(name):
            raise StoreError(f"{name!r} is not the name of a search")
        self.place.write(f"search/{name}.json", orjson.dumps(content))

    def searches(self) -> dict[str, dict[str, Any]]:
        """Searches in this place, by name. Raises `StoreError` for a damaged one."""
        found = {}
        for name in self._json_files("search", NAME):
            file = f"search/{name}.json"
            content, path = self.place.read(file), self.place.where(file)
            found[name] = parse_json(content, path, is_search, "study search")
        return found

    def _json_files(self, folder: str, pattern: re.Pattern[str]) -> list[str]:
        """Names, without the ending, of the JSON files in a folder whose names match `pattern`."""
        files = [name for name in self.place.list(folder) if name.endswith(".json")]
        return list(filter(pattern.fullmatch, (name.removesuffix(".json") for name in files)))

    # --- reading blocks ----------------------------------------------------------------------

    def _content(self, block: Block) -> dict[str, Any]:
        """Verified content of a finished block's marker."""
        path = self.place.where(block.marker)
        try:
            file = self.place.read(block.marker)
        except FileNotFoundError:
            raise StoreError(f"{block.name} is not finished: {path} is not there") from None
        except OSError as error:
            raise DamagedBlock(block, path, f"can't be read: {error.strerror}") from error
        digest, _, line = file.partition(b"\n")
        if file != signed(line):
            raise DamagedBlock(block, path, "its checksum is not the recorded one")
        try:
            content = orjson.loads(line)
        except ValueError:
            content = None
        if not is_block(content, block.replicates):
            raise DamagedBlock(block, path, "not what was written")
        self.digests[block] = digest
        return content

    def _arrays(self, block: Block, content: Mapping[str, Any]) -> bytes:
        """Verified safetensors file of a block; empty if it has none."""
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
        """Yield the blocks that have wanted replicates, with their content and those replicates.

        Raises `StoreError` if one is missing.
        """
        parts: list[tuple[Block, list[int]]] = []
        for cell, replicates in wanted.items():
            left = list(replicates)
            for found in self._ranges(cell, left):
                if here := [replicate for replicate in left if replicate in found]:
                    parts.append((Block(cell, found), here))
                    left = [replicate for replicate in left if replicate not in found]
            if left:
                raise StoreError(f"{cell} has no replicate {left[0]} in {self.place.where()}")
        contents = self.place.parallel_map(self._content, [block for block, _ in parts])
        for (block, here), content in zip(parts, contents, strict=True):
            yield block, content, here

    def _ranges(self, cell: str, replicates: Collection[int]) -> list[range]:
        """Finished blocks of a cell, listed again unless the known ones have `replicates`."""
        known = self._known.get(cell, [])
        if not set(replicates) <= set().union(*known):
            known = finished_ranges(self._listed(cell)).get(cell, [])
            self._known[cell] = known
        return known

    def rows(self, wanted: Mapping[str, int]) -> pd.DataFrame:
        """Rows of the first `wanted[cell]` replicates of each cell, one a replicate."""
        import pandas as pd

        # A row may correct a setting: `batch_size` 0 stands for a number that the row has.
        return pd.DataFrame(
            [
                {"cell": block.cell, **content["config"], "encoder_cell": content["parent"], **row}
                for block, content, here in self._parts(first_replicates(wanted))
                for row in content["rows"]
                if row["replicate"] in here
            ]
        )

    def history(self, wanted: Mapping[str, int]) -> pd.DataFrame:
        """Histories of the first `wanted[cell]` replicates of each cell.

        One line a replicate and epoch, sorted by cell, epoch and replicate, not by block.
        """
        import pandas as pd

        lines = [
            {"cell": block.cell, **line}
            for block, content, here in self._parts(first_replicates(wanted))
            for line in content["history"]
            if line["replicate"] in here
        ]
        order = {cell: number for number, cell in enumerate(wanted)}
        lines.sort(key=lambda line: (order[line["cell"]], line["epoch"], line["replicate"]))
        return pd.DataFrame(lines)

    def config(self, cell: str) -> dict[str, Any]:
        """Complete configuration of a cell. Raises `StoreError` if no block is finished."""
        known = self._ranges(cell, [0])
        if not known:
            raise StoreError(f"{cell} is not finished")
        return dict(self._content(Block(cell, known[0]))["config"])

    def provenance(self, cells: Iterable[str]) -> list[dict[str, Any]]:
        """Provenance of these cells, one dictionary a block."""
        return self.provenance_of(
            Block(cell, found) for cell in cells for found in self._ranges(cell, [0])
        )

    def provenance_of(self, blocks: Iterable[Block]) -> list[dict[str, Any]]:
        """The provenance of each of these blocks."""
        return [
            dict(content["provenance"])
            for content in self.place.parallel_map(self._content, blocks)
        ]

    def _tensors(self, cell: str, replicates: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """Arrays of each replicate, predictions included, on the CPU."""
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
        """Weights of single models by replicate, on the CPU."""
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


def first_replicates(wanted: Mapping[str, int]) -> dict[str, range]:
    """Numbers of the first `wanted[cell]` replicates of each cell."""
    return {cell: range(count) for cell, count in wanted.items()}


def finished_ranges(listed: Mapping[Block, Mapping[str, int]]) -> dict[str, list[range]]:
    """Replicates of the blocks whose marker is listed, by cell, sorted."""
    blocks = [block for block, files in listed.items() if block.marker in files]
    blocks.sort(key=lambda block: (block.cell, block.replicates.start, block.replicates.stop))
    return by_cell(blocks)


def by_cell(blocks: Iterable[Block]) -> dict[str, list[range]]:
    """Replicates of these blocks, by cell, in their order."""
    found: dict[str, list[range]] = {}
    for block in blocks:
        found.setdefault(block.cell, []).append(block.replicates)
    return found


def looks_whole(files: Mapping[str, int]) -> bool:
    """True if a block's files are the marker and one file of arrays, of the size in its name."""
    arrays = [size for name, size in files.items() if name.endswith(f"-{size}.safetensors")]
    return len(files) == 2 and len(arrays) == 1


def require_id(cell: str) -> str:
    """Return `cell` if it is an id, and so safe in a file name; else raise `StoreError`."""
    if not ID.fullmatch(cell):
        raise StoreError(f"{cell!r} is not the id of a cell")
    return cell


def sha256(content: bytes) -> str:
    """SHA-256 of `content`: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def signed(line: bytes) -> bytes:
    """Content of a marker: a line with the SHA-256 of `line`, then `line`."""
    return orjson.dumps({"sha256": sha256(line)}) + b"\n" + line


def parse_json(
    content: bytes, path: Path | str, is_valid: Callable[[Any], bool], command: str
) -> dict[str, Any]:
    """Content of a JSON file. Raises `StoreError` unless it is what `command` writes."""
    try:
        found = orjson.loads(content)
    except ValueError as error:
        raise StoreError(f"{path}: can't be read ({error})") from error
    if not is_valid(found):
        raise StoreError(f"{path}: not what `{command}` writes; run it again")
    return found
