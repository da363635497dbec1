"""The command line, `study COMMAND …`: the same as `python -m study COMMAND …`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from study.signals import ENDING, ending_of, interruptible

UNFIT = ("PYTHONOPTIMIZE", "PYTHONWARNINGS")
"""Environment variables with which Ray can't be imported: it needs its docstrings, and warns."""


def start_again() -> None:
    """Start this process again without `UNFIT`, which Ray's processes would inherit too."""
    environment = {k: v for k, v in os.environ.items() if k not in UNFIT}
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with interruptible():
            # Imported here: `script` has to deal with Python's configuration and signals first.
            from study.commands import run_command

            return run_command(arguments)
    except KeyboardInterrupt as error:
        ending = ending_of(error)
        if ending.number == signal.SIGPIPE:
            # As of `study plan | head -1`. Python's last flush of stdout must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            from study.console import print_error

            print_error(" ".join(["study", *arguments[:1]]) + f": {ending}")
        return ending.exit_code


def have_home() -> None:
    """Give a user who has no home the root folder, as `docker run --user` does. Ray can't be
    imported without one."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/"


def let_signals_kill() -> None:
    """Leave `ENDING` to the system, but for what is ignored: nothing is there to end in order."""
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def script() -> NoReturn:
    """The command `study`."""
    start_again()
    have_home()
    # An exception amid the import of a compiled module can crash it: once in 30 endings of a plan.
    let_signals_kill()
    import study.commands  # noqa: F401

    code = main()
    let_signals_kill()  # Python's own shutdown
    sys.exit(code)


if __name__ == "__main__":
    script()
