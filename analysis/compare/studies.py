"""The studies of a comparison: their names, and which of their cells correspond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results import COUNTS, Results, load
from study.errors import StoreError
from study.words import without_query

ARM = ("labels", "freeze", "pretraining", "augment")
"""Axes that define a classifier's arm: a classifier is compared only with the same arm."""

COLUMNS = {"fact", "experiment", "setting", "same"}
"""Columns of tables that also have a column per study: no study may have one of these names."""


@dataclass(frozen=True)
class Study:
    """One of the compared studies."""

    name: str
    """Its name on the page, from its folder: see `names`."""
    results: Results
    """Its finished cells; see `Results.with_plain_autoencoders` for the autoencoders."""

    def configurations(self, experiment: str) -> pd.DataFrame:
        """One row per planned cell: its settings, `cell`, and whether it is `finished`.

        Raises `StoreError` if a setting in `COUNTS` is text.
        """
        cells = self.results.planned(experiment)["cells"]
        finished = set(self.results.cells(experiment))
        for name in COUNTS:
            if any(isinstance(cell["config"].get(name), str) for cell in cells):
                where = self.results.store.place.where()
                raise StoreError(f"{where}: {name} of {experiment} is not a number in its plan")
        lines = [
            {**cell["config"], "cell": cell["id"], "finished": cell["id"] in finished}
            for cell in cells
        ]
        return pd.DataFrame(lines, columns=None if lines else ["cell", "finished"], dtype=object)


@dataclass(frozen=True)
class Match:
    """The cells of an experiment that two studies share, and those that only one has."""

    keys: list[str]
    """The settings that corresponding cells share."""
    cells: pd.DataFrame
    """One row per pair of finished cells: `keys`, `cell_1`, `cell_2`, and `paired`: whether both
    have the same data and seeds, so that their replicates share random variation."""
    alone: pd.DataFrame
    """One row per finished cell without a counterpart: `study`, `experiment`, `settings`,
    `reason`, `cell`."""


def read(folders: Sequence[str | Path]) -> list[Study]:
    """Read the studies in these results folders or buckets, with distinct names.

    Raises `StoreError` if a folder has no study, or cells lack a setting.
    """
    results = [load(folder).with_plain_autoencoders() for folder in folders]
    for found in results:
        found.require_settings()
    return [Study(name, of_it) for name, of_it in zip(names(folders), results, strict=True)]


def names(folders: Sequence[str | Path]) -> list[str]:
    """Name each folder by the last parts of its path, as many as tell all apart.

    The names are numbered if a folder is given twice.
    """
    parts = [
        without_query(folder).split("://")[-1].strip("/").split("/")
        if isinstance(folder, str)
        else folder.resolve().parts
        for folder in folders
    ]
    found: list[str] = []
    for count in range(1, 1 + max(map(len, parts))):
        found = ["/".join(part[-count:]) for part in parts]
        if len(set(found) - COLUMNS) == len(found):
            return found
    return [f"{name.rpartition('/')[2]} ({number})" for number, name in enumerate(found, 1)]


def match(first: Study, second: Study, experiment: str) -> Match:
    """Match the cells of an experiment that have the same values on all axes of both studies.

    If each study has one value on an axis, and the two values differ, the axis is treated as a
    setting, unless it is in `ARM`. A setting that distinguishes cells of one study is treated as
    an axis.
    """
    tables = [study.configurations(experiment) for study in (first, second)]
    columns = dict.fromkeys(column for table in tables for column in table)
    one, two = (table.reindex(columns=list(columns)) for table in tables)
    keys = _keys(
        one,
        two,
        [*first.results.planned(experiment)["axes"], *second.results.planned(experiment)["axes"]],
    )
    how: Any = {"on": keys, "how": "outer"} if keys else {"how": "cross"}
    both = one.merge(two, suffixes=("_1", "_2"), **how)
    done_1, done_2 = (both[f"finished_{side}"].eq(True) for side in (1, 2))
    same_data = first.results.plan["fingerprint"] == second.results.plan["fingerprint"]
    seeds = [both[name] for name in both if str(name) in ("seed", "seed_1", "seed_2")]
    cells = both.assign(paired=same_data & seeds[0].eq(seeds[-1]) if seeds else same_data)
    alone = [
        _alone(both[done & ~other], keys, side, experiment, studies)
        for side, done, other, studies in (
            (1, done_1, done_2, (first, second)),
            (2, done_2, done_1, (second, first)),
        )
    ]
    kept = [*keys, "cell_1", "cell_2", "paired"]
    pairs = cells.loc[done_1 & done_2, kept].infer_objects()
    return Match(keys, pairs.reset_index(drop=True), pd.concat(alone, ignore_index=True))


def _keys(one: pd.DataFrame, two: pd.DataFrame, axes: list[str]) -> list[str]:
    def differs(name: str) -> bool:
        values = [set(table[name].dropna()) for table in (one, two)]
        one_each = all(len(of_it) <= 1 for of_it in values) and values[0] != values[1]
        return one_each and name not in ARM and len(one) > 0 and len(two) > 0

    keys = [axis for axis in dict.fromkeys(axes) if not differs(axis)]
    for name in [str(n) for n in one if n not in ("cell", "finished", *keys)]:
        if any(_tells_apart(name, keys, table) for table in (one, two)):
            keys.append(name)
    return keys


def _tells_apart(name: str, keys: list[str], cells: pd.DataFrame) -> bool:
    """Return whether some cells with the same values of `keys` differ in the setting `name`."""
    groups = cells.assign(all_cells=0).groupby(["all_cells", *keys], dropna=False)
    return bool(groups[name].nunique(dropna=False).gt(1).any())


def _alone(
    cells: pd.DataFrame, keys: list[str], side: int, experiment: str, studies: tuple[Study, Study]
) -> pd.DataFrame:
    here, there = studies
    lines = [
        {
            "study": here.name,
            "experiment": experiment,
            "settings": words(cell, keys),
            "reason": f"not {'planned' if pd.isna(cell[f'cell_{3 - side}']) else 'finished'} in "
            f"{there.name}",
            "cell": cell[f"cell_{side}"],
        }
        for _, cell in cells.iterrows()
    ]
    return pd.DataFrame(lines, columns=["study", "experiment", "settings", "reason", "cell"])


def only_here(here: Study, there: Study, experiment: str, keys: Sequence[str]) -> str:
    """List the values of `keys` that only `here` has planned: `latent_dim 30; labels 10, 80`."""
    one, two = (study.configurations(experiment) for study in (here, there))
    values = {
        key: [v for v in one[key].unique() if v not in set(two[key])]
        for key in keys
        if key in one and key in two
    }
    return "; ".join(
        f"{key} {', '.join(map(short, found))}" for key, found in values.items() if found
    )


def words(values: pd.Series, keys: Sequence[str]) -> str:
    """Return settings as text: `latent_dim 14, depth 3`."""
    return ", ".join(f"{key} {short(values[key])}" for key in keys)


def short(value: object) -> str:
    """A setting's value as text: a float with six digits at most."""
    return f"{value:g}" if isinstance(value, float) else str(value)
