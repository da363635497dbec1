"""Cache of finished sections, in the user's cache folder.

A page includes their HTML unescaped. So they lie where only the user writes, and never in a results
folder, which may come from somebody else.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.document import NAME, Document, Glance, Section
from trainables.data import cache_folder

MOST = 200
"""Most sections that are kept: the latest, of 50 to 1,500 kB each."""

FILE = re.compile(rf"(figures|tables)/{NAME.pattern}\.(png|svg|csv|parquet)")
"""Names of the files of a section."""


def folder() -> Path | None:
    """`STUDY_CACHE_DIR`, or else a folder in the user's cache.

    None, to keep nothing, if the variable is empty or the user has no home.
    """
    chosen = os.environ.get("STUDY_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    with contextlib.suppress(RuntimeError):
        return cache_folder() / "sections"
    return None


def read(key: str) -> Document | None:
    """The section of this key; None if it isn't kept or can't be read."""
    where = folder()
    if where is None:
        return None
    path = where / key
    try:
        document = _document(json.loads(path.read_bytes()))
        path.touch()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # missing, cut off, or written by other code
    return document


def _document(found: Any) -> Document:
    """The document with this content, as `keep` writes it.

    Raises ValueError, LookupError, TypeError or AttributeError if it is something else.
    """
    for section in found["sections"]:
        section["glance"] = section["glance"] and Glance(**section["glance"])
    sections = [Section(**section) for section in found["sections"]]
    for section in sections:
        for texts in (section.elements, section.conclusions, section.cells):
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise TypeError(f"{texts!r} is not a list of texts")
    files = {name: base64.b64decode(content) for name, content in found["files"].items()}
    if not all(FILE.fullmatch(name) for name in files):
        raise ValueError(f"some of {list(files)} are no names of files of a section")
    return Document(sections=sections, files=files)


def keep(key: str, document: Document) -> None:
    """Keep a section, unless parts of it are left out.

    If the cache can't be written, as on a full disk, nothing is kept.
    """
    where = folder()
    if where is None or document.left_out:
        return
    content = asdict(document)
    content["files"] = {n: base64.b64encode(c).decode() for n, c in document.files.items()}
    temporary = where / f"{key}.{os.getpid()}"
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(json.dumps(content))
        temporary.replace(where / key)
        latest = sorted(where.iterdir(), key=lambda path: -path.stat().st_mtime)
        for path in latest[MOST:]:
            path.unlink(missing_ok=True)
    except OSError:
        temporary.unlink(missing_ok=True)
