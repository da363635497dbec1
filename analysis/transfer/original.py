"""The original solution's 56 accuracies, and what they show."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from analysis.transfer.arms import PLAIN, at_one_setting


def original() -> pd.DataFrame:
    """The 56 accuracies of the original solution, as fractions.

    Columns `freeze`, `labels`, `latent_dim`, `test_accuracy`.
    """
    with files("analysis").joinpath("original_transfer.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    table["test_accuracy"] = table.pop("test_accuracy_percent") / 100
    return table


def beside_original(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The original's accuracies with this study's means at one setting of depth and batch size.

    Columns `freeze`, `labels`, `latent_dim`, `original`, `test_accuracy`, `low`, `high`, `cells`;
    the last four are NaN if the study lacks the cell.
    """
    plain = ours[ours["pretraining"] == PLAIN]
    shown = at_one_setting(plain)
    keys = ["freeze", "labels", "latent_dim"]
    return theirs.rename(columns={"test_accuracy": "original"}).merge(
        shown[[*keys, "test_accuracy", "low", "high", "cells"]], on=keys, how="left"
    )


def original_conclusion(theirs: pd.DataFrame) -> str:
    """Say that the original's 56 numbers average to chance, but spread more than chance gives."""
    means = 100 * theirs.groupby("freeze")["test_accuracy"].mean()
    accuracy = theirs["test_accuracy"]
    mean = accuracy.mean()
    # Relative to the variance with 100 images, the fewest that can give every whole per cent.
    chi_squared = ((accuracy - mean) ** 2).sum() / (mean * (1 - mean) / 100)
    return (
        f"The original's means are {means['fixed']:.2f} % (fixed) and {means['full']:.2f} % "
        f"(full), about the chance level of 10 %. Single runs lie between "
        f"{100 * accuracy.min():.0f} and {100 * accuracy.max():.0f} %, farther apart than by "
        f"chance alone (χ² = {chi_squared:.0f} on {len(theirs) - 1} degrees of freedom if each "
        "is of 100 images, more if of more), but none is near a useful accuracy, so its comparison "
        "of the two says nothing."
    )
