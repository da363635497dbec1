"""Facts about each study, and the settings in which studies differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.compare.studies import Study, short
from analysis.results import distinct
from study.words import counted, few


def facts(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per fact, one column per study."""
    table = pd.DataFrame({study.name: _facts_of(study) for study in studies})
    return table.rename_axis("fact").reset_index()


def _facts_of(study: Study) -> dict[str, str]:
    results, plan = study.results, study.results.plan
    records = results.store.provenance(results.rows["cell"].unique())
    splits = zip(plan.get("images", ()), ("training", "validation", "test"), strict=False)
    images = ", ".join(f"{count:,} {split}" for count, split in splits)
    classes = f"{len(plan['classes'])} classes" if "classes" in plan else ""
    shape = " × ".join(map(str, results.image_shape))
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
        "code": distinct(records, "code"),
        "torch": distinct(records, "torch"),
        "computed on": distinct(records, "device"),
    }


def settings(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per setting of each experiment that at least two studies have.

    Columns `experiment`, `setting`, `same` (whether all studies with the experiment have the same
    values), and one per study.
    """
    names = [e["name"] for study in studies for e in study.results.plan["experiments"]]
    lines = []
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        values = {
            study.name: study.results.setting_values(name, short)
            for study in studies
            if any(planned["name"] == name for planned in study.results.plan["experiments"])
        }
        for setting in dict.fromkeys(s for of_it in values.values() for s in of_it):
            texts = {study: few(of_it.get(setting, ["–"])) for study, of_it in values.items()}
            same = len(set(texts.values())) == 1
            lines.append({"experiment": name, "setting": setting, "same": same, **texts})
    columns = ["experiment", "setting", "same", *(study.name for study in studies)]
    return pd.DataFrame(lines, columns=columns).fillna("–")
