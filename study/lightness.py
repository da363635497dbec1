"""A driver without torch: it computes nothing, and torch takes half a GiB and two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_hidden() -> Iterator[None]:
    """In the block, who imports torch if it is there finds that it isn't; unless it has been
    imported already."""
    if "torch" in sys.modules:
        yield
        return
    missing: dict[str, None] = {"torch": None}
    sys.modules.update(missing)  # type: ignore[arg-type]  # what makes an import fail
    try:
        yield
    finally:
        del sys.modules["torch"]
