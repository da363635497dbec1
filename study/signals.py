"""Signal handling: the first signal that asks for the end stops in order, the second kills."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; `docker stop`, `scancel`, SLURM's time limit; a terminal or connection that is gone."""


class Interrupted(KeyboardInterrupt):
    """The command is to end early. What treats Ctrl-C as the end treats this so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        """Why: the signal, or SIGPIPE where nobody reads the output any more."""

    @property
    def exit_code(self) -> int:
        """A shell's exit code for a command that this signal has ended."""
        return 128 + self.number

    def __str__(self) -> str:
        if self.number == signal.SIGPIPE:
            return "ended, as nobody reads the output"
        return "interrupted" if self.number == signal.SIGINT else f"ended by {self.number.name}"


def ending_of(error: KeyboardInterrupt) -> Interrupted:
    """Why the command is to end.

    Where a signal comes while Ray's core waits, Ray raises a KeyboardInterrupt of its own instead
    of what the signal's handler has raised.
    """
    return error if isinstance(error, Interrupted) else Interrupted(_latest)


_latest: int = signal.SIGINT
"""The latest signal that has asked for the end."""

ENDING_SECONDS = 8.0
"""Seconds that the ending may take. `docker stop` kills after 10."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` at the first signal of `ENDING` in the block.

    A second one ends the process at once, and Ray's processes with it; so does an ending that
    takes longer than `ENDING_SECONDS`, as where Ray waits for a process of its own that has got the
    signal too. Signals that the process was started to ignore, as by `nohup`, stay ignored.
    """

    def first(number: int, frame: FrameType | None) -> None:
        global _latest
        _latest = number
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {
        number: signal.signal(number, first)
        for number in ENDING
        if signal.getsignal(number) != signal.SIG_IGN
    }
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(reader: int) -> None:
    """Read the signals that this process gets, until the pipe is closed. End the process at the
    second of `ENDING`, or `ENDING_SECONDS` after the first.

    A handler in Python runs when the main thread is back from whatever call it is in.
    """
    with open(reader, "rb", buffering=0) as signals:
        while (number := signals.read(1)) and number[0] not in ENDING:
            pass
        if not number:
            return
        another, _, _ = select.select([signals], [], [], ENDING_SECONDS)
        if another and not signals.read(1):
            return
    ending = Interrupted(number[0])
    if not another:
        os.write(2, f"{ending}: what is done is kept; the same command goes on from it\n".encode())
    os._exit(ending.exit_code)
