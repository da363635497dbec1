"""The default study, run once for all modules that need it."""

from __future__ import annotations

from functools import cache

from benchmarks.commands import Finished, run
from benchmarks.measure import Options
from study.store import Store


@cache
def assignment(options: Options) -> tuple[Finished, Store]:
    """Run `study run assignment` into an empty folder, from the command to the report."""
    preset = "smoke" if options.tiny else "quick"
    options.say(f"the whole study, study run assignment --preset {preset}")
    out = options.folder / "assignment"
    return run("-m", "study", "run", "assignment", "--preset", preset, "--out", out), Store(out)
