"""The original solution's 56 accuracies, and what they show."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from analysis.transfer.arms import PLAIN, at_one_setting


def original() -> pd.DataFrame:
    """The 56 accuracies of the original solution, as fractions: `freeze`, `labels`,
    `latent_dim`, `test_accuracy`."""
    with files("analysis").joinpath("original_transfer.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    table["test_accuracy"] = table.pop("test_accuracy_percent") / 100
    return table


def beside_original(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The original's accuracies with this study's means, where it has the same cell, at
    one setting of depth and batch size: `freeze`, `labels`, `latent_dim`, `original`,
    `test_accuracy`, `low`, `high`, `cells`."""
    plain = ours[ours["pretraining"] == PLAIN]
    shown = at_one_setting(plain)
    keys = ["freeze", "labels", "latent_dim"]
    return theirs.rename(columns={"test_accuracy": "original"}).merge(
        shown[[*keys, "test_accuracy", "low", "high", "cells"]], on=keys, how="left"
    )


def original_conclusion(theirs: pd.DataFrame) -> str:
    """What the original's 56 numbers show: the means, and that they are chance."""
    means = 100 * theirs.groupby("freeze")["test_accuracy"].mean()
    return (
        f"The original's means are {means['fixed']:.2f} % (fixed) and {means['full']:.2f} % "
        f"(full), and its best of {len(theirs)} single runs is "
        f"{100 * theirs['test_accuracy'].max():.0f} %: all at the chance level of 10 %, so its "
        "comparison says nothing."
    )
