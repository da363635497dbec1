"""Experiments of a user's own: declared in a file, or by an installed package."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from study.experiments import EXPERIMENTS, STUDIES, Experiment
from trainables.own import OwnCodeError, module_of

ENTRY_POINTS = "latent_study.experiments"
"""Group of entry points; each names an `Experiment`."""


def register_installed() -> None:
    """Add the experiments that installed packages declare. Raises `OwnCodeError`."""
    for entry in entry_points(group=ENTRY_POINTS):
        experiment = entry.load()
        if not isinstance(experiment, Experiment):
            raise OwnCodeError(f"{entry.value} (entry point {entry.name}) is no Experiment")
        add(experiment, entry.value)


def register(file: str) -> str:
    """Add the experiments that a file declares; the name of the last. Raises `OwnCodeError`.

    Each is trained by the file itself, which has `Config`, `VERSION` and `train`.
    """
    path = Path(file).expanduser().resolve()
    module = module_of(str(path))
    found = [value for value in vars(module).values() if isinstance(value, Experiment)]
    own = [experiment for experiment in found if experiment.trainable == module.__name__]
    if not own:
        raise OwnCodeError(f"{path} has no Experiment with trainable=__name__")
    for name in ("Config", "VERSION", "train"):
        if not hasattr(module, name):
            raise OwnCodeError(f"{path} has no {name}")
    for experiment in own:
        add(replace(experiment, trainable=str(path)), str(path))
    return own[-1].name


def add(experiment: Experiment, origin: str) -> None:
    """Add one to the registry. Raises `OwnCodeError` where its name is taken by another."""
    known = EXPERIMENTS.get(experiment.name)
    if experiment.name in STUDIES or (known and known.trainable != experiment.trainable):
        raise OwnCodeError(f"{origin}: the name {experiment.name!r} is taken; choose another")
    EXPERIMENTS[experiment.name] = experiment
