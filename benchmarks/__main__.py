"""The command line: `python -m benchmarks [names] --data-dir DIR --out FILE`."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Line, Options
from trainables.data import DataError, load

QUESTIONS = ("limit", "fusion", "driver", "notebook", "overhead", "share")
"""Modules with a function `measure(options)`, the fastest first."""

NEED_MNIST = {"notebook", "overhead", "share"}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare this study with the code that its users would otherwise write, and "
        "print the figures of docs/benchmarks.md.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(QUESTIONS)} (all)")
    parser.add_argument(
        "--data-dir", type=Path, help="full MNIST in torchvision's layout (default: STUDY_DATA_DIR)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"), help="JSON file")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of whole runs (default 3)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test the code only")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in QUESTIONS:
            parser.error(f"there is no {name!r}; there are {', '.join(QUESTIONS)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats {arguments.repeats}: must be at least 1")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the results.

    Returns 0 if every measured target is reached, else 1; 2 if full MNIST is missing.
    """
    arguments = parse(argv)
    names = arguments.names or list(QUESTIONS)
    console = Console(markup=False, width=None if sys.stdout.isatty() else 160)
    if NEED_MNIST & set(names) and not arguments.tiny:
        try:
            load("mnist", arguments.data_dir)
        except DataError as error:
            print(f"benchmarks: full MNIST is needed: {error}", file=sys.stderr)
            return 2

    from benchmarks import machine, table  # imports torch: only once there is work

    hardware = machine.describe()
    command = " ".join(["python -m benchmarks", *(sys.argv[1:] if argv is None else argv)])
    about = {
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": hardware,
    }
    results: dict[str, list[Line]] = {}
    with tempfile.TemporaryDirectory(prefix="latent-study-") as folder:
        options = Options(
            data_dir=arguments.data_dir.resolve() if arguments.data_dir else None,
            folder=Path(folder),
            repeats=arguments.repeats,
            tiny=arguments.tiny,
            say=lambda text: print(f"… {text}", file=sys.stderr, flush=True),
        )
        for name in names:
            module = importlib.import_module(f"benchmarks.{name}")
            started = time.perf_counter()
            results[name] = module.measure(options)
            question = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
            title = f"{name} ({time.perf_counter() - started:.0f} s): {question}"
            table.print_table(console, title, results[name])
            table.write_json(arguments.out, about, results)  # an error later loses no results
    console.print(f"{hardware['cores']} cores, {hardware['processor']}; {command}")
    console.print(f"every value: {arguments.out}")
    missed = [line for lines in results.values() for line in lines if line.reached is False]
    for line in missed:
        console.print(f"not reached: {line.what}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
