"""Ctrl-C: once ends a study in order, twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code: 128 and the number of the signal, as shells have it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """In the block, the first SIGINT raises `KeyboardInterrupt`, and a second one, while that is
    being dealt with, ends the process with no further word. Ray's processes end with it."""

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    def second(number: int, frame: FrameType | None) -> None:
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
