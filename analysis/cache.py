"""Cache of slow results: judges, measures of models, and sections of reports.

It is in the user's cache folder, which only the user writes, and never in a results folder, which
may come from somebody else: a page includes the HTML of sections unescaped.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch import nn

from study.provenance import packages, sources
from study.store.cells import sha256
from trainables.data import cache_folder
from trainables.fewshot import codes

M = TypeVar("M", bound=nn.Module)

MAX_BYTES = 500_000_000
"""Size above which `tidy` deletes. A quick study's report takes 30 MB: 10 MB of sections and 20 MB
of models' measures."""


def folder() -> Path | None:
    """`STUDY_CACHE_DIR`, or else a folder in the user's cache.

    None, for no cache, if the variable is empty or the user has no home.
    """
    chosen = os.environ.get("STUDY_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    with contextlib.suppress(RuntimeError):
        return cache_folder() / "reports"
    return None


CODE = [
    sources("analysis", "study", "trainables"),
    packages(),
    *map(version, ("matplotlib", "pyarrow", "scipy")),
]
"""The code and the packages of this process; every key depends on them."""

FILE = re.compile(r"[a-z]+(-[0-9a-f]{16})?-[0-9a-f]{64}(\.\d+)?")
"""Names of the cache's files; unfinished files of a killed process end in its number."""


def key(name: str, *inputs: Any) -> str:
    """Key of a value: its name, and a hash of its inputs, of the code and of the packages."""
    return f"{name}-{sha256(json.dumps([name, inputs, CODE]).encode())}"


def read(key: str) -> bytes | None:
    """The value of this key; None if it is missing, damaged or can't be read."""
    where = folder()
    if where is None:
        return None
    try:
        digest, _, content = (where / key).read_bytes().partition(b"\n")
    except OSError:
        return None
    with contextlib.suppress(OSError):
        (where / key).touch()
    return content if digest == sha256(content).encode() else None


def write(key: str, content: bytes) -> bool:
    """Cache a value; return False if the folder can't be written, as on a full disk."""
    where = folder()
    if where is None:
        return False
    temporary = where / f"{key}.{os.getpid()}"
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(sha256(content).encode() + b"\n" + content)
        temporary.replace(where / key)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def is_usable() -> bool:
    """True if values can be written."""
    return write(key("probe"), b"")


def tidy() -> None:
    """Delete the least recently used values, down to `MAX_BYTES`."""
    where, files = folder(), []
    with contextlib.suppress(OSError):
        for path in where.iterdir() if where else ():
            with contextlib.suppress(OSError):
                if FILE.fullmatch(path.name):
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > MAX_BYTES:
            with contextlib.suppress(OSError):
                path.unlink()


def weights_hash(*networks: nn.Module) -> str:
    """SHA-256 of all weights and buffers of these networks."""
    sha = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            sha.update(name.encode() + codes.digest(tensor))
    return sha.hexdigest()


def model_table(
    name: str, model: M, inputs: Any, measure: Callable[[M], pd.DataFrame]
) -> pd.DataFrame:
    """Return `measure(model)`, cached by the model's weights and `inputs` (values for JSON)."""
    return table(key(name, weights_hash(model), inputs), lambda: measure(model))


def table(key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The cached table of this key; computed and cached if it is missing."""
    if content := read(key):
        return pd.read_feather(io.BytesIO(content))
    computed, buffer = compute(), io.BytesIO()
    computed.to_feather(buffer, compression="uncompressed")
    write(key, buffer.getvalue())
    return computed
