"""Classifiers without a network, on the same label subsets: the accuracies for arms to beat."""

from __future__ import annotations

import warnings

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from analysis.results import Results
from analysis.statistics import mean_interval
from trainables.data import label_subset

CLASSIFIERS = {
    "logistic regression, pixels": LogisticRegression(max_iter=300),
    "nearest neighbour, pixels": KNeighborsClassifier(1),
}
"""Classifiers by their names in figures. Each is fitted anew to every label subset."""


def baselines(results: Results) -> pd.DataFrame:
    """Accuracies of logistic regression and the nearest neighbour on pixels, on the label subsets.

    Columns `labels`, `classifier`, `label_subset`, `test_accuracy`.
    """
    rows = results.of("fewshot")
    data = results.dataset
    train = data.train.images.reshape(len(data.train), -1)
    test = data.test.images.reshape(len(data.test), -1) / 255.0
    seed, classes = int(rows["seed"].iloc[0]), len(data.classes)
    lines = []
    for labels in sorted(rows["labels"].unique()):
        for subset in sorted(rows["label_subset"].unique()):
            chosen = label_subset(data.train.labels, int(labels), seed, int(subset), classes)
            for name, classifier in CLASSIFIERS.items():
                with warnings.catch_warnings():  # with one or two labels a class
                    warnings.filterwarnings("ignore", "The number of unique classes is greater")
                    classifier.fit(train[chosen] / 255.0, data.train.labels[chosen])
                accuracy = (classifier.predict(test) == data.test.labels).mean()
                lines.append((int(labels), name, int(subset), accuracy))
    return pd.DataFrame(lines, columns=["labels", "classifier", "label_subset", "test_accuracy"])


def baseline_summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per classifier and number of labels: mean accuracy over label subsets, interval."""
    lines = []
    for (classifier, labels), group in table.groupby(["classifier", "labels"]):
        interval = mean_interval(group["test_accuracy"])
        lines.append(
            {
                "classifier": classifier,
                "labels": labels,
                **interval.columns("test_accuracy"),
                "subsets": interval.n,
                "interval": interval.kind,
                "cells": "none: pixels",
            }
        )
    return pd.DataFrame(lines)
