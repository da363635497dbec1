"""Presets by name or as a TOML file, which `study search` writes and `study run` reads.

    description = "d = 14, from a search of 40 trials"
    dataset = "mnist"

    [axes.autoencoder]            # values that replace those of the registry
    latent_dim = [14]
    depth = [3]

    [fixed.autoencoder]           # settings that are the same in every cell
    replicates = 5                # models per cell; not a setting, so not allowed in a recipe

    [large.autoencoder]           # as `fixed`, for data of at least 10,000 training images
    epochs = 2

    [recipes.autoencoder.14]      # by latent dimension: settings that replace all of the above
    learning_rate = 0.005
    width = 24

The tables are the fields of `study.experiments.Preset`; all but `dataset` may be left out. Options
of the command line replace a preset's values, recipes included.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from study.experiments import EXPERIMENTS, Experiment, Preset
from study.words import printable
from trainables.contract import ConfigError
from trainables.data import NAMES, is_source

SUFFIX = ".toml"
"""The suffix of a preset's file."""

KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,),
}  # fmt: skip
"""Types of TOML's values that are allowed for a setting of each type."""


class PresetError(ValueError):
    """An unknown preset, or a file that isn't one. The message names it and the wrong key."""

    def __init__(self, *parts: object) -> None:
        """The message is the `parts`, such as a file, a key and what is wrong, joined by colons."""
        super().__init__(": ".join(map(str, parts)))


def read(path: Path) -> Preset:
    """Read a preset from a file. Raises `PresetError` for the first error in it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PresetError(path, f"can't be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(path, f"is not TOML ({error})") from error
    try:
        return _preset(content, str(path))
    except PresetError as error:
        raise PresetError(path, error) from error


def _preset(content: dict[str, Any], name: str) -> Preset:
    known = [entry.name for entry in fields(Preset)]
    for key in content:
        if key not in known:
            raise PresetError(key, f"not one of {', '.join(known)}")
    for key in ("description", "dataset"):
        if not isinstance(content.get(key, ""), str):
            raise PresetError(key, f"{content[key]!r} is not a string in quotes")
    if "dataset" not in content:
        raise PresetError("dataset", f"is missing: {', '.join(NAMES)}")
    if not is_source(content["dataset"]):
        named = f"{content['dataset']!r} is not a dataset"
        raise PresetError("dataset", f"{named}: {', '.join(NAMES)}, or a path")
    axes = {
        e.name: {
            axis: _values(e, axis, values, f"{where}.{axis}") for axis, values in table.items()
        }
        for e, table, where in _tables(content, "axes")
    }
    fixed, large = (
        {e.name: _settings(e, table, where) for e, table, where in _tables(content, group)}
        for group in ("fixed", "large")
    )
    recipes = {
        e.name: {
            _dimension(dim, where): _settings(e, recipe, f"{where}.{dim}")
            for dim, recipe in table.items()
        }
        for e, table, where in _tables(content, "recipes")
    }
    preset = Preset(
        content.get("description", name), content["dataset"], axes, fixed, large, recipes
    )
    _check_bounds(preset)
    return preset


def _table(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise PresetError(where, f"{content!r} is not a table")
    return content


def _tables(
    content: dict[str, Any], group: str
) -> Iterator[tuple[Experiment, dict[str, Any], str]]:
    """Each table of a group: its experiment, its content and its full name."""
    for name, table in _table(content.get(group, {}), group).items():
        where = f"{group}.{name}"
        if name not in EXPERIMENTS:
            raise PresetError(where, f"not an experiment: {', '.join(EXPERIMENTS)}")
        yield EXPERIMENTS[name], _table(table, where), where


def _dimension(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise PresetError(f"{where}.{text}", "not a latent dimension, an integer of at least 1")
    return int(text)


def _settings(experiment: Experiment, table: Any, where: str) -> dict[str, Any]:
    """The settings in a table, each checked."""
    return {
        setting: check_value(experiment, setting, value, f"{where}.{setting}")
        for setting, value in _table(table, where).items()
    }


def check_value(experiment: Experiment, setting: str, value: Any, where: str) -> Any:
    """A setting's value, checked against its type; an integer for a float is converted.

    `where` is its key in a preset's file. Raises `PresetError`, naming `where`.
    """
    types = {known.name: known.type for known in fields(experiment.settings_module().Config)}
    if not where.startswith("recipes."):
        types["replicates"] = "int"
    if setting not in types:
        raise PresetError(where, f"{experiment.name} has no such setting")
    if setting == "latent_dim" and where.startswith("recipes."):
        raise PresetError(where, "must not be set: the recipe's key is the latent dimension")
    kind = getattr(types[setting], "__name__", str(types[setting]))
    if kind not in KINDS:
        return value  # the trainable checks it, with a better message
    # In Python a bool is an int; here it isn't.
    if isinstance(value, bool) != (kind == "bool") or not isinstance(value, KINDS[kind]):
        raise PresetError(where, f"{value!r} is not of type {kind}")
    return float(value) if isinstance(value, int) and kind == "float" else value


def _values(experiment: Experiment, axis: str, values: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(values, list) or not values:
        raise PresetError(where, f"{values!r} is not a list of values")
    if axis not in experiment.axes:
        raise PresetError(
            where, f"{experiment.name} has no such axis: {', '.join(experiment.axes)}"
        )
    return tuple(check_value(experiment, axis, value, where) for value in values)


def _check_bounds(preset: Preset) -> None:
    """Raise `PresetError` for a value that the trainable refuses: make a `Config` with it."""
    tables = [("fixed", name, table) for name, table in preset.fixed.items()]
    tables += [("large", name, table) for name, table in preset.large.items()]
    groups = [(f"{group}.{name}", name, table) for group, name, table in tables]
    for name, recipes in preset.recipes.items():
        for dim, recipe in recipes.items():
            groups.append((f"recipes.{name}.{dim}", name, {"latent_dim": dim, **recipe}))
    for where, name, table in groups:
        experiment = EXPERIMENTS[name]
        axes = {**experiment.axes, **preset.axes.get(name, {})}
        first = {axis: values[0] for axis, values in axes.items()}
        settings = {**first, **preset.fixed.get(name, {}), **table}
        if (replicates := settings.pop("replicates", 1)) < 1:
            raise PresetError(
                f"{where}.replicates", f"{replicates} must be an integer of at least 1"
            )
        try:
            experiment.settings_module().Config(**settings)
        except ConfigError as error:
            value = f"{error.value!r} must be {error.allowed}"
            raise PresetError(f"{where}.{error.field_name}", value) from error


def write(path: Path, preset: Preset, comment: str = "") -> None:
    """Write a preset to a file that `read` can read. Raises `OSError`."""
    lines = [f"# {printable(line)}".rstrip() for line in comment.splitlines()]
    lines += [""] if lines else []
    lines += [f"description = {_toml(preset.description)}", f"dataset = {_toml(preset.dataset)}"]
    tables: dict[str, Mapping[str, Any]] = {}
    for group in ("axes", "fixed", "large"):
        tables |= {f"{group}.{name}": table for name, table in getattr(preset, group).items()}
    for name, recipes in preset.recipes.items():
        tables |= {f"recipes.{name}.{dim}": recipe for dim, recipe in sorted(recipes.items())}
    for where, table in tables.items():
        if table:
            lines += ["", f"[{where}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    """A value in TOML: numbers, strings and lists as in JSON, with DEL escaped."""
    content = list(value) if isinstance(value, tuple) else value
    return json.dumps(content, ensure_ascii=False).replace("\x7f", r"\u007f")


NAMED: dict[str, Preset] = {
    name: read(Path(__file__).with_name(f"{name}.toml"))
    for name in ("smoke", "quick", "full", "best")
}
"""Presets by name. Their files explain the values."""


@cache
def find(name: str) -> Preset:
    """A preset by its name, or by the path of its file.

    Raises `PresetError` for an unknown name, and for a file that isn't a preset.
    """
    if name.endswith(SUFFIX):
        return read(Path(os.path.expanduser(name)))
    if name not in NAMED:
        raise PresetError(
            f"{name!r} is not a preset: {', '.join(NAMED)}, or a file that ends in {SUFFIX}"
        )
    return NAMED[name]
