"""The report: one section per question, written only from the cells on disk.

To give an experiment a section, add a module with `write(document, results)` here, and a line in
`sections.SECTIONS`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from analysis import cache
from analysis.document import Document, uri
from analysis.report import any_experiment, sections
from analysis.results import Results, distinct, load
from analysis.stamp import STAMP, stamp
from analysis.stamp import is_current as is_current
from analysis.style import as_png, on_paper
from study.errors import DataMissing, StoreError
from study.provenance import code_version, packages
from study.store import Block
from study.words import duration, without_query
from trainables.data import pixels


def write(
    folder: str | Path,
    damaged: Mapping[Block, str] | None = None,
    executor: Executor | None = None,
    data_dir: str | Path | None = None,
) -> Path | str:
    """Write `report/` of a results folder; return the path of the page, or its URI on object
    storage.

    `damaged` and `data_dir` are as for `analysis.results.load`: without `damaged`, every block is
    verified first. With an `executor`, one of its processes does about half of the work.

    Raises `StoreError` if the folder has no study, no cell is finished, cells lack a setting, or
    `data_dir` doesn't hold the images. Raises `DataMissing` after writing the page if parts of it
    need images that can't be read.
    """
    results = load(folder, damaged, data_dir)
    if results.rows.empty:
        raise StoreError(
            f"{results.store.place.where()}: no cell is finished, so there is no report"
        )
    results.require_settings()
    if data_dir and isinstance(results.source.found, DataMissing):
        raise StoreError(f"--data-dir {data_dir}: {results.source.found}")
    results.store.place.delete(STAMP)  # the new report may be less complete
    document = Document()
    with results.store.place.working_folder("report") as report:
        for section in sections.write(results, executor):
            document.add(section)
        document.save("missing", results.missing)
        document.write(report, **_context(results, results.missing.to_dict("records")))
    page = results.store.place.where("report/index.html")
    if document.left_out:
        raise DataMissing(
            f"{page} lacks what needs images: {results.source.found}; {_remedy(results)}"
        )
    # Last, so that a report that lacks a part does not count as up to date.
    current = stamp(results.plan, results.missing.to_dict("records"), results.searches)
    results.store.place.write(STAMP, json.dumps(current).encode())
    return page


def _remedy(results: Results) -> str:
    """How to get the whole report if the images have been moved."""
    where = shlex.quote(without_query(results.store.address))
    return f"`study report {where} --data-dir DIR` reads them from DIR"


def grow(folder: str | Path, progress: str, refresh: float) -> None:
    """Write the page of a running study: its progress, and a section per experiment with finished
    cells. The page reloads itself every `refresh` seconds, until the report replaces it.

    No block is verified and no model is read: it costs a second or two of one core.
    """
    results = load(folder, {})
    results.store.place.delete(STAMP)
    with threadpool_limits(1):
        document = Document(alone=True)
        for planned in results.plan["experiments"]:
            if len(results.of(planned["name"])):
                any_experiment.write(document, results, planned["name"])
        failures = results.store.failures()
        failed = [line for line in results.missing.to_dict("records") if line["cell"] in failures]
        context = _context(results, failed)
        page = document.render(**context, progress=progress, refresh=refresh)
        results.store.place.write("report/index.html", page.encode())


def prepare(folder: str | Path) -> None:
    """Compute in advance what the report of a running study will need (`sections.prepare`)."""
    if cache.is_usable():
        sections.prepare(load(folder, {}))


def _context(results: Results, missing: list[dict[str, str]]) -> dict[str, Any]:
    """What the page says around the sections."""
    finished = results.rows["cell"].unique() if len(results.rows) else []
    records = results.store.provenance(finished)
    seconds = _seconds(results, records)
    return {
        "title": f"Latent study: {results.plan['study']} on {Path(results.plan['dataset']).name}",
        "subtitle": f"{_data(results)}. Models were chosen on validation images; test images only "
        "score.",
        "facts": _facts(results, seconds) if len(finished) else {},
        "samples": _samples(results),
        "missing": missing,
        "cells": len(results.missing) + len(finished),
        "trouble": f"{results.source.found}; {_remedy(results)}.",
        "command": results.plan["command"],
        "citation": _citation(results),
        "provenance": _provenance(results, records, seconds),
    }


def _facts(results: Results, seconds: float) -> dict[str, str]:
    """The size of the study in a few numbers, by what they count."""
    rows = results.rows
    epochs = sorted(set(results.of("autoencoder").get("epochs", ())))
    noun = "epoch" if epochs == [1] else "epochs"
    facts = {
        "cells": f"{rows['cell'].nunique():,}",
        "trained models": f"{len(rows.drop_duplicates(['cell', 'replicate'])):,}",
        f"{noun} an autoencoder": " or ".join(f"{number:g}" for number in epochs),
        "of training, all models together": duration(seconds),
    }
    return {name: value for name, value in facts.items() if value}


def _samples(results: Results) -> list[dict[str, str]]:
    """The first twelve test images as pictures for the page; empty if they are missing."""
    try:
        data = results.dataset
    except DataMissing:
        return []
    pictures = on_paper(pixels(results.test_images[:12]), data.is_dark)
    samples = []
    for index, (picture, label) in enumerate(zip(pictures, results.test_labels, strict=False)):
        shown = f": {data.classes[int(label)]}" if data.classes else ""
        name = f"test image {index + 1}{shown}"
        samples.append({"uri": uri("image/png", as_png(picture)), "name": name})
    return samples


def _citation(results: Results) -> str:
    plan = results.plan
    return (
        f"latent-study, code {code_version()}: study “{plan['study']}” on "
        f"{Path(plan['dataset']).name} (fingerprint {plan['fingerprint'][:12]}), "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )


def _seconds(results: Results, records: list[dict[str, Any]]) -> float:
    """Total device time of all blocks, in seconds."""
    try:
        return sum(float(record["seconds"]) for record in records)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"{results.store.place.where()}: a block's device time can't be read"
        ) from error


def _provenance(results: Results, records: list[dict[str, Any]], seconds: float) -> dict[str, str]:
    """The origin of the results: all distinct values of the blocks, and the sum of their times."""
    settings = {
        f"Settings of {planned['name']}": "; ".join(
            f"{name} {', '.join(values)}"
            for name, values in results.setting_values(planned["name"]).items()
        )
        for planned in results.plan["experiments"]
    }
    return {
        "Command": results.plan["command"],
        "Written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Code of the cells": distinct(records, "code"),
        "Code of the report": code_version(),
        "Packages": ", ".join(f"{name} {number}" for name, number in packages().items()),
        "Computed on": distinct(records, "device"),
        "Threads a trial": distinct(records, "threads"),
        "Device time": duration(seconds),
        "Data": _data(results),
        **settings,
    }


def _data(results: Results) -> str:
    name, fingerprint = results.plan["dataset"], results.plan["fingerprint"]
    try:
        (train, validation, test), classes = results.images, len(results.classes)
    except DataMissing:  # the plan records neither
        return f"{name}; fingerprint {fingerprint}"
    return (
        f"{name}: {train:,} training, {validation:,} validation and {test:,} test images of "
        f"{' × '.join(map(str, results.image_shape))}, in {classes or 'no'} classes; "
        f"fingerprint {fingerprint}"
    )
