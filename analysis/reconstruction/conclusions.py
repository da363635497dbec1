"""Sentences on the latent dimension, layers, minibatches and widths, computed from the errors."""

from __future__ import annotations

import pandas as pd

from analysis.reconstruction.checks import (
    batch_changes,
    change,
    layer_changes,
    network_changes,
    width_changes,
)
from analysis.reconstruction.errors import (
    best_model,
    slope_over_dimension,
    with_every_dimension,
)
from analysis.selection import name_of, varied
from analysis.statistics import LEVEL, Interval, verdict
from study.words import counted


def conclusions(
    rows: pd.DataFrame,
    pca: pd.DataFrame,
    checked: pd.DataFrame | None = None,
    negligible_below: float | None = None,
) -> list[str]:
    """Answer the assignment's questions in sentences computed from the rows.

    `rows` are the autoencoders of the grid. `checked` are all autoencoders, including those trained
    longer, on larger minibatches or with other widths (default: `rows`). `negligible_below`, a
    fraction of the error, is given if replicates were added until layers were told apart.
    """
    every = rows if checked is None else checked
    return [
        _best_score(every, pca),
        *_on_dimension(rows, every),
        *_on_layers(rows, every, negligible_below),
        *_on_batches(every),
        *_on_networks(every),
    ]


def after_epochs(rows: pd.DataFrame) -> str:
    """` after 4 epochs`; empty if rows differ in their epochs, or there are none.

    Raises KeyError if `rows` have no column `epochs`, as a table without columns.
    """
    epochs = sorted(set(rows["epochs"]))
    return f" after {counted(epochs[0], 'epoch')}" if len(epochs) == 1 else ""


def _best_score(rows: pd.DataFrame, pca: pd.DataFrame) -> str:
    best = best_model(rows)
    floor = pca.loc[pca["latent_dim"] == best["latent_dim"], "pca_mse"]
    name = name_of(rows.loc[[best.name]], dict.fromkeys(["batch_size", *varied(rows)]))
    beside = f"; PCA with as many dimensions leaves {floor.iloc[0]:.5f}" if len(floor) else ""
    return (
        f"Best score: a test error of {best['test_mse']:.5f} per pixel, by the model with the "
        f"least validation error (d = {best['latent_dim']}, {counted(best['depth'], 'layer')}, "
        f"{name}, {counted(best['epochs'], 'epoch')}, replicate {best['replicate']}){beside}."
    )


def _longer(rows: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """The rows of `every` that have more epochs than `rows`.

    Only those at the smallest batch size of `rows` are returned; none if the epochs of `rows`
    differ.
    """
    if len(set(rows["epochs"])) != 1:
        return every[:0]
    same = every["batch_size"] == rows["batch_size"].min()
    return every[same & (every["epochs"] > rows["epochs"].max())]


def _on_dimension(rows: pd.DataFrame, every: pd.DataFrame) -> list[str]:
    """Say by how much the error changes with d: one sentence, or none with fewer than two d."""
    complete = with_every_dimension(rows)
    slope = slope_over_dimension(complete)
    if slope is None:
        return []
    factor = _factor(slope)
    by = ["depth", *varied(rows)]
    used, settings = (len(table[by].drop_duplicates()) for table in (complete, rows))
    words = " and ".join(name.replace("_", " ") for name in by)
    over = (
        f", over the {used} of {settings} settings of {words} with the most d"
        if used < settings
        else ""
    )
    when = after_epochs(rows)
    claim = verdict(
        slope,
        f"The error rises with the latent dimension{when}: a doubling of d multiplies it by ",
        f"The error falls with the latent dimension{when}: a doubling of d multiplies it by ",
        f"Whether the error rises or falls with d{when} is undecided: a doubling of it "
        "multiplies the error by ",
    )
    longer = _longer(rows, every)
    longer = with_every_dimension(longer) if len(longer) else longer
    again = slope_over_dimension(longer)
    checked = ""
    if again is not None:
        dims = ", ".join(f"{d:.0f}" for d in sorted(longer["latent_dim"].unique()))
        checked = f";{after_epochs(longer)}, at d = {dims}, by {_factor(again).text(3)}"
    return [f"{claim}{factor.text(3)}{factor.basis()}{over}{checked}."]


def _on_layers(
    rows: pd.DataFrame, every: pd.DataFrame, negligible_below: float | None
) -> list[str]:
    """Compare more layers with fewer: averaged over d, by d, and with a larger budget."""
    sentences = []
    by_dim = layer_changes(rows, negligible_below)
    after = layer_changes(_longer(rows, every))
    for question in dict.fromkeys(by_dim.get("question", ())):
        more, fewer = question.split(" layers instead of ")
        depths = {"depth": int(fewer)}, {"depth": int(more)}
        for _, line in change(rows, *depths, per=[]).iterrows():
            interval = Interval(*line[["percent", "low", "high", "n", "interval"]])
            when = after_epochs(rows)
            claim = verdict(
                interval,
                f"{more} layers are worse than {fewer} on average over d{when}: ",
                f"{more} layers are better than {fewer} on average over d{when}: ",
                f"Whether {more} layers or {fewer} are better on average over d{when} is "
                "undecided: ",
            )
            basis = interval.basis("paired by all other settings and by replicate")
            sentences.append(f"{claim}{interval.text(1, unit=' % error', signed=True)}{basis}.")
        table = by_dim[by_dim["question"] == question]
        sentences += _by_dimension(table, more, fewer, after_epochs(rows))
        if len(after):
            sentences += _turned(table, after[after["question"] == question], more, fewer)
    return sentences


def _told_apart(table: pd.DataFrame) -> tuple[list[int], list[int]]:
    """The d whose error is smaller and the d whose error is larger, decided by `p_holm`."""
    decided = table[table["p_holm"] < LEVEL]
    smaller, larger = decided[decided["percent"] < 0], decided[decided["percent"] > 0]
    return [int(d) for d in smaller["latent_dim"]], [int(d) for d in larger["latent_dim"]]


def _dims(dims: list[int]) -> str:
    return f"d = {', '.join(map(str, dims))}" if dims else "no d"


def _by_dimension(table: pd.DataFrame, more: str, fewer: str, when: str) -> list[str]:
    smaller, larger = _told_apart(table)
    if not (smaller and larger):
        return []
    sentence = (
        f"It depends on d{when}: {more} layers have the smaller mean error at {_dims(smaller)}; "
        f"{fewer} layers at {_dims(larger)} (each paired by replicate, p < {LEVEL} after Holm's "
        "correction for the number of d)."
    )
    return [sentence]


def _turned(before: pd.DataFrame, after: pd.DataFrame, more: str, fewer: str) -> list[str]:
    """Say whether the comparison by d holds with the larger budget, in one sentence."""
    if after.empty:
        return []
    smaller, larger = _told_apart(after)
    was_smaller, was_larger = _told_apart(before)
    turned = sorted({*smaller} & {*was_larger} | {*larger} & {*was_smaller})
    order = (
        f"the order is reversed at {_dims(turned)}" if turned else "no decided order is reversed"
    )
    parts = ", ".join(
        f"{_per_cent(line)} at d = {line['latent_dim']:.0f}" for _, line in after.iterrows()
    )
    epochs = counted(after["epochs"].iloc[0], "epoch")
    sentence = (
        f"Trained for {epochs} instead, {more} layers change the error of {fewer} by "
        f"{parts} (n = {after['n'].min()}): {order}."
    )
    return [sentence]


def _changes(table: pd.DataFrame) -> str:
    return "; ".join(f"{line['question']}: {_per_cent(line)}" for _, line in table.iterrows())


def _per_cent(line: pd.Series) -> str:
    """Format a row of `change` with its interval."""
    interval = Interval(*line[["percent", "low", "high", "n", "interval"]])
    return interval.text(1, unit=" %", signed=True)


def _on_batches(rows: pd.DataFrame) -> list[str]:
    """Say how the minibatch changes the error at equal epochs and at equal updates."""
    table = batch_changes(rows)
    if table.empty:
        return []
    sentence = (
        f"Effect of the minibatch on the error (mean over d, {_basis(table)}): {_changes(table)}."
    )
    return [sentence]


def _on_networks(rows: pd.DataFrame) -> list[str]:
    """Say how the width and the kind of network change the error, at the same depth."""
    sentences = []
    for what, table in (
        ("Fewer and more weights", width_changes(rows)),
        ("Other kinds of network", network_changes(rows)),
    ):
        if table.empty:
            continue
        where = [
            f"d = {dim:.0f}, {counted(epochs, 'epoch')}"
            for dim, epochs in zip(table["latent_dim"], table["epochs"], strict=True)
        ]
        head = [counted(table["depth"].iloc[0], "layer")] if len(set(table["depth"])) == 1 else []
        if len(set(where)) == 1:
            head.append(where[0])
        else:
            table = table.assign(question=table["question"] + " (" + pd.Series(where) + ")")
        basis = ", ".join([*head, _basis(table)])
        sentences.append(f"{what} at the same depth ({basis}): {_changes(table)}.")
    return sentences


def _basis(table: pd.DataFrame) -> str:
    if table["n"].max() == 1:
        return "paired by replicate"
    return f"unadjusted {table['interval'].iloc[0]}, paired by replicate, n = {table['n'].min()}"


def _factor(slope: Interval) -> Interval:
    """The factor by which a doubling of d multiplies the error."""
    return slope.mapped(lambda exponent: 2.0**exponent)
