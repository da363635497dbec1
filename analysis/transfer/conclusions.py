"""Sentences on which arm is better, and the tables of comparisons with `--until-decided`."""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from analysis.statistics import CONFIDENCE, LEVEL, PERCENT, confidence_sequence, unadjusted
from analysis.transfer.accuracies import (
    accuracy_interval,
    against,
    best_classifier,
    differences_by_labels,
    in_points,
    over_replicates,
)
from analysis.transfer.arms import (
    LABELLED_ONLY,
    at_one_setting,
    chance_of,
    name_of,
    ordered,
    place_of,
    setting_words,
)
from study.words import counted
from trainables.fewshot.settings import HEADS, ON_ALL_IMAGES

COMPARED = (("fixed", "full"), ("full", "scratch"))
"""The pairs of arms that the assignment asks about."""


def pair_table(
    rows: pd.DataFrame, first: str, second: str, negligible_below: float | None = None
) -> pd.DataFrame:
    """`against` for the arms `first` − `second`, one row per number of labels.

    These comparisons are a family of their own in Holm's correction.
    """
    rows = at_one_setting(rows)  # the setting of all arms, not of these two
    return against(rows[rows["arm"].isin([first, second])], second, negligible_below)


def decision_table(rows: pd.DataFrame, negligible_below: float) -> pd.DataFrame:
    """`against` for the pairs of `COMPARED`, by the test that stays valid at every look."""
    arms = set(rows["arm"])
    tables = [pair_table(rows, *pair, negligible_below) for pair in COMPARED if set(pair) <= arms]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def decision_paths(rows: pd.DataFrame) -> pd.DataFrame:
    """The interval of each comparison after each replicate.

    Columns `arm`, `reference`, `labels`, and those of `statistics.confidence_sequence`.
    Differences are fractions.
    """
    tables = []
    for first, second in COMPARED:
        for labels, means in differences_by_labels(at_one_setting(rows), first, second):
            found = confidence_sequence(means["difference"])
            tables.append(found.assign(arm=first, reference=second, labels=labels))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _word(line: pd.Series) -> str:
    """The verdict of the p value, corrected for the number of comparisons.

    An interval is for one comparison only: among many, it excludes 0 too often.
    """
    if not line["p_holm"] < LEVEL:  # NaN too: nothing could be tested
        return "no difference that matters" if line["negligible"] else "undecided"
    return "better" if line["difference"] > 0 else "worse"


def _corrected_p(line: pd.Series) -> str:
    """The corrected p value of an undecided difference whose interval excludes 0; else empty."""
    excludes_0 = line["low"] > 0 or line["high"] < 0
    if not excludes_0 or _word(line) != "undecided":
        return ""
    return f"; p = {line['p_holm']:.2g} after Holm's correction"


def _on_pair(lines: pd.DataFrame, steps: str = "") -> list[str]:
    """Say with how many labels one arm beats another: one sentence, or none without lines."""
    if lines.empty:
        return []
    first, second = lines[["arm", "reference"]].iloc[0]
    parts = [
        f"{_word(line)} with {line['labels']} labels ({in_points(line)}{_corrected_p(line)})"
        for _, line in lines.iterrows()
    ]
    pair = f"“{name_of(first)}” against “{name_of(second)}”{steps}"
    return [f"{pair}, in percentage points: {', '.join(parts)}."]


def best_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the best cell for each number of labels.

    The best cell has the highest mean validation accuracy; it is one arm at one d, depth and batch
    size.
    """
    means = rows.groupby(["labels", "cell"])["val_accuracy"].mean()
    best = means.groupby("labels").idxmax()
    return rows[rows["cell"].isin([cell for _, cell in best])]


def gain_of_unlabelled(rows: pd.DataFrame) -> pd.DataFrame:
    """The gain in accuracy from unlabelled images.

    One row per number of labels: the best arm that starts from a pretrained encoder minus the best
    arm that doesn't, both chosen by mean validation accuracy, paired on label subsets. Columns
    `labels`, `with`, `without` (arms), `difference`, `low`, `high`, `interval`, `pairs`, `cells`.
    """
    labelled_only = rows["freeze"].isin(LABELLED_ONLY)
    pretrained, others = best_of(rows[~labelled_only]), best_of(rows[labelled_only])
    lines = []
    pairs = pretrained.merge(others, on=["labels", "label_subset"], suffixes=("", "_without"))
    for labels, group in pairs.groupby("labels"):
        differences = group["test_accuracy"] - group["test_accuracy_without"]
        interval = over_replicates(differences, group["encoder_replicate"], group["label_subset"])
        lines.append(
            {
                "labels": labels,
                "with": group["arm"].iloc[0],
                "without": group["arm_without"].iloc[0],
                **interval.columns("difference", "pairs"),
                "cells": " ".join([group["cell"].iloc[0], group["cell_without"].iloc[0]]),
            }
        )
    return pd.DataFrame(lines)


def _on_unlabelled(rows: pd.DataFrame) -> list[str]:
    """Say what pretraining adds to a good network with augmentation."""
    table = gain_of_unlabelled(rows)
    if table.empty:
        return []
    parts = [
        f"{in_points(line)} with {line['labels']} labels (“{name_of(line['with'])}” against "
        f"“{name_of(line['without'])}”)"
        for _, line in table.iterrows()
    ]
    pair = "The best arm with a pretrained encoder against the best without one"
    chosen = "each by its validation accuracy, in percentage points"
    return [f"{pair}, {chosen}: {', '.join(parts)}."]


def _best_arms(rows: pd.DataFrame) -> list[str]:
    """Name the arm with the best validation accuracy for each number of labels, in one sentence."""
    parts = []
    for labels, chosen in best_of(rows).groupby("labels"):
        interval = accuracy_interval(chosen)
        parts.append(
            f"{labels} labels: {interval.text(1, 100, ' %')} by “{name_of(chosen['arm'].iloc[0])}”"
        )
    return [f"Best arm by mean validation accuracy, its mean test accuracy: {'; '.join(parts)}."]


def at_steps(rows: pd.DataFrame) -> str:
    """The steps of the arms that train a network, such as ` at 100 steps each`.

    Empty if no such arm takes all labels at once.
    """
    networks = rows[~rows["freeze"].isin([*ON_ALL_IMAGES, *HEADS])]
    networks = networks[networks["asked_batch_size"] == 0]
    if networks.empty:
        return ""
    steps = sorted({int(epochs) for epochs in networks["epochs"]})
    return (
        f" at {steps[0]} steps each" if len(steps) == 1 else f" at {steps[0]} to {steps[-1]} steps"
    )


def _basis(lines: pd.DataFrame, rows: pd.DataFrame, validation: int) -> list[str]:
    """Explain the differences: their kind, the test behind the words, the choice of settings."""
    if lines.empty:
        return []
    line = lines.iloc[-1]
    bounded = not math.isnan(line["low"])
    brackets = f"; in brackets: {unadjusted(line['interval'])}" if bounded else ""
    said = (
        "These are means over d of differences on common label subsets and encoders"
        f"{brackets}, n = {counted(line['pairs'], 'pair')}, on the same test images. Better and "
        f"worse mean p < {LEVEL} after Holm's correction. Each of the assignment's two questions "
        "is corrected for its numbers of labels; the comparisons of the other arms are corrected "
        "together."
    )
    trained = rows[rows["freeze"].isin(["fixed", "full"])]
    if len(trained) and validation:
        rates = trained.iloc[0]
        said += (
            f" Peak rates are {rates['learning_rate']:g} (heads) and "
            f"{rates['encoder_learning_rate']:g} (encoders), chosen with steps on "
            f"{validation:,} labelled validation images."
        )
    return [said, *filter(None, [setting_words(rows)])]


def best_score(rows: pd.DataFrame, test_images: int) -> str:
    """Name the best classifier by validation accuracy, with the interval over test images."""
    best = best_classifier(rows)
    accuracy = float(best["test_accuracy"])
    within = ""
    if test_images:
        right = round(accuracy * test_images)
        low, high = stats.binomtest(right, test_images).proportion_ci(CONFIDENCE, "wilson")
        bounds = f"[{100 * low:.1f}, {100 * high:.1f}]"
        within = f" {bounds} ({PERCENT} Wilson, over {test_images:,} images)"
    return (
        f"Best score: {100 * accuracy:.1f} %{within} of the test images, by the classifier with "
        f"the best validation accuracy ({place_of(best)})."
    )


def conclusions(
    rows: pd.DataFrame,
    test_images: int = 0,
    validation_images: int = 0,
    negligible_below: float | None = None,
) -> list[str]:
    """Say which arm is better and by how much, in sentences computed from the rows.

    `test_images` and `validation_images` are numbers of images; 0 leaves out the parts that need
    them. `negligible_below`, a fraction, is given if replicates were added until the pairs of
    `COMPARED` were decided, or known to differ by less.
    """
    sentences = [best_score(rows, test_images)]
    arms = set(rows["arm"])
    of_reference, lines = against(rows), pd.DataFrame()
    steps = at_steps(rows)
    for first, second in COMPARED:
        if {first, second} <= arms:
            of_pair = pair_table(rows, first, second, negligible_below)
            if negligible_below is None and len(of_pair):
                lines = of_pair
            sentences += _on_pair(of_pair, steps)
    if negligible_below is not None:
        sentences.append(
            "Replicates were added to these comparisons until each was decided or known to lie "
            f"within {100 * negligible_below:g} percentage points. Their intervals and p values "
            "stay valid however often one looks (Wang & Ramdas 2023, one encoder and one label "
            "subset a replicate), with Holm's correction over the numbers of labels."
        )
    sentences += _on_unlabelled(rows)
    for arm in ordered(arms - {arm for pair in COMPARED for arm in pair}):
        # An empty table has no columns to choose by.
        of_arm = of_reference[of_reference["arm"] == arm] if len(of_reference) else of_reference
        sentences += _on_pair(of_arm)
        lines = of_arm if lines.empty else lines
    if len(arms) > 3:
        sentences += _best_arms(rows)
    sentences += _basis(lines, rows, validation_images)
    means = rows.groupby("cell")["test_accuracy"].mean()
    chance = chance_of(rows)
    # Half as much again as chance is 15 % for ten classes, but 75 % for two: there it is 52.8 %.
    bound = chance + min(chance / 2, (1 - chance) / 18)
    at_chance = int((means < bound).sum())
    if at_chance:
        sentences.append(
            f"Warning: {at_chance} of {len(means)} cells are at chance level (below "
            f"{100 * bound:.3g} %), which in this task means too little training or a bug."
        )
    return sentences
