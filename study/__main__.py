"""The command line, `study COMMAND …`: the same as `python -m study COMMAND …`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from study.signals import ENDING_SIGNALS, as_interrupted, interruptible

RAY_BREAKING = ("PYTHONOPTIMIZE", "PYTHONWARNINGS")
"""Environment variables that break Ray's import: it needs its docstrings, and it warns."""


def restart_clean() -> None:
    """Restart this process without the variables in `RAY_BREAKING`, which Ray would inherit."""
    environment = {k: v for k, v in os.environ.items() if k not in RAY_BREAKING}
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
        ending = as_interrupted(error)
        if ending.number == signal.SIGPIPE:
            # As in `study plan | head -1`. Python's last flush of stdout must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            from study.console import print_error

            print_error(" ".join(["study", *arguments[:1]]) + f": {ending}")
        return ending.exit_code


def ensure_home() -> None:
    """Set HOME to the root folder if the user has no home, as `docker run --user` does.

    Ray can't be imported without one.
    """
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/"


def let_signals_kill() -> None:
    """Let signals that end the study kill this process, unless it ignores them."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def script() -> NoReturn:
    """Entry point of the command `study`."""
    restart_clean()
    ensure_home()
    # An exception during the import of a compiled module can crash Python: in 1 of 30
    # interrupted plans.
    let_signals_kill()
    import study.commands  # noqa: F401

    code = main()
    let_signals_kill()  # for Python's own shutdown
    sys.exit(code)


if __name__ == "__main__":
    script()
