"""From axes to cells, and from a cell to its id."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from study.experiments import Experiment
from study.words import redacted
from trainables.contract import Settings, added_defaults
from trainables.data import Dataset

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
"""One text for one content, whatever the order of its keys."""


@dataclass(frozen=True)
class Cell:
    """One point of an experiment's grid."""

    experiment: str
    """Name of the experiment."""
    trainable: str
    """Importable module that computes it."""
    config: Mapping[str, Any]
    """Every setting of the trainable, validated."""
    parent: str | None
    """Id of the cell that it builds on."""
    id: str
    """Hash of all that determines the result."""


def cell_id(
    trainable: str,
    version: int,
    config: Mapping[str, Any],
    data: str,
    parent: str | None,
    added: Mapping[str, Any] | None = None,
) -> str:
    """16 hexadecimal digits that name a result by what it is computed from: the trainable and
    its version, its complete configuration, the data's fingerprint and the parent's id. Settings
    that have the value they have in `added` are left out: see `trainables.contract.added`."""
    return Naming(trainable, version, data, added).cell(config, parent)


class Naming:
    """Ids of the cells of one trainable on the same data.

    An id is the hash of the canonical JSON of all that it depends on. Cells of a grid come in
    the order of its axes, so that one differs from the cell before it in a value or two: only the
    text of those is made anew.
    """

    def __init__(
        self, trainable: str, version: int, data: str, added: Mapping[str, Any] | None = None
    ) -> None:
        self.added = added or {}
        self.before = '{"config":{'
        self.data = f'}},"data":{_canonical(data)},"parent":'
        self.after = f',"trainable":{_canonical(trainable)},"version":{_canonical(version)}}}'
        self.latest: dict[str, Any] = {}
        """The values of the cell before, by setting."""
        self.parts: dict[str, str] = {}
        """The text of each of them, sorted; none for those that are left out."""
        self.known: dict[tuple[str, type, Any], str] = {}

    def cell(self, config: Mapping[str, Any], parent: str | None) -> str:
        """The id of the cell with this configuration and parent."""
        latest, parts = self.latest, self.parts
        if config.keys() != latest.keys():
            nothing = object()
            latest = self.latest = dict.fromkeys(config, nothing)
            parts = self.parts = dict.fromkeys(sorted(config), "")
        for name, value in config.items():
            if value is not latest[name]:  # the same object has the same text, whatever it equals
                latest[name] = value
                parts[name] = self._part(name, value)
        settings = ",".join(filter(None, parts.values()))
        of = "null" if parent is None else _canonical(parent)
        content = f"{self.before}{settings}{self.data}{of}{self.after}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _part(self, name: str, value: Any) -> str:
        key = (name, value.__class__, value)  # the class, as 1, 1.0 and True are equal
        part = self.known.get(key)
        if part is None:
            left_out = name in self.added and value == self.added[name]
            part = "" if left_out else f"{_canonical(name)}:{_canonical(value)}"
            self.known[key] = part
        return part


def naming(experiment: Experiment, data: str) -> Naming:
    """What names the cells of an experiment on the data of this fingerprint."""
    module = experiment.settings_module()
    return Naming(experiment.trainable, module.VERSION, data, added_defaults(module.Config))


def has_setting(experiment: Experiment, name: str) -> bool:
    """Whether the experiment's trainable has a setting of this name."""
    return name in {setting.name for setting in fields(experiment.settings_module().Config)}


def override(
    experiment: Experiment, axes: Mapping[str, tuple[Any, ...]], fixed: Mapping[str, Any]
) -> Experiment:
    """The experiment with other values on some axes and other settings; those that it hasn't
    are left out, as `labels` means nothing to an autoencoder."""
    mine = {name: values for name, values in axes.items() if has_setting(experiment, name)}
    settings = {name: value for name, value in fixed.items() if has_setting(experiment, name)}
    return replace(
        experiment, axes={**experiment.axes, **mine}, fixed={**experiment.fixed, **settings}
    )


class Point(NamedTuple):
    """A cell before it has an id, which depends on the data."""

    settings: Settings
    """The trainable's `Config`: it exists, so its values are within bounds."""
    config: dict[str, Any]
    """The same as a dictionary."""
    experiment: Experiment
    """Whose point it is."""
    parent: Point | None
    """The point that it builds on."""


@cache
def _reader(config: Any) -> Callable[[Settings], dict[str, Any]]:
    """What makes a dictionary of a `Config` of this class. Its values are numbers and words, so,
    other than by `dataclasses.asdict`, nothing is copied."""
    names = [setting.name for setting in fields(config)]
    if len(names) == 1:
        return lambda settings: {names[0]: getattr(settings, names[0])}
    values = attrgetter(*names)
    return lambda settings: dict(zip(names, values(settings), strict=True))


def validated(experiment: Experiment) -> list[Settings]:
    """The trainable's `Config` of every cell, in the order of the axes.

    Raises `trainables.contract.ConfigError` for the first one that is out of bounds.
    """
    make = experiment.settings_module().Config
    names = list(experiment.axes)
    points = itertools.product(*(dict.fromkeys(experiment.axes[name]) for name in names))
    fixed = {name: value for name, value in experiment.fixed.items() if name not in names}
    if not experiment.recipes:
        return [make(**fixed, **dict(zip(names, point, strict=True))) for point in points]
    settings = []
    for point in points:
        asked = {**fixed, **dict(zip(names, point, strict=True))}
        settings.append(make(**{**asked, **experiment.recipe(asked)}))
    # What a recipe says of an axis makes one point of several.
    return list(dict.fromkeys(settings))


def parent_settings(
    experiment: Experiment, parent: Experiment, config: Mapping[str, Any]
) -> Settings:
    """The settings of the cell that the one of `config` builds on."""
    settings = {**{axis: values[0] for axis, values in parent.axes.items()}, **parent.fixed}
    shared = {name: config[name] for name in experiment.parent_settings}
    settings |= {**parent.recipe(shared), **shared}
    for name, choices in experiment.parent_choices.items():
        settings |= choices[config[name]]
    return parent.settings_module().Config(**settings)


def lay_out(
    experiments: list[Experiment], asked: Collection[str] | None = None
) -> list[list[Point]]:
    """The points of each experiment's grid, with those that they build on; none of its own for
    an experiment that is not in `asked` (default: all are).

    Raises `trainables.contract.ConfigError` for the first one that is out of bounds.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    # Many cells build on one: what it is depends on nothing but the settings that they share.
    parents: dict[tuple[Any, ...], Point] = {}

    def point(experiment: Experiment, settings: Settings) -> Point:
        kind: Any = type(settings)
        config = _reader(kind)(settings)
        parent = None
        if experiment.needs and experiment.builds_on_parent(config):
            names = (*experiment.parent_settings, *experiment.parent_choices)
            shared = (experiment.name, *(config[name] for name in names))
            parent = parents.get(shared)
            if parent is None:
                needed = by_name[experiment.needs]
                parent = point(needed, parent_settings(experiment, needed, config))
                parents[shared] = parent
        return Point(settings, config, experiment, parent)

    return [
        [point(experiment, settings) for settings in validated(experiment)]
        if asked is None or experiment.name in asked
        else []
        for experiment in experiments
    ]


def identify(
    layout: list[list[Point]], experiments: list[Experiment], data: str
) -> list[list[Cell]]:
    """The cells of a layout on the data of this fingerprint: see `plan`."""
    planned: dict[str, dict[str, Cell]] = {experiment.name: {} for experiment in experiments}
    namings = {experiment.name: naming(experiment, data) for experiment in experiments}
    known: dict[int, str] = {}  # of points that several build on

    def place(point: Point) -> str:
        parent = None
        if point.parent is not None:
            parent = known.get(id(point.parent))
            if parent is None:
                parent = known[id(point.parent)] = place(point.parent)
        name, trainable = point.experiment.name, point.experiment.trainable
        identity = namings[name].cell(point.config, parent)
        if identity not in planned[name]:
            planned[name][identity] = Cell(name, trainable, point.config, parent, identity)
        return identity

    for points in layout:
        for point in points:
            place(point)
    return [list(planned[experiment.name].values()) for experiment in experiments]


def plan(
    experiments: list[Experiment], data: str, asked: Collection[str] | None = None
) -> list[list[Cell]]:
    """The cells of each experiment, and with them all the cells that these build on.

    Of an experiment that is not in `asked` (default: all are) only the cells that others build on.

    A parent that is not on its own experiment's grid (few-shot on a depth for which no
    autoencoder was asked, say) is added to that experiment's cells.
    """
    return identify(lay_out(experiments, asked), experiments, data)


def check_data(layout: list[list[Point]], data: Dataset) -> None:
    """Raise `trainables.contract.ConfigError` for the first point that `data` doesn't allow."""
    checked: set[int] = set()  # parents, by which several points are checked
    for points in layout:
        for point in points:
            point.settings.check_data(data)
            parent = point.parent
            while parent is not None and id(parent) not in checked:
                parent.settings.check_data(data)
                checked.add(id(parent))
                parent = parent.parent


def record(
    study: str,
    command: str,
    data: Dataset,
    data_dir: Path | None,
    experiments: list[Experiment],
    groups: list[list[Cell]],
) -> dict[str, Any]:
    """What was asked for, as `Store.write_plan` keeps it and `analysis.results` reads it."""
    return {
        "study": study,
        "command": redacted(command),
        "dataset": data.name,
        "data_dir": str(data_dir.resolve()) if data_dir else None,
        "fingerprint": data.fingerprint,
        "experiments": [
            {
                "name": experiment.name,
                "axes": {name: list(values) for name, values in experiment.axes.items()},
                "metric": experiment.metric,
                "cells": [
                    {"id": cell.id, "config": dict(cell.config), "parent": cell.parent}
                    for cell in cells
                ],
            }
            for experiment, cells in zip(experiments, groups, strict=True)
        ],
    }
