"""Sections of reports in `analysis.cache`."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from typing import Any

from analysis import cache
from analysis.document import NAME, Document, Glance, Section

FILE = re.compile(rf"(figures|tables)/{NAME.pattern}\.(png|svg|csv|parquet)")
"""Names of the files of a section."""


def read(key: str) -> Document | None:
    """The cached section of this key; None if it is missing or can't be read."""
    content = cache.read(key)
    try:
        return _document(json.loads(content)) if content else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # cut off, or foreign


def _document(found: Any) -> Document:
    """The document with this content, as `keep` writes it.

    Raises ValueError, LookupError, TypeError or AttributeError for any other content.
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
        raise ValueError(f"{list(files)} are not all names of a section's files")
    return Document(sections=sections, files=files)


def keep(key: str, document: Document) -> None:
    """Cache a section, unless parts of it are left out."""
    if document.left_out:
        return
    content = asdict(document)
    content["files"] = {n: base64.b64encode(c).decode() for n, c in document.files.items()}
    cache.write(key, json.dumps(content).encode())
