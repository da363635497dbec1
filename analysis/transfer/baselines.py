"""Classifiers without a network, on the same label subsets: the accuracies for arms to beat."""

from __future__ import annotations

import warnings
from functools import partial

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from analysis import cache
from analysis.results import Results
from analysis.statistics import mean_interval
from trainables.data import Dataset, label_subset

CLASSIFIERS = {
    "logistic regression, pixels": LogisticRegression(max_iter=300),
    "nearest neighbour, pixels": KNeighborsClassifier(1),
}
"""Classifiers by their names in figures. Each is fitted anew to every label subset."""


def baselines(results: Results) -> pd.DataFrame:
    """Accuracies of logistic regression and the nearest neighbour on pixels, on the label subsets.

    Columns `labels`, `classifier`, `label_subset`, `test_accuracy`. Kept in `analysis.cache`.
    """
    rows, data = results.of("fewshot"), results.dataset
    subsets = rows[["seed", "labels", "label_subset"]].drop_duplicates().astype(int)
    return pd.concat(
        [
            cache.table(
                cache.key("baselines", data.fingerprint, *subset), partial(_fitted, data, *subset)
            )
            for subset in subsets.sort_values(["labels", "label_subset"]).values.tolist()
        ],
        ignore_index=True,
    )


def _fitted(data: Dataset, seed: int, labels: int, subset: int) -> pd.DataFrame:
    """Fit each classifier to a label subset; return their accuracies on the test split."""
    chosen = label_subset(data.train.labels, labels, seed, subset, len(data.classes))
    train, test = (
        images.reshape(len(images), -1) / 255.0
        for images in (data.train.images[chosen], data.test.images)
    )
    lines = []
    for name, classifier in CLASSIFIERS.items():
        with warnings.catch_warnings():  # with one or two labels a class
            warnings.filterwarnings("ignore", "The number of unique classes is greater")
            classifier.fit(train, data.train.labels[chosen])
        accuracy = float((classifier.predict(test) == data.test.labels).mean())
        lines.append((labels, name, subset, accuracy))
    return pd.DataFrame(lines, columns=["labels", "classifier", "label_subset", "test_accuracy"])


def baseline_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per classifier and number of labels: mean accuracy over label subsets, interval."""
    lines = []
    for (classifier, labels), group in table.groupby(["classifier", "labels"]):
        interval = mean_interval(group["test_accuracy"]).within(0, 1)
        lines.append(
            {
                "classifier": classifier,
                "labels": labels,
                **interval.columns("test_accuracy", "subsets"),
                "cells": "none: pixels",
            }
        )
    return pd.DataFrame(lines)
