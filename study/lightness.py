"""A driver without torch: it computes nothing, and torch takes half a GiB and two seconds.

It is loaded after all by who is asked about GPUs of this machine, and where a trial has failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_hidden() -> Iterator[None]:
    """In the block an import of torch fails, unless it has been imported already."""
    if "torch" in sys.modules:
        yield
        return
    missing: dict[str, None] = {"torch": None}
    sys.modules.update(missing)  # type: ignore[arg-type]  # what makes an import fail
    try:
        yield
    finally:
        del sys.modules["torch"]
