"""Question 4: a fixed pretrained encoder against training everything, on few labels."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from analysis.results import Results
from analysis.statistics import (
    crossed_bootstrap,
    holm,
    mean_interval,
    paired_difference,
    probability_of_improvement,
    verdict,
)
from analysis.style import COLOURS, LINES, MARKERS, figure, latent_dim_axis
from trainables.data import CLASSES, label_subset, pixels
from trainables.fewshot import STATISTICS_IMAGES

CHANCE = 1 / CLASSES
ARMS = {"fixed": "encoder fixed", "full": "everything trained", "scratch": "not pretrained"}
"""What figures call the values of `freeze`; an arm that isn't here is called by its own name."""


# --- tables ------------------------------------------------------------------------------------


def _accuracy_interval(group: pd.DataFrame):
    """Interval of a mean accuracy: over encoders and label subsets where encoders are shared,
    over label subsets alone where every classifier had its own encoder (`scratch`)."""
    if group["encoder_cell"].isna().all():
        return mean_interval(group["test_accuracy"])
    return crossed_bootstrap(
        group["test_accuracy"], group["encoder_replicate"], group["label_subset"]
    )


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a cell: mean test accuracy (a fraction) with its interval.

    Columns `latent_dim`, `depth`, `labels`, `freeze`, `test_accuracy`, `low`, `high`, `interval`,
    `replicates`, `encoders`, `cells`.
    """
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = _accuracy_interval(group)
        first = group.iloc[0]
        lines.append(
            {
                "latent_dim": first["latent_dim"],
                "depth": first["depth"],
                "labels": first["labels"],
                "freeze": first["freeze"],
                "test_accuracy": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "interval": interval.kind,
                "replicates": interval.n,
                "encoders": group["encoder_replicate"].nunique(),
                "cells": cell,
            }
        )
    order = ["depth", "latent_dim", "labels", "freeze"]
    return pd.DataFrame(lines).sort_values(order, ignore_index=True)


def differences(rows: pd.DataFrame, first: str = "fixed", second: str = "full") -> pd.DataFrame:
    """Paired differences `first` − `second` by d and labels, on common encoders and subsets.

    Columns `latent_dim`, `labels`, `depth`, `difference`, `low`, `high`, `p` (two-sided), `p_holm`
    (corrected for the number of lines), `probability` that `first` beats `second`, `interval`,
    `pairs`, `cells`.
    """
    lines = []
    for (depth, dim, labels), group in rows.groupby(["depth", "latent_dim", "labels"]):
        keys = ["encoder_replicate", "label_subset"]
        one, two = group[group["freeze"] == first], group[group["freeze"] == second]
        pairs = one.merge(two, on=keys, suffixes=("_1", "_2"))
        if pairs.empty:
            continue
        arrays = (
            pairs["test_accuracy_1"],
            pairs["test_accuracy_2"],
            pairs["encoder_replicate"],
            pairs["label_subset"],
        )
        interval = paired_difference(*arrays)
        lines.append(
            {
                "latent_dim": dim,
                "labels": labels,
                "depth": depth,
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": interval.p_value(),
                "probability": probability_of_improvement(*arrays).estimate,
                "interval": interval.kind,
                "pairs": interval.n,
                "cells": " ".join([pairs["cell_1"].iloc[0], pairs["cell_2"].iloc[0]]),
            }
        )
    table = pd.DataFrame(lines)
    if len(table):
        table.insert(7, "p_holm", holm(table["p"]))
    return table


def baselines(results: Results) -> pd.DataFrame:
    """Classifiers without a network, on the same label subsets: logistic regression and the
    nearest neighbour, on pixels.

    Columns `labels`, `classifier`, `label_subset`, `test_accuracy`.
    """
    rows = results.of("fewshot")
    data = results.dataset
    train = data.train.images.reshape(len(data.train), -1)
    test = data.test.images.reshape(len(data.test), -1) / 255.0
    seed = int(rows["seed"].iloc[0])
    lines = []
    for labels in sorted(rows["labels"].unique()):
        for subset in sorted(rows["label_subset"].unique()):
            chosen = label_subset(data.train.labels, int(labels), seed, int(subset))
            for name, classifier in _classifiers("pixels"):
                classifier.fit(train[chosen] / 255.0, data.train.labels[chosen])
                accuracy = (classifier.predict(test) == data.test.labels).mean()
                lines.append((int(labels), name, int(subset), accuracy))
    return pd.DataFrame(lines, columns=["labels", "classifier", "label_subset", "test_accuracy"])


def _classifiers(inputs: str) -> list[tuple[str, Any]]:
    """New classifiers by what figures call them."""
    return [
        (f"logistic regression, {inputs}", LogisticRegression(max_iter=300)),
        (f"nearest neighbour, {inputs}", KNeighborsClassifier(1)),
    ]


@torch.no_grad()
def _codes(encoder: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """Codes (N, d) of uint8 images (N, 1, 28, 28)."""
    return torch.cat([encoder(pixels(part)) for part in images.split(250)]).numpy()


def code_baselines(results: Results) -> pd.DataFrame:
    """Logistic regression and the nearest neighbour on the standardised codes of the pretrained
    encoders, on the same label subsets as `fixed`.

    Columns `latent_dim`, `labels`, `classifier`, `label_subset`, `encoder_replicate`,
    `test_accuracy`, `cells`.
    """
    rows = results.of("fewshot")
    data = results.dataset
    fixed = rows[rows["freeze"] == "fixed"]
    if fixed.empty:
        return pd.DataFrame()
    train, _ = data.train.on("cpu")
    seed = int(rows["seed"].iloc[0])
    most = {
        subset: label_subset(data.train.labels, int(fixed["labels"].max()), seed, subset)
        for subset in sorted(fixed["label_subset"].unique())
    }
    lines = []
    for (encoder_cell, replicate), group in fixed.groupby(
        ["encoder_cell", "encoder_replicate"], sort=False
    ):
        encoder = results.autoencoders(encoder_cell)[replicate].encoder
        scaler = StandardScaler().fit(_codes(encoder, train[:STATISTICS_IMAGES]))
        held = scaler.transform(_codes(encoder, results.test_images))
        for subset, of_subset in group.groupby("label_subset"):
            seen = scaler.transform(_codes(encoder, train[most[subset]]))
            answers = data.train.labels[most[subset]]
            for _, row in of_subset.iterrows():
                labels = row["labels"]  # subsets are nested: the first ones are the smaller subset
                for name, classifier in _classifiers("codes"):
                    classifier.fit(seen[:labels], answers[:labels])
                    accuracy = (classifier.predict(held) == data.test.labels).mean()
                    lines.append((row["latent_dim"], labels, name, subset, replicate, accuracy,
                                  encoder_cell))  # fmt: skip
    columns = ["latent_dim", "labels", "classifier", "label_subset", "encoder_replicate",
               "test_accuracy", "cells"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def baseline_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One line a classifier, number of labels (and d, for those on codes): mean accuracy over
    label subsets with its interval, and over encoders where there are any."""
    on_codes = "encoder_replicate" in table
    keys = ["classifier", *(["latent_dim"] if on_codes else []), "labels"]
    lines = []
    for names, group in table.groupby(keys):
        interval = (
            crossed_bootstrap(
                group["test_accuracy"], group["encoder_replicate"], group["label_subset"]
            )
            if on_codes
            else mean_interval(group["test_accuracy"])
        )
        line = dict(zip(keys, names, strict=True))
        line |= {"test_accuracy": interval.estimate, "low": interval.low, "high": interval.high}
        line |= {"subsets": interval.n, "interval": interval.kind}
        line["cells"] = " ".join(sorted(set(group["cells"]))) if on_codes else "none: pixels"
        lines.append(line)
    return pd.DataFrame(lines)


def original() -> pd.DataFrame:
    """The 56 accuracies of the original solution, as fractions: `freeze`, `labels`,
    `latent_dim`, `test_accuracy`."""
    with files("analysis").joinpath("original_transfer.csv").open() as file:
        table = pd.read_csv(file)
    table["test_accuracy"] = table.pop("test_accuracy_percent") / 100
    return table


def beside_original(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The original's accuracies with this study's means, where it has the same cell: `freeze`,
    `labels`, `latent_dim`, `original`, `test_accuracy`, `low`, `high`, `cells`."""
    deepest = ours[ours["depth"] == ours["depth"].max()]
    keys = ["freeze", "labels", "latent_dim"]
    return theirs.rename(columns={"test_accuracy": "original"}).merge(
        deepest[[*keys, "test_accuracy", "low", "high", "cells"]], on=keys, how="left"
    )


# --- figures -----------------------------------------------------------------------------------


def _arms(table: pd.DataFrame) -> list[str]:
    present = list(dict.fromkeys(table["freeze"]))
    return [arm for arm in ARMS if arm in present] + [arm for arm in present if arm not in ARMS]


def _draw_arms(axes, table: pd.DataFrame, rows: pd.DataFrame, x: str, spread: float) -> None:
    """Means with intervals, and the replicates as dots, one series an arm."""
    arms = _arms(table)
    for index, arm in enumerate(arms):
        shift = 1 + spread * (index - (len(arms) - 1) / 2)
        part = table[table["freeze"] == arm].sort_values(x)
        dots = rows[rows["freeze"] == arm]
        axes.plot(dots[x] * shift, 100 * dots["test_accuracy"], ".", color=COLOURS[index],
                  alpha=0.25, markersize=3)  # fmt: skip
        mean = 100 * part["test_accuracy"]
        reach = np.nan_to_num([mean - 100 * part["low"], 100 * part["high"] - mean])
        axes.errorbar(part[x] * shift, mean, yerr=np.maximum(reach, 0), color=COLOURS[index],
                      marker=MARKERS[index], linestyle=LINES[index], markersize=4, capsize=2,
                      linewidth=1.3, label=ARMS.get(arm, arm))  # fmt: skip
    axes.axhline(100 * CHANCE, color="#666666", linestyle=":", linewidth=1)


def draw_by_labels(rows: pd.DataFrame, pixel_baselines: pd.DataFrame) -> Figure:
    """Accuracy against the number of labels by arm, a panel a latent dimension."""
    table = summary(rows)
    dims = sorted(table["latent_dim"].unique())
    columns = min(4, len(dims))
    lines = -(-len(dims) // columns)
    made, panels = figure(columns, lines, width=2.9 * columns, height=2.9 * lines, sharex=True,
                          sharey=True, squeeze=False)  # fmt: skip
    base = pixel_baselines.groupby(["classifier", "labels"])["test_accuracy"].mean()
    for axes in panels.flat[len(dims) :]:
        axes.set_axis_off()
    for axes, dim in zip(panels.flat, dims, strict=False):
        _draw_arms(axes, table[table["latent_dim"] == dim], rows[rows["latent_dim"] == dim],
                   "labels", 0.05)  # fmt: skip
        for name, style in zip(sorted(set(base.index.get_level_values(0))), ("--", ":"),
                               strict=False):  # fmt: skip
            axes.plot(base[name].index, 100 * base[name], color="#888888", linestyle=style,
                      linewidth=1.2, label=name)  # fmt: skip
        axes.set_xscale("log")
        ticks = sorted(table["labels"].unique())
        axes.set_xticks(ticks, [str(int(t)) for t in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(f"d = {dim}")
        axes.set_ylim(0, 100)
    for axes in panels[:, 0]:
        axes.set_ylabel("test accuracy (%)")
    for column in range(columns):
        last = [panels[line][column] for line in range(lines) if panels[line][column].axison][-1]
        last.set_xlabel("labelled images")
        last.tick_params(labelbottom=True)
    handles, names = panels.flat[0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside lower center", ncols=3)
    return made


def draw_by_dimension(rows: pd.DataFrame) -> Figure:
    """Accuracy against d by arm, a panel a number of labels."""
    table = summary(rows)
    counts = sorted(table["labels"].unique())
    made, panels = figure(len(counts), width=2.9 * len(counts), height=3.4, sharey=True,
                          squeeze=False)  # fmt: skip
    for axes, labels in zip(panels[0], counts, strict=True):
        _draw_arms(axes, table[table["labels"] == labels], rows[rows["labels"] == labels],
                   "latent_dim", 0.06)  # fmt: skip
        latent_dim_axis(axes, table["latent_dim"], apart=1.3)
        axes.set_title(f"{labels} labels")
        axes.set_ylim(0, 100)
    panels[0][0].set_ylabel("test accuracy (%)")
    handles, names = panels[0][0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside lower center", ncols=3)
    return made


def draw_differences(table: pd.DataFrame) -> Figure:
    """Paired difference fixed − full in percentage points with its interval, by d and labels."""
    made, axes = figure(width=8, height=3.6)
    counts = sorted(table["labels"].unique())
    dims = sorted(table["latent_dim"].unique())
    for index, labels in enumerate(counts):
        part = table[table["labels"] == labels].sort_values("latent_dim")
        # Evenly spaced: on the scale of d the bars of 12 and 14 would overlap.
        shift = 0.16 * (index - (len(counts) - 1) / 2)
        places = [dims.index(dim) + shift for dim in part["latent_dim"]]
        mean = 100 * part["difference"]
        reach = np.nan_to_num([mean - 100 * part["low"], 100 * part["high"] - mean])
        axes.errorbar(places, mean, yerr=np.maximum(reach, 0), linestyle="",
                      marker=MARKERS[index], color=COLOURS[index], capsize=2.5,
                      label=f"{labels} labels")  # fmt: skip
    axes.axhline(0, color="#444444", linewidth=1)
    axes.set_xticks(range(len(dims)), [str(dim) for dim in dims])
    axes.set_xlabel("latent dimension d (evenly spaced)")
    axes.set_ylabel("fixed − full\n(percentage points)")
    made.legend(ncols=4, loc="outside lower center")
    return made


def draw_original(ours: pd.DataFrame, theirs: pd.DataFrame) -> Figure:
    """The original's single runs beside this study's means, against d, a panel an arm."""
    made, panels = figure(2, width=9, height=3.6, sharey=True)
    for axes, arm in zip(panels, ("fixed", "full"), strict=True):
        for index, labels in enumerate(sorted(theirs["labels"].unique())):
            for table, style, name in (
                (ours, {"linestyle": "-"}, "here"),
                (theirs, {"linestyle": ":", "fillstyle": "none"}, "original"),
            ):
                part = table[(table["freeze"] == arm) & (table["labels"] == labels)]
                part = part.sort_values("latent_dim")
                axes.plot(part["latent_dim"], 100 * part["test_accuracy"], color=COLOURS[index],
                          marker=MARKERS[index], label=f"{labels} labels, {name}",
                          **style)  # fmt: skip
        axes.axhline(100 * CHANCE, color="#666666", linewidth=1)
        axes.annotate("chance", (2, 100 * CHANCE), xytext=(0, 3), textcoords="offset points",
                      fontsize=8, color="#666666")  # fmt: skip
        latent_dim_axis(axes, theirs["latent_dim"])
        axes.set_title(ARMS[arm])
        axes.set_ylim(0, 100)
    panels[0].set_ylabel("test accuracy (%)")
    handles, names = panels[0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    return made


def best_classifier(rows: pd.DataFrame) -> pd.Series:
    """The row of the classifier with the best *validation* accuracy."""
    return rows.loc[rows["val_accuracy"].idxmax()]


def confusion(results: Results, row: pd.Series) -> np.ndarray:
    """Counts (10, 10) of test images by true digit (rows) and predicted digit (columns)."""
    predicted = results.predictions(row["cell"])[int(row["replicate"])]
    return confusion_matrix(results.test_labels.numpy(), predicted, labels=range(CLASSES))


def draw_confusion(counts: np.ndarray) -> Figure:
    """A confusion matrix in per cent of each true digit."""
    made, axes = figure(width=5.2, height=4.6)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for true in range(CLASSES):
        for predicted in range(CLASSES):
            if shares[true, predicted] >= 0.5:
                axes.text(predicted, true, f"{shares[true, predicted]:.0f}", ha="center",
                          va="center", fontsize=8,
                          color="white" if shares[true, predicted] > 55 else "black")  # fmt: skip
    axes.set_xticks(range(CLASSES))
    axes.set_yticks(range(CLASSES))
    axes.grid(visible=False)
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit")
    made.colorbar(drawn, label="share of the true digit (%)")
    return made


# --- conclusions -------------------------------------------------------------------------------


def overall_difference(rows: pd.DataFrame, first: str, second: str, labels: int | None = None):
    """Paired difference of two arms, averaged over d (and over label counts, unless one is
    given) before resampling, since cells of one encoder and subset are not independent.

    Encoders of different d share a replicate number only; it stands for the random seed.
    """
    if labels is not None:
        rows = rows[rows["labels"] == labels]
    keys = ["depth", "latent_dim", "labels", "label_subset"]
    one, two = rows[rows["freeze"] == first], rows[rows["freeze"] == second]
    pairs = one.merge(two, on=keys, suffixes=("_1", "_2"))
    if pairs.empty:
        return None
    pairs["difference"] = pairs["test_accuracy_1"] - pairs["test_accuracy_2"]
    means = pairs.groupby(["encoder_replicate_1", "label_subset"])["difference"].mean()
    means = means.reset_index()
    return crossed_bootstrap(
        means["difference"], means["encoder_replicate_1"], means["label_subset"]
    )


def conclusions(rows: pd.DataFrame) -> list[str]:
    """Which arm is better, by how much, in sentences computed from the rows."""
    sentences = []
    best = best_classifier(rows)
    sentences.append(
        f"Best score: {100 * best['test_accuracy']:.1f} % of the test images, by the classifier "
        f"with the best validation accuracy ({ARMS.get(best['freeze'], best['freeze'])}, d = "
        f"{best['latent_dim']}, {best['labels']} labels)."
    )
    arms = set(rows["freeze"])
    basis = None
    for first, second in (("fixed", "full"), ("full", "scratch")):
        if not {first, second} <= arms:
            continue
        for labels in sorted(rows["labels"].unique()):
            interval = overall_difference(rows, first, second, int(labels))
            if interval is None:
                continue
            basis = interval
            one, two = ARMS[first], ARMS[second]
            sentences.append(
                verdict(
                    interval,
                    f"With {labels} labels “{one}” beats “{two}”: ",
                    f"With {labels} labels “{two}” beats “{one}”: ",
                    f"With {labels} labels it is undecided whether “{one}” or “{two}” is better: ",
                )
                + f"{interval.text(1, 100)} percentage points."
            )
    if basis:
        sentences.append(
            "These are means over d of differences on common label subsets and encoders; in "
            f"brackets: {basis.kind}, n = {basis.n} pairs."
        )
    chance = rows.groupby("cell")["test_accuracy"].mean()
    at_chance = int((chance < 1.5 * CHANCE).sum())
    if at_chance:
        sentences.append(
            f"Warning: {at_chance} of {len(chance)} cells are at chance level (below "
            f"{150 * CHANCE:.0f} %), which in this task means too little training or a bug."
        )
    return sentences


def original_conclusion(theirs: pd.DataFrame) -> str:
    """What the original's 56 numbers show: the means, and that they are chance."""
    means = 100 * theirs.groupby("freeze")["test_accuracy"].mean()
    return (
        f"The original's means are {means['fixed']:.2f} % (fixed) and {means['full']:.2f} % "
        f"(full), and its best of {len(theirs)} single runs is "
        f"{100 * theirs['test_accuracy'].max():.0f} %: all at the chance level of 10 %, so its "
        "comparison says nothing."
    )
