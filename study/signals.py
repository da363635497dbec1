"""Signal handling: the first signal ends the command in order, the second kills it."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent by Ctrl-C; by `docker stop`, `scancel`, SLURM's time limit; by a lost terminal or
connection."""


class Interrupted(KeyboardInterrupt):
    """The command must end early. Code that handles Ctrl-C handles it too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        """The signal; SIGPIPE if the output can no longer be written."""

    @property
    def exit_code(self) -> int:
        """The exit code that a shell gives to a command ended by this signal."""
        return 128 + self.number

    def __str__(self) -> str:
        if self.number == signal.SIGPIPE:
            return "ended, as nobody reads the output"
        return "interrupted" if self.number == signal.SIGINT else f"ended by {self.number.name}"


def as_interrupted(error: KeyboardInterrupt) -> Interrupted:
    """`error` as an `Interrupted`.

    If a signal comes while Ray's core waits, Ray raises its own KeyboardInterrupt instead of the
    error that the signal's handler has raised.
    """
    return error if isinstance(error, Interrupted) else Interrupted(_latest)


_latest: int = signal.SIGINT
"""The latest signal of `ENDING_SIGNALS` that has come."""

ENDING_SECONDS = 8.0
"""Seconds that an end in order may take. `docker stop` kills after 10."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` at the first signal of `ENDING_SIGNALS` in the block.

    A second one ends the process at once, and Ray's processes with it. So does an end that takes
    longer than `ENDING_SECONDS`, for example if Ray waits for one of its processes that got the
    signal too. Signals that were ignored at the start, as by `nohup`, stay ignored.
    """

    def first(number: int, frame: FrameType | None) -> None:
        global _latest
        _latest = number
        for handled in before:
            signal.signal(handled, signal.SIG_DFL)
        raise Interrupted(number)

    before = {
        number: signal.signal(number, first)
        for number in ENDING_SIGNALS
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
    """Read this process's signals from a pipe until it is closed.

    End the process at the next signal after one of `ENDING_SIGNALS`, or `ENDING_SECONDS` after it.
    A Python handler waits until the main thread returns from its current call; this thread doesn't.
    """
    with open(reader, "rb", buffering=0) as signals:
        while (number := signals.read(1)) and number[0] not in ENDING_SIGNALS:
            pass
        if not number:
            return
        another, _, _ = select.select([signals], [], [], ENDING_SECONDS)
        if another and not signals.read(1):
            return
    ending = Interrupted(number[0])
    if not another:
        message = f"{ending}: what is done is kept; the same command goes on from it\n"
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, message.encode())
    os._exit(ending.exit_code)
