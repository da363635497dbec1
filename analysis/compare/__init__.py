"""Comparison of studies: what each is, its results, and the differences with intervals.

- `studies`: the studies' names, and which of their cells correspond
- `differences`: tables of differences, paired if data and seeds are the same
- `figures`: plots of results and differences
- `sections`: the parts of the page, among them what each study is and what differs
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.compare import sections
from analysis.compare.studies import Study, match, read
from analysis.document import Document
from study.errors import StoreError
from study.provenance import code_version
from study.words import redacted

OWN_SECTION = {
    "autoencoder": sections.write_reconstruction,
    "fewshot": sections.write_transfer,
}
"""Experiments with a section of their own, and its function."""


def write(folders: Sequence[str | Path], out: Path) -> Path:
    """Write a page in `out` that compares studies with the first of them; return its path.

    `folders` are results folders or buckets. Raises `StoreError` if one has no study, or if a study
    has no finished cell in common with the first.
    """
    studies = read(folders)
    first = studies[0]
    common = _common(studies)
    with threadpool_limits(1):
        document = Document()
        sections.write_studies(document, studies)
        for experiment, write_section in OWN_SECTION.items():
            if experiment in common:
                with document.where_data_allow("the rest of this section"):
                    write_section(document, studies)
        within = {*OWN_SECTION, *(["supervised"] if "fewshot" in common else [])}
        if others := [name for name in common if name not in within]:
            sections.write_others(document, studies, others)
        sections.write_alone(document, studies)
        missing = _missing(studies)
        document.save("missing", missing)
        names = " and ".join(study.name for study in studies[1:])
        return document.write(
            out,
            title=f"{first.name} compared with {names}",
            subtitle=f"Each study minus {first.name}. Replicates are paired where data and seeds "
            "are the same; intervals of unpaired differences are Welch's.",
            missing=missing.to_dict("records"),
            cells=len(missing) + sum(study.results.rows["cell"].nunique() for study in studies),
            trouble="earlier versions recorded neither the classes nor the number of images.",
            command=redacted(
                shlex.join(["study", "compare", *map(str, folders), "--out", str(out)])
            ),
            citation=f"latent-study, code {code_version()}: {first.name} compared with {names}, "
            f"{datetime.now(UTC):%Y-%m-%d}.",
            provenance={
                **{study.name: str(study.results.store.place.where()) for study in studies},
                "Written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "Code of this page": code_version(),
            },
        )


def _common(studies: Sequence[Study]) -> list[str]:
    """The experiments in which the first study shares a finished cell with another.

    Raises `StoreError` if a study shares none with the first.
    """
    first = studies[0]
    names = [planned["name"] for planned in first.results.plan["experiments"]]
    found = {
        other.name: [name for name in names if len(match(first, other, name).cells)]
        for other in studies[1:]
    }
    for other in studies[1:]:
        if not found[other.name]:
            there = ", ".join(e["name"] for e in other.results.plan["experiments"])
            raise StoreError(
                f"{other.name} has no finished cell in common with {first.name}: it has {there}, "
                f"{first.name} has {', '.join(names)}; compare studies of the same experiment with "
                "some settings in common"
            )
    return [name for name in names if any(name in common for common in found.values())]


def _missing(studies: Sequence[Study]) -> pd.DataFrame:
    """The cells without a result, with their study."""
    tables = [study.results.missing for study in studies]
    return pd.concat(
        [
            table.assign(experiment=f"{study.name}: " + table["experiment"])
            for study, table in zip(studies, tables, strict=True)
        ],
        ignore_index=True,
    )
