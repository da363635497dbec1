"""Classifiers without a network, on the same label subsets: what the arms have to beat."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from analysis.results import Results
from analysis.statistics import (
    crossed_bootstrap,
    mean_interval,
)
from analysis.transfer.arms import rows_of
from trainables.codes import encode
from trainables.data import label_subset
from trainables.fewshot import STATISTICS_IMAGES


def _classifiers(inputs: str) -> list[tuple[str, Any]]:
    """New classifiers by what figures call them."""
    return [
        (f"logistic regression, {inputs}", LogisticRegression(max_iter=300)),
        (f"nearest neighbour, {inputs}", KNeighborsClassifier(1)),
    ]


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


def code_baselines(results: Results) -> pd.DataFrame:
    """Logistic regression and the nearest neighbour on the standardised codes of the pretrained
    encoders, on the same label subsets as `fixed`.

    Columns `latent_dim`, `depth`, `pretraining`, `labels`, `classifier`, `label_subset`,
    `encoder_replicate`, `test_accuracy`, `cells`.
    """
    rows = rows_of(results)
    data = results.dataset
    # Codes are the same whatever the batch size that a head learnt with.
    sets = ["encoder_cell", "encoder_replicate", "label_subset", "labels"]
    fixed = rows[rows["freeze"] == "fixed"].drop_duplicates(sets)
    fixed = fixed[fixed["encoder_cell"].map(results.replicates).map(len) > 0]
    if fixed.empty:
        return pd.DataFrame()
    train, _ = data.train.on("cpu")
    seed = int(rows["seed"].iloc[0])
    most = {
        subset: label_subset(data.train.labels, int(fixed["labels"].max()), seed, subset)
        for subset in sorted(fixed["label_subset"].unique())
    }
    lines = []
    models = {
        (cell, replicate): model
        for cell, group in fixed.groupby("encoder_cell")
        for replicate, model in zip(
            group["encoder_replicate"].unique(),
            results.autoencoders(cell, group["encoder_replicate"].unique()),
            strict=True,
        )
    }
    for (encoder_cell, replicate), group in fixed.groupby(
        ["encoder_cell", "encoder_replicate"], sort=False
    ):
        model = models[encoder_cell, replicate]
        scaler = StandardScaler().fit(encode(model, train[:STATISTICS_IMAGES]).numpy())
        held = scaler.transform(encode(model, results.test_images).numpy())
        for subset, of_subset in group.groupby("label_subset"):
            seen = scaler.transform(encode(model, train[most[subset]]).numpy())
            answers = data.train.labels[most[subset]]
            for _, row in of_subset.iterrows():
                labels = row["labels"]  # subsets are nested: the first ones are the smaller subset
                for name, classifier in _classifiers("codes"):
                    classifier.fit(seen[:labels], answers[:labels])
                    accuracy = (classifier.predict(held) == data.test.labels).mean()
                    lines.append((row["latent_dim"], row["depth"], row["pretraining"], labels, name,
                                  subset, replicate, accuracy, encoder_cell))  # fmt: skip
    columns = ["latent_dim", "depth", "pretraining", "labels", "classifier", "label_subset",
               "encoder_replicate", "test_accuracy", "cells"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def baseline_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One line a classifier, number of labels (and d and depth, for those on codes): mean
    accuracy over label subsets with its interval, and over encoders where there are any."""
    on_codes = "encoder_replicate" in table
    keys = ["classifier", *(["latent_dim", "depth", "pretraining"] if on_codes else []), "labels"]
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
