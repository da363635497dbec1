"""A results folder as tidy tables and trained models.

from analysis.results import load
results = load("results")  # or "s3://bucket/path"
results.rows            # a DataFrame, one line a replicate
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.stamp import missing_cells
from study.store import Store, StoreError
from trainables.autoencoder import Config as AutoencoderConfig
from trainables.data import Dataset
from trainables.data import load as load_data
from trainables.networks import Autoencoder


@dataclass(frozen=True)
class Results:
    """What the latest command of a results folder asked for, as far as it is done."""

    store: Store
    """The folder's cells."""
    plan: dict[str, Any]
    """What was asked for: `study`, `command`, `dataset`, `experiments` with their cells …"""

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the cells were computed from.

        Raises `StoreError` where other data are found under its name.
        """
        folder = self.plan.get("data_dir")
        data = load_data(self.plan["dataset"], Path(folder) if folder else None)
        if data.fingerprint != self.plan["fingerprint"]:
            raise StoreError(
                f"{self.plan['dataset']} has changed since the cells were computed: fingerprint "
                f"{data.fingerprint} instead of {self.plan['fingerprint']}"
            )
        return data

    @cached_property
    def _done(self) -> set[str]:
        """Ids of the cells that are finished and whole."""
        groups = self.plan["experiments"]
        return self.store.state(cell["id"] for group in groups for cell in group["cells"]).done

    def cells(self, experiment: str) -> list[str]:
        """Ids of the finished cells of an experiment, in the order of its grid."""
        return [
            cell["id"]
            for planned in self.plan["experiments"]
            if planned["name"] == experiment
            for cell in planned["cells"]
            if cell["id"] in self._done
        ]

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """By experiment: its rows, read once."""
        tables = {}
        for planned in self.plan["experiments"]:
            table = self.store.rows(self.cells(planned["name"]))
            table.insert(0, "experiment", planned["name"])
            tables[planned["name"]] = table
        return tables

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line a replicate of every finished cell: `experiment`, `cell`, `replicate`, its
        settings and its final metrics; NaN where an experiment has no such column."""
        tables = [table for table in self._tables.values() if len(table)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def of(self, experiment: str) -> pd.DataFrame:
        """The rows of one experiment, with its columns alone; empty where nothing of it is done
        or planned."""
        return self._tables.get(experiment, pd.DataFrame())

    def history(self, experiment: str) -> pd.DataFrame:
        """One line a replicate and epoch, with the settings of its cell."""
        history = self.store.history(self.cells(experiment))
        if not len(history):
            return history
        settings = self.of(experiment).drop_duplicates("cell")
        names = [n for n in ("latent_dim", "depth", "batch_size", "labels", "freeze")
                 if n in settings]  # fmt: skip
        return history.merge(settings[["cell", *names]], on="cell")

    def without_augmented(self) -> Results:
        """The same without the autoencoders that learnt from noisy or augmented images for
        classifiers to start from: their errors answer another question. Others that did are what
        a search has found."""
        starts = {c["parent"] for planned in self.plan["experiments"] for c in planned["cells"]}

        def kept(planned: dict[str, Any]) -> list[dict[str, Any]]:
            return [
                cell
                for cell in planned["cells"]
                if cell["id"] not in starts
                or not (cell["config"].get("augment") or cell["config"].get("noise"))
            ]

        experiments = [
            {**planned, "cells": kept(planned)} if planned["name"] == "autoencoder" else planned
            for planned in self.plan["experiments"]
        ]
        same = experiments == self.plan["experiments"]
        return self if same else replace(self, plan={**self.plan, "experiments": experiments})

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The cells that were asked for and are not there: `experiment`, `cell`, `settings`,
        `reason`."""
        columns = ["experiment", "cell", "settings", "reason"]
        return pd.DataFrame(missing_cells(self.store, self.plan), columns=columns)

    @cached_property
    def searches(self) -> dict[str, dict[str, Any]]:
        """By name: the searches whose trials are in the folder, as `analysis.search` reads them."""
        return self.store.searches()

    # --- models ------------------------------------------------------------------------------

    def autoencoders(self, cell: str) -> list[Autoencoder]:
        """The R trained autoencoders of a cell, on the CPU, in evaluation mode."""
        config = self.store.config(cell)
        known = {setting.name for setting in fields(AutoencoderConfig)}
        shape = AutoencoderConfig(**{k: v for k, v in config.items() if k in known}).shape
        stacked = self.store.weights(cell)
        models = []
        for replicate in range(config["replicates"]):
            with torch.device("meta"):  # without random weights: half of the time
                model = Autoencoder(shape)
            own = {name: value[replicate] for name, value in stacked.items()}
            model.load_state_dict(own, assign=True)
            models.append(model.eval())
        return models

    def predictions(self, cell: str) -> np.ndarray:
        """Predicted classes of the test images, (R, N_test) uint8, or angles, float32."""
        return self.store.predictions(cell)

    @cached_property
    def test_images(self) -> torch.Tensor:
        """The test split, (N, 1, 28, 28) uint8."""
        return self.dataset.test.on("cpu")[0]

    @cached_property
    def test_labels(self) -> torch.Tensor:
        """The test labels, (N,) int64."""
        return self.dataset.test.on("cpu")[1]


def load(folder: str | Path) -> Results:
    """Read a results folder, or a place on object storage (`s3://bucket/path`). Raises
    `StoreError` where there is no study in it."""
    store = Store(folder)
    store.place.reach()
    return Results(store, store.plan())
