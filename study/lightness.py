"""Keep torch out of the driver, which computes nothing: torch takes half a GiB and two seconds.

The driver still imports it for questions about this machine's GPUs, and after a failed trial.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_hidden() -> Iterator[None]:
    """Make imports of torch fail inside the block, unless it has been imported already."""
    if "torch" in sys.modules:
        yield
        return
    missing: dict[str, None] = {"torch": None}
    sys.modules.update(missing)  # type: ignore[arg-type]  # what makes an import fail
    try:
        yield
    finally:
        del sys.modules["torch"]
