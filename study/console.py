"""The program's output: progress on stdout, errors on stderr."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console

from study.signals import Interrupted
from study.words import printable


class Output:
    """Stream that raises `Interrupted` when it can no longer be written to."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:  # its reader has ended, its disk is full, its terminal is gone
            raise Interrupted(signal.SIGPIPE) from None

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            raise Interrupted(signal.SIGPIPE) from None


def console() -> Console:
    """Console on stdout, with colour only on a terminal, whatever the environment asks for."""
    stream = sys.stdout or io.StringIO()  # None if it was closed before the start
    output = cast(IO[str], Output(stream))
    return Console(
        file=output, force_terminal=stream.isatty(), soft_wrap=True, markup=False, emoji=False
    )


def print_error(text: str) -> None:
    """Print a line on stderr, if it can be written to."""
    with suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)
