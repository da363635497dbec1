"""Arms and their names. An arm is a value of `freeze` and a value of `pretraining`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.results import Results

FREEZE_NAMES = {
    "fixed": "encoder fixed",
    "full": "everything trained",
    "scratch": "not pretrained",
    "lp-ft": "probe, then tuned",
    "propagation": "labels propagated",
    "consistency": "network on propagated labels",
    "logistic": "logistic regression on codes",
    "svm": "support vector machine on codes",
    "neighbours": "nearest neighbour on codes",
    "supervised": "supervised network",
}
"""Names of the values of `freeze` in figures, in the order shown. A value that is missing here is
shown under its own name, after the others."""

PLAIN = "plain"
JOINED = " + "
"""Separator of the two parts of an arm's key, if the arm isn't plain."""

SETTING = ["depth", "asked_batch_size"]
"""Settings that options can vary in addition to arm, latent dimension and labels."""


LABELLED_ONLY = ("scratch", "supervised")
"""Values of `freeze` of arms that see only labelled images."""


def with_arms(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `arm`.

    It is the arm's key: only `freeze` if `pretraining` is plain, else both.
    """
    both = rows["freeze"] + JOINED + rows["pretraining"]
    return rows.assign(arm=rows["freeze"].where(rows["pretraining"] == PLAIN, both))


def rows_of(results: Results, experiment: str = "fewshot") -> pd.DataFrame:
    """The rows of a few-shot experiment `with_arms`; all functions of this package take these.

    `asked_batch_size` is the batch size in the cell's configuration, 0 for all labels at once;
    `batch_size` is the size that was used. `chance` is a guess's accuracy.

    For "fewshot", they include the rows of the supervised network. It has no code: its
    `latent_dim` and `depth` are NaN.
    """
    asked = {
        cell["id"]: cell["config"].get("batch_size", 0)
        for planned in results.plan["experiments"]
        if planned["name"] in (experiment, "supervised")
        for cell in planned["cells"]
    }
    tables = [results.of(experiment)]
    supervised = results.of("supervised")
    if experiment == "fewshot" and len(supervised):
        plain = supervised["augment"] == 0
        pretraining = np.where(plain, PLAIN, "augmented")
        tables.append(supervised.assign(freeze="supervised", pretraining=pretraining))
    rows = with_arms(pd.concat(tables, ignore_index=True))
    return rows.assign(asked_batch_size=rows["cell"].map(asked), chance=1 / len(results.classes))


def chance_of(rows: pd.DataFrame) -> float:
    """The accuracy of a guess, from the rows of `rows_of`."""
    return float(rows["chance"].iloc[0])


def at_one_setting(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the deepest encoders and, of these, the least `asked_batch_size`.

    `table` has the columns `SETTING`. Encoders of two depths share only the number of a replicate,
    so they are neither averaged nor joined by a line. The supervised network has no encoder; it
    counts as one of the deepest.
    """
    deepest = table[(table["depth"] == table["depth"].max()) | table["depth"].isna()]
    return deepest[deepest["asked_batch_size"] == deepest["asked_batch_size"].min()]


def setting_words(table: pd.DataFrame) -> str:
    """A sentence on the setting that `at_one_setting` takes; empty if there is only one."""
    table = table[table["depth"].notna()]
    if len(table.drop_duplicates(SETTING)) < 2:
        return ""
    depth, batch_size = at_one_setting(table)[SETTING].iloc[0].astype(int)
    batch = batch_size or "all labels at once"
    return (
        f"Of several settings this is the one with the deepest encoders ({depth} layers), then the "
        f"least batch size ({batch}); the table of accuracies by cell has the others."
    )


def split(arm: str) -> tuple[str, str]:
    """Split an arm's key into `freeze` and `pretraining`."""
    way, _, pretraining = arm.partition(JOINED)
    return way, pretraining or PLAIN


def name_of(arm: str) -> str:
    """The name of an arm in figures and sentences."""
    way, pretraining = split(arm)
    name = FREEZE_NAMES.get(way, way)
    return name if pretraining == PLAIN else f"{name}, {pretraining}"


def ordered(arms: Iterable[str]) -> list[str]:
    """Distinct arms in the order in which they are shown: plain ones first."""
    known = list(FREEZE_NAMES)

    def place(arm: str) -> tuple[bool, int]:
        way, pretraining = split(arm)
        return pretraining != PLAIN, known.index(way) if way in known else len(known)

    return sorted(dict.fromkeys(arms), key=place)


def place_of(row: pd.Series) -> str:
    """Describe a classifier's place on the grid: its arm, its d if any, and its labels."""
    dim = f", d = {row['latent_dim']:.0f}" if row.get("latent_dim", 0) > 0 else ""
    return f"{name_of(row['arm'])}{dim}, {row['labels']} labels"
