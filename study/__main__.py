"""The command line: `study plan | run | search | report | check`, the same as `python -m study`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from study.signals import ENDING, ending_of, interruptible

UNFIT = ("PYTHONOPTIMIZE", "PYTHONWARNINGS")


def start_again() -> None:
    """Start this process again where Python is configured so that Ray can't be imported: without
    docstrings, or with warnings as errors. Ray's processes inherit the environment."""
    environment = {k: v for k, v in os.environ.items() if k not in UNFIT}
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if argv is None:
        start_again()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with interruptible():
            # Imported here: a signal during the imports ends the command in order, too.
            from study.command_line.commands import run_command

            return run_command(arguments)
    except KeyboardInterrupt as error:
        ending = ending_of(error)
        if ending.number == signal.SIGPIPE:
            # As of `study plan | head -1`. Python's last flush of stdout must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            print(" ".join(["study", *arguments[:1]]) + f": {ending}", file=sys.stderr)
        return ending.exit_code


def script() -> NoReturn:
    """The command `study`."""
    code = main()
    for number in ENDING:  # Python's own shutdown is nothing to interrupt in order
        signal.signal(number, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    script()
