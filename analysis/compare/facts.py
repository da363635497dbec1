"""Facts about each study, and the settings in which studies differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare.studies import Study, short
from analysis.results import GREY_28
from study.words import counted, few


def facts(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per fact, one column per study."""
    table = pd.DataFrame({study.name: _facts_of(study) for study in studies})
    return table.rename_axis("fact").reset_index()


def _facts_of(study: Study) -> dict[str, str]:
    results, plan = study.results, study.results.plan
    records = results.store.provenance(results.rows["cell"].unique())

    def distinct(name: str) -> str:
        return ", ".join(sorted({str(record[name]) for record in records if name in record}))

    splits = zip(plan.get("images", ()), ("training", "validation", "test"), strict=False)
    images = ", ".join(f"{count:,} {split}" for count, split in splits)
    classes = f"{len(plan['classes'])} classes" if "classes" in plan else ""
    shape = " × ".join(map(str, plan.get("image_shape", GREY_28)))
    counts = results.rows.groupby("experiment", sort=False)["cell"].agg(["nunique", "size"])
    return {
        "study": plan["study"],
        "command": plan["command"],
        "data set": Path(plan["dataset"]).name,
        "images": "; ".join(filter(None, [images, shape, classes])),
        "fingerprint of the data": plan["fingerprint"],
        **{
            str(name): f"{counted(count['nunique'], 'cell')}, {counted(count['size'], 'model')}"
            for name, count in counts.iterrows()
        },
        "code": distinct("code"),
        "torch": distinct("torch"),
        "computed on": distinct("device"),
    }


def settings(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per setting of each experiment that at least two studies have.

    Columns `experiment`, `setting`, `same` (whether all studies with the experiment have the same
    values), and one per study.
    """
    planned = {study.name: {e["name"]: e for e in study.results.plan["experiments"]}
               for study in studies}  # fmt: skip
    names = [name for experiments in planned.values() for name in experiments]
    lines = []
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        values = {study: _values(experiments[name]["cells"])
                  for study, experiments in planned.items() if name in experiments}  # fmt: skip
        for setting in dict.fromkeys(s for of_it in values.values() for s in of_it):
            texts = {study: of_it.get(setting, "–") for study, of_it in values.items()}
            same = len(set(texts.values())) == 1
            lines.append({"experiment": name, "setting": setting, "same": same, **texts})
    columns = ["experiment", "setting", "same", *planned]
    return pd.DataFrame(lines, columns=columns).fillna("–")


def _values(cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The values of each setting, including the number of replicates."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for name, value in {**cell["config"], "replicates": cell["replicates"]}.items():
            found.setdefault(name, {})[short(value)] = None
    return {name: few(list(values)) for name, values in found.items()}
