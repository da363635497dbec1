"""A results folder as tidy tables and trained models.

from analysis.results import load
results = load("results")  # or "s3://bucket/path"
results.rows            # a DataFrame, one line a replicate
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype

from analysis.source import Source
from analysis.stamp import missing_cells
from study.errors import DataMissing, StoreError
from study.store import Block, Store
from study.store.cells import sha256
from trainables.autoencoder.settings import Config as AutoencoderConfig
from trainables.contract import added_defaults
from trainables.data import Dataset
from trainables.fewshot.settings import Config as FewshotConfig
from trainables.networks import Autoencoder
from trainables.own import OwnCodeError
from trainables.rotation.settings import Config as RotationConfig
from trainables.supervised.settings import Config as SupervisedConfig

GREY_28 = (1, 28, 28)
"""Channels, height and width of images if the plan doesn't record them."""

COUNTS = ("replicate", "seed", "latent_dim", "depth", "batch_size", "epochs", "labels",
          "label_subset", "encoder_replicate", "parameters")  # fmt: skip
"""Columns of `rows` that hold whole numbers."""
MEASURES = re.compile(r"(train|val|test)_\w+")
"""Names of columns that hold measured numbers: seconds, errors, accuracies."""

HISTORY_SETTINGS = (
    "latent_dim", "depth", "batch_size", "width", "network", "labels", "freeze"
)  # fmt: skip
"""Settings that a training history has beside its numbers."""

AUTOENCODERS = ("autoencoder", "longer", "batches", "widths", "betas")
"""The shipped experiments that train autoencoders."""

CONFIGS: Mapping[str, Any] = {
    **dict.fromkeys(AUTOENCODERS, AutoencoderConfig),
    **dict.fromkeys(("fewshot", "steps", "rates"), FewshotConfig),
    "supervised": SupervisedConfig,
    "rotation": RotationConfig,
}
"""The settings of the shipped experiments, which the sections of the report read."""


@dataclass(frozen=True)
class Results:
    """The finished part of the plan of a results folder's latest command."""

    store: Store
    """The folder's cells."""
    plan: dict[str, Any]
    """The plan: `study`, `command`, `dataset`, `experiments` with their cells …"""
    damaged: Mapping[Block, str]
    """Finished blocks that `Store.verify` found damaged, and why; others are assumed whole."""
    source: Source
    """Finds the images."""
    whole: Results | None = None
    """The results that these are a part of; these don't read again what those have read."""

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the cells were computed from.

        Raises `DataMissing` if they can't be read, or if other data are found in their place.
        """
        found = self.source.found
        if isinstance(found, DataMissing):
            raise found
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the images; empty if they have no labels."""
        recorded = self.plan.get("classes")  # plans of earlier versions have none
        return self.dataset.classes if recorded is None else tuple(recorded)

    @property
    def images(self) -> tuple[int, ...]:
        """Numbers of training, validation and test images."""
        return tuple(self.plan.get("images") or map(len, self.dataset.splits))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        channels, height, width = self.plan.get("image_shape", GREY_28)
        return channels, height, width

    def planned(self, experiment: str) -> dict[str, Any]:
        """The plan of an experiment; a plan without cells if it isn't in the plan."""
        found = (e for e in self.plan["experiments"] if e["name"] == experiment)
        return next(found, {"name": experiment, "axes": {}, "metric": "", "cells": []})

    @cached_property
    def _wanted(self) -> dict[str, dict[str, int]]:
        """Number of requested replicates by experiment and finished cell, in the grid's order."""
        missing = set(self.missing["experiment"] + " " + self.missing["cell"])
        return {
            planned["name"]: {
                cell["id"]: cell["replicates"]
                for cell in planned["cells"]
                if f"{planned['name']} {cell['id']}" not in missing
            }
            for planned in self.plan["experiments"]
        }

    def cells(self, experiment: str) -> list[str]:
        """Ids of the finished cells of an experiment, in the order of its grid."""
        return list(self._wanted.get(experiment, ()))

    def setting_values(
        self, experiment: str, text: Callable[[object], str] = str
    ) -> dict[str, list[str]]:
        """The distinct values of each setting in the plan of an experiment, and of the number of
        replicates, as `text` writes them."""
        values: dict[str, dict[str, None]] = {}
        for cell in self.planned(experiment)["cells"]:
            for name, value in {**cell["config"], "replicates": cell["replicates"]}.items():
                values.setdefault(name, {})[text(value)] = None
        return {name: list(distinct) for name, distinct in values.items()}

    def replicates(self, cell: str) -> range:
        """The requested replicates of a finished cell; empty if it isn't finished."""
        return range(max((cells.get(cell, 0) for cells in self._wanted.values()), default=0))

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Rows by experiment, read once."""
        tables = {}
        for name, wanted in self._wanted.items():
            if self.whole is not None:
                tables[name] = _of_cells(self.whole.of(name), wanted)
                continue
            table = self.store.rows(wanted)
            self._require_numbers(name, table)
            table.insert(0, "experiment", name)
            tables[name] = _with_added_settings(name, table)
        return tables

    def _require_numbers(self, experiment: str, table: pd.DataFrame) -> None:
        """Raise `StoreError` if a column of numbers holds something else."""
        for column in table:
            number = column in COUNTS or MEASURES.fullmatch(str(column))
            if number and not is_numeric_dtype(table[column]) and table[column].notna().any():
                where = self.store.place.where()
                raise StoreError(
                    f"{where}: {column} of {experiment} holds something that is not a number"
                )

    def require_settings(self) -> None:
        """Raise `StoreError` if cells of a shipped experiment lack one of its settings."""
        for name, table in self._tables.items():
            if len(table) and (config := CONFIGS.get(name)):
                needed = {setting.name for setting in fields(config)} - set(added_defaults(config))
                if lacking := sorted(needed - set(table)):
                    raise StoreError(
                        f"{self.store.place.where()}: the cells of {name} lack the setting "
                        f"{lacking[0]!r}; other code computed them, so there is no report on them"
                    )

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line per replicate of every finished cell: `experiment`, `cell`, `replicate`, its
        settings and its final metrics; NaN if an experiment has no such column."""
        tables = [table for table in self._tables.values() if len(table)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def of(self, experiment: str) -> pd.DataFrame:
        """The rows of one experiment, with its own columns; empty if none of it is finished.

        A part of results has the columns of the whole.
        """
        return self._tables.get(experiment, pd.DataFrame())

    def history(self, experiment: str) -> pd.DataFrame:
        """One line per replicate and epoch, with the main settings of its cell."""
        history = self.store.history(self._wanted.get(experiment, {}))
        if not len(history):
            return history
        self._require_numbers(experiment, history)
        settings = self.of(experiment).drop_duplicates("cell")
        names = [n for n in HISTORY_SETTINGS if n in settings]
        return history.merge(settings[["cell", *names]], on="cell")

    def with_plain_autoencoders(self) -> Results:
        """The same without the autoencoders that classifiers start from, unless they are plain.

        The errors of those left out answer another question. Other autoencoders that are not
        plain come from a search, and stay.
        """
        starts = {c["parent"] for planned in self.plan["experiments"] for c in planned["cells"]}

        def kept(planned: dict[str, Any]) -> list[dict[str, Any]]:
            cells = planned["cells"]
            return [c for c in cells if c["id"] not in starts or is_plain(c["config"])]

        experiments = [
            {**planned, "cells": kept(planned)} if planned["name"] == "autoencoder" else planned
            for planned in self.plan["experiments"]
        ]
        same = experiments == self.plan["experiments"]
        return self if same else self._part(experiments)

    def only(self, experiments: Collection[str]) -> Results:
        """The same with these experiments only."""
        kept = [p for p in self.plan["experiments"] if p["name"] in experiments]
        return self._part(kept)

    def _part(self, experiments: list[dict[str, Any]]) -> Results:
        """The part with these experiments, which have no other cells than those of this plan."""
        return replace(self, plan={**self.plan, "experiments": experiments}, whole=self)

    @cached_property
    def missing(self) -> pd.DataFrame:
        """Cells that lack a requested replicate: `experiment`, `cell`, `settings`, `reason`."""
        columns = ["experiment", "cell", "settings", "reason"]
        if self.whole is None:
            lines = missing_cells(self.store, self.plan, self.damaged)
        else:
            every = self.whole.missing.to_dict("records")
            asked = {
                (p["name"], cell["id"]) for p in self.plan["experiments"] for cell in p["cells"]
            }
            lines = [line for line in every if (line["experiment"], line["cell"]) in asked]
        return pd.DataFrame(lines, columns=columns, dtype=object)

    @cached_property
    def searches(self) -> dict[str, dict[str, Any]]:
        """Searches whose trials are in the folder, by name, as `analysis.search` reads them."""
        return self.store.searches()

    def digest(self) -> str:
        """Hash of the content of all blocks: equal cells of another machine have other bits."""
        cells = set(self.rows["cell"]) if len(self.rows) else set()  # reads each block
        found = (digest for block, digest in self.store.digests.items() if block.cell in cells)
        return sha256(b"".join(sorted(found)))

    # --- models ------------------------------------------------------------------------------

    def autoencoders(self, cell: str, replicates: Iterable[int] | None = None) -> list[Autoencoder]:
        """The trained autoencoders of a cell, on the CPU, in evaluation mode.

        By default all requested replicates.
        """
        settings = settings_of(AutoencoderConfig, self.store.config(cell))
        shape = settings.shape.of_images(self.image_shape)
        wanted = self._chosen(cell, replicates)
        weights = self.store.weights(cell, wanted)
        models = []
        for replicate in wanted:
            try:
                with torch.device("meta"):  # skips random weights, which take half of the time
                    model = Autoencoder(shape)
            except OwnCodeError as error:
                raise StoreError(f"the network of {cell} can't be made: {error}") from error
            model.load_state_dict(weights[replicate], assign=True)
            models.append(model.eval())
        return models

    def first_autoencoder(self, cell: str) -> Autoencoder:
        """Replicate 0 of a cell, which figures show: loaded once, so don't change it."""
        if cell not in self._first_autoencoders:
            (self._first_autoencoders[cell],) = self.autoencoders(cell, [0])
        return self._first_autoencoders[cell]

    @cached_property
    def _first_autoencoders(self) -> dict[str, Autoencoder]:
        """The models that `first_autoencoder` has loaded, by cell."""
        return {}

    def predictions(self, cell: str, replicates: Iterable[int] | None = None) -> np.ndarray:
        """Predictions of a cell's models on the test images, (R, N_test): classes, uint8, or
        angles, float32. By default all requested replicates.

        Raises `StoreError` if they are of another number of images.
        """
        found = self.store.predictions(cell, self._chosen(cell, replicates))
        if found.shape[1] != self.images[2]:
            raise StoreError(
                f"{self.store.place.where()}: cell {cell} predicts {found.shape[1]:,} images, and "
                f"{self.plan['dataset']} has {self.images[2]:,} test images"
            )
        return found

    def _chosen(self, cell: str, replicates: Iterable[int] | None) -> list[int]:
        return [int(r) for r in (self.replicates(cell) if replicates is None else replicates)]

    @cached_property
    def test_images(self) -> torch.Tensor:
        """The test split, (N, C, H, W) uint8."""
        return self.dataset.test.on("cpu")[0]

    @cached_property
    def test_labels(self) -> torch.Tensor:
        """The test labels, (N,) int64."""
        return self.dataset.test.on("cpu")[1]


def _of_cells(table: pd.DataFrame, cells: Collection[str]) -> pd.DataFrame:
    """The rows of these cells; a table without rows may have no columns."""
    return table if table.empty else table[table["cell"].isin(cells)].reset_index(drop=True)


def _with_added_settings(experiment: str, table: pd.DataFrame) -> pd.DataFrame:
    """The same, with settings that older cells lack at the defaults that reproduce them."""
    config = CONFIGS.get(experiment)
    if table.empty or config is None:
        return table
    for name, default in added_defaults(config).items():
        table[name] = table[name].fillna(default) if name in table else default
    return table


def distinct(records: Iterable[Mapping[str, Any]], name: str) -> str:
    """All values of `name` in the provenance of blocks, in order."""
    return ", ".join(sorted({str(record[name]) for record in records if name in record}))


def settings_of(kind: Any, config: Mapping[str, Any]) -> Any:
    """A stored configuration as a `Config` of class `kind`, without settings that it lacks."""
    known = {setting.name for setting in fields(kind)}
    return kind(**{name: value for name, value in config.items() if name in known})


def is_plain(config: Mapping[str, Any]) -> bool:
    """True for an autoencoder trained to reconstruct unaltered images."""
    otherwise = config.get("objective", "reconstruction") != "reconstruction"
    return not (otherwise or config.get("augment") or config.get("noise"))


def load(
    folder: str | Path,
    damaged: Mapping[Block, str] | None = None,
    data_dir: str | Path | None = None,
) -> Results:
    """Read a results folder, or a place on object storage (`s3://bucket/path`).

    `damaged` is the result of `Store.verify` on the plan's cells. Without it, they are verified
    here, once; in a folder, this reads every byte. Blocks loaded later are verified as they are
    read.

    `data_dir` is where the images are if they have been moved: see `Source`.

    Raises `StoreError` if there is no study in it.
    """
    store = Store(folder)
    store.place.reach()
    plan = store.plan()
    if damaged is None:
        cells = {cell["id"] for planned in plan["experiments"] for cell in planned["cells"]}
        damaged = store.verify(cells)
    return Results(store, plan, damaged, Source(plan, Path(data_dir) if data_dir else None))
