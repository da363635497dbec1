"""From axes to cells, and from a cell to its id."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from study.experiments import Experiment
from trainables.data import Dataset


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
    trainable: str, version: int, config: Mapping[str, Any], data: str, parent: str | None
) -> str:
    """16 hexadecimal digits that name a result by what it is computed from: the trainable and
    its version, its complete configuration, the data's fingerprint and the parent's id."""
    content = json.dumps(
        {
            "trainable": trainable,
            "version": version,
            "config": dict(config),
            "data": data,
            "parent": parent,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def has_setting(experiment: Experiment, name: str) -> bool:
    """Whether the experiment's trainable has a setting of this name."""
    return name in {setting.name for setting in fields(experiment.module().Config)}


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


def configurations(experiment: Experiment) -> list[dict[str, Any]]:
    """The complete, validated configuration of every cell, in the order of the axes.

    Raises `trainables.contract.ConfigError` for the first one that is out of bounds.
    """
    make = experiment.module().Config
    names = list(experiment.axes)
    points = itertools.product(*(dict.fromkeys(experiment.axes[name]) for name in names))
    return [
        asdict(make(**{**experiment.fixed, **dict(zip(names, point, strict=True))}))
        for point in points
    ]


def parent_configuration(
    experiment: Experiment, parent: Experiment, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of the cell that the one of `config` builds on."""
    settings = {**{axis: values[0] for axis, values in parent.axes.items()}, **parent.fixed}
    settings |= {name: config[name] for name in experiment.parent_settings}
    return asdict(parent.module().Config(**settings))


def plan(
    experiments: list[Experiment], data: str, asked: Collection[str] | None = None
) -> list[list[Cell]]:
    """The cells of each experiment, and with them all the cells that these build on.

    Of an experiment that is not in `asked` (default: all are) only the cells that others build on.

    A parent that is not on its own experiment's grid (few-shot on a depth for which no
    autoencoder was asked, say) is added to that experiment's cells.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    planned: dict[str, dict[str, Cell]] = {experiment.name: {} for experiment in experiments}

    def place(experiment: Experiment, config: Mapping[str, Any]) -> Cell:
        parent = None
        if experiment.needs and experiment.builds_on_parent(config):
            needed = by_name[experiment.needs]
            parent = place(needed, parent_configuration(experiment, needed, config)).id
        identity = cell_id(experiment.trainable, experiment.module().VERSION, config, data, parent)
        cell = Cell(experiment.name, experiment.trainable, config, parent, identity)
        return planned[experiment.name].setdefault(identity, cell)

    for experiment in experiments:
        if asked is None or experiment.name in asked:
            for config in configurations(experiment):
                place(experiment, config)
    return [list(planned[experiment.name].values()) for experiment in experiments]


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
        "command": command,
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
