"""The sections of a page that compares studies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import reconstruction, transfer
from analysis.compare.differences import accuracies, by_cell, metrics, over_cells
from analysis.compare.figures import (
    draw_accuracies,
    draw_accuracy_differences,
    draw_error_differences,
    draw_errors,
)
from analysis.compare.studies import Study, match, only_here, short
from analysis.document import Document
from analysis.report.captions import STUDENT, bars
from analysis.results import distinct
from analysis.statistics import LEVEL, PERCENT, Interval, unadjusted
from analysis.transfer.arms import name_of
from study.words import brief, counted

MOST_ARMS = 6
"""Number of arms with a sentence of their own; the table has all arms."""

HIDDEN = ("settings", "first_low", "first_high", "second_low", "second_high", "interval", "cells")
"""Columns that are in the tables' files but not on the page."""


def write_studies(document: Document, studies: Sequence[Study]) -> None:
    """Write what each study is, and which settings differ."""
    section = document.section(
        "studies", "What is compared", "What is each study, and which settings differ?"
    )
    table, every = facts(studies), settings(studies)
    same = every["same"].astype(bool)
    first = studies[0]
    for other in studies[1:]:
        one, two = (study.results.plan for study in (first, other))
        data = (
            "have the same images, so that replicates with the same seed are paired"
            if one["fingerprint"] == two["fingerprint"]
            else "have different images, so that their replicates are independent samples"
        )
        unequal = every[every[first.name] != every[other.name]]
        named = [
            f"{e} ({', '.join(of_it)})" for e, of_it in unequal.groupby("experiment")["setting"]
        ]
        differ = f"settings differ in {'; '.join(named)}" if named else "no setting differs"
        section.conclusions.append(f"{other.name} and {first.name} {data}; {differ}.")
    document.table("studies", table, "The studies", opened=True)
    if not same.all():
        document.table(
            "settings", every[~same].drop(columns="same"), "Settings that differ", opened=True
        )
    for experiment, lines in every[same].groupby("experiment", sort=False):
        equal = "; ".join(f"{line['setting']} {line[first.name]}" for _, line in lines.iterrows())
        document.text(f"The same in all, {experiment}: {equal}.")


def write_reconstruction(document: Document, studies: Sequence[Study]) -> None:
    """Write the errors of the autoencoders."""
    studies = [study for study in studies if len(study.results.of("autoencoder"))]
    first = studies[0]
    section = document.section(
        "reconstruction",
        "Reconstruction",
        "How do the studies' reconstruction errors depend on d and depth, and by how much do they "
        "differ?",
    )
    most = max(study.results.of("autoencoder")["replicate"].nunique() for study in studies)
    document.figure(
        "reconstruction",
        draw_errors(studies),
        "Test error against the latent dimension, each study at its smallest batch size; "
        f"{bars(f'{STUDENT}, dots the replicates', most)}.",
    )
    tables = []
    for number, other in enumerate(studies[1:], 2):
        table = by_cell(first, other, "autoencoder", "test_mse", relative=True)
        if table.empty:
            continue
        tables.append(table)
        overall = over_cells(first, other, "autoencoder", "test_mse")
        section.conclusions.append(
            f"{overall['comparison']}, test error, mean over the {counted(len(table), 'setting')} "
            f"in common: {_text(overall, 1, ' %')}, {_word(overall)} ({overall['interval']}, "
            f"{overall['pairing']}, n = {overall['n']}). Setting by setting: {_counts(table)}."
        )
        if "latent_dim" in table:
            document.figure(
                f"reconstruction_differences_{number}",
                draw_error_differences(table),
                f"Difference of the test error, {overall['comparison']}, in per cent; "
                f"{_bars(table)}.",
            )
    if tables:
        _table(document, "reconstruction", tables, "Test error by setting, differences in per cent")
    pca = pd.DataFrame({"latent_dim": [], "pca_mse": []})
    for study in studies:
        document.heading(f"What {study.name} finds by itself")
        rows = study.results.of("autoencoder")
        for sentence in reconstruction.conclusions(
            rows, pca, reconstruction.all_rows(study.results)
        ):
            document.text(sentence)


def write_transfer(document: Document, studies: Sequence[Study]) -> None:
    """Write the accuracies of the few-shot arms."""
    studies = [study for study in studies if len(study.results.of("fewshot"))]
    first = studies[0]
    section = document.section(
        "transfer",
        "Transfer",
        "How accurate is each arm on few labels in either study, and by how much do they differ?",
    )
    tables = []
    for number, other in enumerate(studies[1:], 2):
        table, dots = accuracies(first, other)
        if table.empty:
            continue
        tables.append(table)
        section.conclusions += _on_arms(table)
        comparison = table["comparison"].iloc[0]
        document.figure(
            f"transfer_{number}",
            draw_accuracies(table, dots, (first.name, other.name)),
            "Test accuracy against the number of labelled images by arm, means over the values of "
            f"d in common; bars are {PERCENT} intervals over replicates, dots the replicates.",
        )
        document.figure(
            f"transfer_differences_{number}",
            draw_accuracy_differences(table),
            f"Difference in test accuracy, {comparison}, means over the values of d in common; "
            f"{_bars(table)}.",
        )
    if tables:
        _table(document, "transfer", tables, "Accuracy by arm and labels")
    for study in studies:
        document.heading(f"What {study.name} finds by itself")
        _, validation, test = study.results.images
        for sentence in transfer.conclusions(transfer.rows_of(study.results), test, validation):
            document.text(sentence)


def _on_arms(table: pd.DataFrame) -> list[str]:
    """Say how many comparisons are decided, and add a sentence on each of the first arms."""
    arms = list(dict.fromkeys(table["arm"]))
    comparison = table["comparison"].iloc[0]
    sentences = [f"{comparison}, accuracies by arm and labels, means over d: {_counts(table)}."]
    for arm in arms[:MOST_ARMS]:
        lines = table[table["arm"] == arm]
        parts = [
            f"{line['labels']} labels: {_text(line, 1, ' points', 100)}, {_word(line)}"
            for _, line in lines.iterrows()
        ]
        sentences.append(f"{comparison}, {name_of(arm)}, {'; '.join(parts)} ({_bases(lines)}).")
    if len(arms) > MOST_ARMS:
        sentences.append(f"The table has the other {counted(len(arms) - MOST_ARMS, 'arm')}.")
    return sentences


def write_others(document: Document, studies: Sequence[Study], experiments: Sequence[str]) -> None:
    """Write the other experiments: every metric of corresponding cells."""
    section = document.section(
        "others", "Other experiments", "By how much do the metrics of common cells differ?"
    )
    for experiment in experiments:
        tables = []
        for other in studies[1:]:
            for metric in metrics(studies[0], other, experiment):
                table = by_cell(studies[0], other, experiment, metric)
                if table.empty:
                    continue
                tables.append(table.assign(metric=metric))
                if metric.startswith("test_"):
                    section.conclusions.append(_on_metric(table, experiment, metric))
        if tables:
            _table(document, f"other-{experiment}", tables, f"{experiment}, cells in common")


def _on_metric(table: pd.DataFrame, experiment: str, metric: str) -> str:
    line = table.loc[table["difference"].abs().idxmax()]
    scale, unit, digits = 1, "", 3 - math.floor(math.log10(abs(line["first"]) or 1))
    if metric.endswith("accuracy"):
        scale, unit, digits = 100, " points", 1
    return (
        f"{line['comparison']}, {experiment}, {metric}: {_counts(table)}. The largest difference, "
        f"at {line['settings']}: {_text(line, max(0, digits), unit, scale)}, {_word(line)} "
        f"({_bases(table.loc[[line.name]])})."
    )


def write_alone(document: Document, studies: Sequence[Study]) -> None:
    """Write which finished cells have no counterpart in the other study."""
    section = document.section(
        "alone", "Only in one", "Which finished cells have no counterpart to be compared with?"
    )
    tables = []
    for other in studies[1:]:
        names = [
            e["name"] for study in (studies[0], other) for e in study.results.plan["experiments"]
        ]
        for experiment in dict.fromkeys(names):
            found = match(studies[0], other, experiment)
            tables.append(found.alone)
            for here, there in ((studies[0], other), (other, studies[0])):
                if count := (found.alone["study"] == here.name).sum():
                    only = only_here(here, there, experiment, found.keys)
                    section.conclusions.append(
                        f"{experiment}: {counted(count, 'cell')} of {here.name} without a "
                        f"counterpart in {there.name}, {len(found.cells)} with one"
                        f"{f'; {here.name} alone has {only}' if only else ''}."
                    )
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        document.text("Each finished cell has its counterpart.")
    else:
        document.table("alone", table, "Cells without a counterpart", opened=True)


def _table(document: Document, name: str, tables: list[pd.DataFrame], caption: str) -> None:
    table = pd.concat(tables, ignore_index=True)
    document.table(
        name,
        table,
        f"{caption}; first and second are means, unadjusted {PERCENT} intervals; p values "
        "corrected for the number of lines of a comparison (Holm)",
        shown=table.drop(columns=list(HIDDEN), errors="ignore"),
    )


def _text(line: pd.Series, digits: int, unit: str = "", scale: float = 1) -> str:
    """Format a difference with its interval."""
    n = sum(map(int, line["n"].split(" + ")))
    interval = Interval(line["difference"], line["low"], line["high"], n, line["interval"])
    return interval.text(digits, scale, unit, signed=True)


def _word(line: pd.Series) -> str:
    """The verdict of the p value, corrected if there are several comparisons.

    The interval is for one comparison only, so it doesn't decide. If all replicates differ by the
    same amount, as accuracies on few images may, the verdict is "without spread" or, at 0, "equal".
    """
    if line["low"] == line["high"]:
        return "without spread" if line["low"] else "equal"
    if not line.get("p_holm", line["p"]) < LEVEL:  # NaN too: nothing could be tested
        return "undecided"
    return "higher" if line["difference"] > 0 else "lower"


def _counts(table: pd.DataFrame) -> str:
    """Count the verdicts: `higher in 2, undecided in 3 of 5 (…)`."""
    said = [_word(line) for _, line in table.iterrows()]
    counts = [f"{word} in {said.count(word)}" for word in dict.fromkeys(sorted(said))]
    return f"{', '.join(counts)} of {len(table)} (p < {LEVEL}, corrected for their number: Holm)"


def _bases(lines: pd.DataFrame) -> str:
    """Describe the intervals of several rows: their kinds, pairing and n."""
    kinds = lines[["interval", "pairing", "n"]].drop_duplicates()
    return "; ".join(
        f"{unadjusted(kind)}, {pairing}, n = {n}" for kind, pairing, n in kinds.to_numpy()
    )


def _bars(lines: pd.DataFrame) -> str:
    return f"bars are {_bases(lines)}" if lines["low"].notna().any() else "no interval: n = 1"


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
            texts = {study: brief(of_it.get(setting, ["–"])) for study, of_it in values.items()}
            same = len(set(texts.values())) == 1
            lines.append({"experiment": name, "setting": setting, "same": same, **texts})
    columns = ["experiment", "setting", "same", *(study.name for study in studies)]
    return pd.DataFrame(lines, columns=columns).fillna("–")
