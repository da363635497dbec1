"""Users' own experiments, declared in a file or by an installed package."""

from __future__ import annotations

import os
from dataclasses import MISSING, fields, is_dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

from study.experiments import EXPERIMENTS, STUDIES, Experiment
from study.store.formats import NAME
from trainables.own import OwnCodeError, module_of

ENTRY_POINTS = "latent_study.experiments"
"""Group of entry points; each names an `Experiment`."""


def register_installed() -> None:
    """Add the experiments that installed packages declare. Raises `OwnCodeError`."""
    for entry in entry_points(group=ENTRY_POINTS):
        origin = f"{entry.value} (entry point {entry.name})"
        try:
            experiment = entry.load()
            known = isinstance(experiment, Experiment)
            config = experiment.settings_module().Config if known else None
        except (Exception, SystemExit) as error:  # a package may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OwnCodeError(f"{origin} can't be imported ({reason})") from error
        if config is None:
            raise OwnCodeError(f"{origin} is not an Experiment")
        require_sound(experiment, config, origin)
        add(experiment, origin)


def register(file: str) -> str:
    """Add the experiments that a file declares; return the last one's name.

    The file itself trains them: it defines `Config`, `VERSION` and `train`. Raises `OwnCodeError`.
    """
    path = Path(os.path.expanduser(file)).resolve()
    module = module_of(str(path))
    found = [value for value in vars(module).values() if isinstance(value, Experiment)]
    own = [experiment for experiment in found if experiment.trainable == module.__name__]
    if not own:
        raise OwnCodeError(f"{path} has no Experiment with trainable=__name__")
    for name in ("Config", "VERSION", "train"):
        if not hasattr(module, name):
            raise OwnCodeError(f"{path} has no {name}")
    for experiment in own:
        require_sound(experiment, module.Config, str(path))
        add(replace(experiment, trainable=str(path)), str(path))
    return own[-1].name


def require_sound(experiment: Experiment, config: type, origin: str) -> None:
    """Raise `OwnCodeError` for a declaration that can't make a grid."""
    if not is_dataclass(config):
        raise OwnCodeError(f"{origin}: Config must be a dataclass")
    known = {setting.name: setting for setting in fields(config)}
    given = {*experiment.axes, *experiment.fixed}
    needed = [name for name, setting in known.items() if setting.default is MISSING]
    unknown, unset = sorted(given - {*known}), {*needed} - given
    parents = (None, "", *EXPERIMENTS)
    problems: dict[str, object] = {
        f"name {experiment.name!r}: letters, digits, _ and -": not NAME.fullmatch(experiment.name),
        "axes: at least one is needed": not experiment.axes,
        f"{', '.join(unknown)}: not in Config": unknown,
        f"{', '.join(unset)}: has no default and no axis": unset,
        f"best {experiment.best!r}: min or max": experiment.best not in ("min", "max"),
        f"replicates {experiment.replicates}: at least 1": experiment.replicates < 1,
        f"needs {experiment.needs!r}: {', '.join(EXPERIMENTS)}": experiment.needs not in parents,
    }
    for name, values in experiment.axes.items():
        problems[f"axis {name}: a tuple of values"] = not (
            isinstance(values, tuple | list) and values
        )
    for problem, applies in problems.items():
        if applies:
            raise OwnCodeError(f"{origin}: Experiment has a wrong {problem}")


def add(experiment: Experiment, origin: str) -> None:
    """Add an experiment to the registry. Raises `OwnCodeError` if its name is taken."""
    known = EXPERIMENTS.get(experiment.name)
    if experiment.name in STUDIES or (known and known.trainable != experiment.trainable):
        raise OwnCodeError(f"{origin}: the name {experiment.name!r} is taken; choose another")
    EXPERIMENTS[experiment.name] = experiment
