"""Cache of what takes long to compute: judges, measures of models, and sections of reports.

It lies in the user's cache folder, where only the user writes, and never in a results folder, which
may come from somebody else: a page includes the HTML of sections unescaped.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pyarrow import ArrowInvalid
from torch import nn

from study.provenance import packages, sources
from trainables.data import cache_folder

M = TypeVar("M", bound=nn.Module)

MOST_BYTES = 500_000_000
"""Size above which `tidy` deletes. A quick study's report keeps 30 MB: 10 MB of sections and 20 MB
of models' measures."""


def folder() -> Path | None:
    """`STUDY_CACHE_DIR`, or else a folder in the user's cache.

    None, to keep nothing, if the variable is empty or the user has no home.
    """
    chosen = os.environ.get("STUDY_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    with contextlib.suppress(RuntimeError):
        return cache_folder() / "reports"
    return None


@functools.cache
def _code() -> list[Any]:
    """What every value depends on: the code, as it was when first asked for, and the packages."""
    return [sources("analysis", "trainables"), packages()]


def key(name: str, *inputs: Any) -> str:
    """Key of a value: its name, and a hash of its inputs, of the code and of the packages."""
    content = json.dumps([name, inputs, _code()])
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()}"


def read(key: str) -> bytes | None:
    """The value of this key; None if it isn't kept or can't be read."""
    where = folder()
    if where is None:
        return None
    with contextlib.suppress(OSError):
        content = (where / key).read_bytes()
        (where / key).touch()
        return content
    return None


def keep(key: str, content: bytes) -> None:
    """Keep a value. If the folder can't be written, as on a full disk, nothing is kept."""
    where = folder()
    if where is None:
        return
    temporary = where / f"{key}.{os.getpid()}"
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(content)
        temporary.replace(where / key)
    except OSError:
        temporary.unlink(missing_ok=True)


def tidy() -> None:
    """Delete the values that have not been used for longest, down to `MOST_BYTES`."""
    where = folder()
    with contextlib.suppress(OSError):
        files = [(path, path.stat()) for path in where.iterdir()] if where else []
        size = 0
        for path, file in sorted(files, key=lambda found: -found[1].st_mtime):
            size += file.st_size
            if size > MOST_BYTES:
                path.unlink(missing_ok=True)


def digest(*networks: nn.Module) -> str:
    """SHA-256 of all weights and buffers of these networks."""
    hashed = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            hashed.update(name.encode())
            hashed.update(tensor.contiguous().numpy())
    return hashed.hexdigest()


def measured(
    name: str, model: M, inputs: Any, measure: Callable[[M], pd.DataFrame]
) -> pd.DataFrame:
    """`measure(model)`, kept by the model's weights and by `inputs`, which JSON can hold."""
    its = key(name, digest(model), inputs)
    if content := read(its):
        with contextlib.suppress(ArrowInvalid):  # cut off, or foreign
            return pd.read_feather(io.BytesIO(content))
    table, buffer = measure(model), io.BytesIO()
    table.to_feather(buffer, compression="uncompressed")
    keep(its, buffer.getvalue())
    return table
