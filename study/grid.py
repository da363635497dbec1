"""The cells of experiments' grids, their ids, and their missing replicates."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import orjson

from study.experiments import Experiment
from trainables.contract import Settings, added_defaults
from trainables.data import Dataset
from trainables.own import is_own, portable_name


@dataclass(slots=True, eq=False)
class Cell:
    """One point of an experiment's grid."""

    experiment: Experiment
    """The experiment that it belongs to."""
    settings: Settings
    """The trainable's `Config`, which has checked its values."""
    parent: Cell | None
    """The cell that it builds on, if any."""
    replicates: int
    """How many replicates are wanted. Not part of the id."""
    id: str = ""
    """Hash of everything that determines the results; empty before `identify`."""

    @property
    def config(self) -> dict[str, Any]:
        """Every setting of the trainable by name."""
        return vars(self.settings)

    @property
    def parent_id(self) -> str | None:
        """Id of the cell that it builds on."""
        return self.parent.id if self.parent else None

    @property
    def categories(self) -> tuple[str, ...]:
        """Its categorical values on the axes, such as that of `freeze`."""
        values = (self.config[axis] for axis in self.experiment.axes)
        return tuple(value for value in values if isinstance(value, str))

    def missing(self, finished: Mapping[str, Sequence[range]]) -> list[range]:
        """Ranges of its replicates that are missing; `finished` has the others, by cell."""
        return gaps(self.replicates, finished.get(self.id, ()))

    @property
    def ancestors(self) -> int:
        """Number of cells that must be computed before this one."""
        return 1 + self.parent.ancestors if self.parent else 0


def cell_id(
    trainable: str, version: int, config: Mapping[str, Any], data: str, parent: str | None
) -> str:
    """Id of a cell: 16 hexadecimal digits, a hash of everything that its results depend on.

    `data` is the dataset's fingerprint, `parent` the id of the cell that this one builds on.
    """
    # -0.0 becomes 0.0: they give the same results, so they get the same id.
    settings = {k: v + 0.0 if v.__class__ is float else v for k, v in config.items()}
    content = [trainable, version, settings, data, parent]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def has_setting(experiment: Experiment, name: str) -> bool:
    """True if the experiment has a setting of this name, the number of replicates included."""
    known = fields(experiment.settings_module().Config)
    return name == "replicates" or name in {setting.name for setting in known}


def override(
    experiment: Experiment, axes: Mapping[str, tuple[Any, ...]], fixed: Mapping[str, Any]
) -> Experiment:
    """The experiment with some of its axes and settings replaced.

    `fixed` may contain `replicates`. Settings that the experiment doesn't have are ignored, such as
    `labels` for an autoencoder.
    """
    own_axes = {name: values for name, values in axes.items() if has_setting(experiment, name)}
    settings = {name: value for name, value in fixed.items() if has_setting(experiment, name)}
    replicates = settings.pop("replicates", experiment.replicates)
    return replace(
        experiment,
        axes={**experiment.axes, **own_axes},
        fixed={**experiment.fixed, **settings},
        replicates=replicates,
    )


def settings_of(experiment: Experiment) -> list[Settings]:
    """The trainable's `Config` of every point of the grid, in the order of the axes.

    Raises `trainables.contract.ConfigError` for the first one that is out of bounds.
    """
    make = experiment.settings_module().Config
    names = list(experiment.axes)
    fixed = {name: value for name, value in experiment.fixed.items() if name not in names}
    settings = []
    for point in itertools.product(*experiment.axes.values()):
        values = {**fixed, **dict(zip(names, point, strict=True))}
        settings.append(make(**{**values, **experiment.recipe(values)}))
    return settings


def parent_settings(experiment: Experiment, parent: Experiment, settings: Settings) -> Settings:
    """The settings of the parent of a cell with `settings`."""
    config = vars(settings)
    wanted = {**{axis: values[0] for axis, values in parent.axes.items()}, **parent.fixed}
    shared = {name: config[name] for name in experiment.parent_settings}
    wanted |= {**parent.recipe(shared), **shared}
    for name, choices in experiment.parent_choices.items():
        wanted |= choices[config[name]]
    return parent.settings_module().Config(**wanted)


def lay_out(
    experiments: Sequence[Experiment], asked: Collection[str] | None = None
) -> list[list[Cell]]:
    """The cells of each experiment, and the parents that they build on, all without ids.

    A cell that several experiments have is the same object in each. An experiment that is not in
    `asked` (default: all are) has only the cells that others build on. A parent that is not on its
    experiment's grid (for example, at a depth asked only of few-shot) is added to that experiment's
    cells. A parent has at least the replicates that its children start from.

    Raises `trainables.contract.ConfigError` for the first cell that is out of bounds.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    groups: dict[str, dict[Cell, None]] = {experiment.name: {} for experiment in experiments}
    # The key is the trainable, not the experiment: two experiments share a cell that both have.
    cells: dict[tuple[str, Settings], Cell] = {}
    # Many cells have the same parent, which depends only on the settings that they share.
    parents: dict[tuple[Any, ...], Cell] = {}

    def add(experiment: Experiment, settings: Settings, replicates: int) -> Cell:
        key = experiment.trainable, settings  # its hash takes 1 µs
        cell = cells.get(key)
        if cell is None:
            parent = parent_of(experiment, settings)
            cell = cells[key] = Cell(experiment, settings, parent, replicates)
        groups[experiment.name][cell] = None
        with_replicates(cell, replicates)
        return cell

    def parent_of(experiment: Experiment, settings: Settings) -> Cell | None:
        config = vars(settings)
        if not (experiment.needs and experiment.builds_on_parent(config)):
            return None
        names = (*experiment.parent_settings, *experiment.parent_choices)
        shared = (experiment.name, *(config[name] for name in names))
        if shared not in parents:
            needed = by_name[experiment.needs]
            parents[shared] = add(needed, parent_settings(experiment, needed, settings), 1)
        return parents[shared]

    for experiment in experiments:
        if asked is None or experiment.name in asked:
            for settings in settings_of(experiment):
                add(experiment, settings, experiment.replicates)
    return [list(groups[experiment.name]) for experiment in experiments]


def distinct(groups: Sequence[Sequence[Cell]]) -> list[Cell]:
    """The cells of all experiments, each once."""
    return list(dict.fromkeys(cell for cells in groups for cell in cells))


def with_replicates(cell: Cell, replicates: int) -> None:
    """Raise a cell's replicates to at least `replicates`, and its parent's to what they need."""
    cell.replicates = max(cell.replicates, replicates)
    if cell.parent:
        last = max(map(cell.settings.parent_replicate, range(cell.replicates)))
        with_replicates(cell.parent, last + 1)


def identify(groups: Sequence[Sequence[Cell]], fingerprint: str) -> None:
    """Set the id of every cell, for data with this fingerprint; `groups` has parents first."""
    for cells in groups:
        if not cells:
            continue
        experiment = cells[0].experiment
        module = experiment.settings_module()
        added = added_defaults(module.Config)
        trainable = experiment.trainable.rpartition("/")[2]  # a file's name without its folder
        for cell in cells:
            config = cell.config
            if is_own(config.get("network", "")):
                config = {**config, "network": portable_name(config["network"])}
            if added:
                config = {k: v for k, v in config.items() if k not in added or v != added[k]}
            cell.id = cell_id(trainable, module.VERSION, config, fingerprint, cell.parent_id)


def plan(
    experiments: Sequence[Experiment], fingerprint: str, asked: Collection[str] | None = None
) -> list[list[Cell]]:
    """The cells of each experiment: `lay_out`, then `identify`."""
    groups = lay_out(experiments, asked)
    identify(groups, fingerprint)
    return groups


def check_data(groups: Sequence[Sequence[Cell]], data: Dataset) -> None:
    """Raise `trainables.contract.ConfigError` for the first cell that `data` doesn't allow."""
    for cells in groups:
        for cell in cells:
            cell.settings.check_data(data)


def gaps(wanted: int, finished: Sequence[range]) -> list[range]:
    """Ranges of the replicates in 0 … `wanted` - 1 that are in none of the `finished` ranges."""
    if not finished:
        return [range(wanted)] if wanted else []
    if len(finished) == 1 and finished[0].start == 0 and finished[0].stop >= wanted:
        return []
    existing = set().union(*finished)
    missing = [replicate for replicate in range(wanted) if replicate not in existing]
    found: list[range] = []
    for replicate in missing:
        if found and found[-1].stop == replicate:
            found[-1] = range(found[-1].start, replicate + 1)
        else:
            found.append(range(replicate, replicate + 1))
    return found


def record(
    study: str,
    command: str,
    data: Dataset,
    data_dir: Path | None,
    experiments: Sequence[Experiment],
    groups: Sequence[Sequence[Cell]],
) -> dict[str, Any]:
    """The plan as `Store.write_plan` keeps it and `analysis.results` reads it."""
    return {
        "study": study,
        "command": command,
        "dataset": data.name,
        "data_dir": str(data_dir.resolve()) if data_dir else None,
        "fingerprint": data.fingerprint,
        "image_shape": list(data.image_shape),
        "classes": list(data.classes),
        "images": [len(split) for split in data.splits],
        "experiments": [
            {
                "name": experiment.name,
                "axes": {name: list(values) for name, values in experiment.axes.items()},
                "metric": experiment.metric,
                "cells": [
                    {
                        "id": cell.id,
                        "config": cell.config,
                        "parent": cell.parent_id,
                        "replicates": cell.replicates,
                    }
                    for cell in cells
                ],
            }
            for experiment, cells in zip(experiments, groups, strict=True)
        ],
    }
