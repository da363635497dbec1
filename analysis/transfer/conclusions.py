"""Which arm is better, in sentences computed from the rows."""

from __future__ import annotations

import math

import pandas as pd

from analysis.statistics import LEVEL, Interval, unadjusted
from analysis.transfer.accuracies import CHANCE, accuracy_interval, against, best_classifier
from analysis.transfer.arms import at_one_setting, name_of, ordered, setting_words, with_arms

REFERENCE = "fixed"
"""The arm that every other one is compared with, in one table."""

COMPARED = ((REFERENCE, "full"), ("full", "scratch"))
"""The arms that the assignment asks about, each pair with a sentence a number of labels."""


def pair_table(
    rows: pd.DataFrame, of_reference: pd.DataFrame, first: str, second: str
) -> pd.DataFrame:
    """Lines of `against` on the arms `first` − `second`, one a number of labels.

    For the reference they are those of its table, `of_reference`, so that a sentence never
    contradicts a line that stands beside it; another pair is corrected for its own number of
    labels.
    """
    if first != REFERENCE:
        rows = at_one_setting(with_arms(rows))  # of all arms, not of what these two have
        return against(rows[rows["arm"].isin([first, second])], second)
    lines = _lines_of(of_reference, [second])
    if lines.empty:
        return lines
    turned = {"arm": first, "reference": second, "difference": -lines["difference"],
              "low": -lines["high"], "high": -lines["low"]}  # fmt: skip
    return lines.assign(**turned)


def _lines_of(table: pd.DataFrame, arms: list[str]) -> pd.DataFrame:
    """The lines of `against` on these arms; a table of none has no columns to choose by."""
    return table[table["arm"].isin(arms)] if len(table) else table


def _word(line: pd.Series, better: str, worse: str, undecided: str) -> str:
    """What the p value says that is corrected for the number of comparisons: an interval, which
    is of one comparison alone, excludes 0 more often than it should in one of many."""
    if not line["p_holm"] < LEVEL:  # NaN too: nothing could be tested
        return undecided
    return better if line["difference"] > 0 else worse


def _points(line: pd.Series, unit: str = "") -> str:
    """A difference in percentage points with its interval."""
    interval = Interval(
        line["difference"], line["low"], line["high"], line["pairs"], line["interval"]
    )
    return interval.text(1, 100, unit, signed=True)


def _on_pair(lines: pd.DataFrame, first: str, second: str) -> list[str]:
    """A sentence a number of labels."""
    one, two = name_of(first), name_of(second)
    sentences = []
    for _, line in lines.iterrows():
        start = f"With {line['labels']} labels"
        word = _word(
            line,
            f"{start} “{one}” beats “{two}”: ",
            f"{start} “{two}” beats “{one}”: ",
            f"{start} it is undecided whether “{one}” or “{two}” is better: ",
        )
        sentences.append(f"{word}{_points(line, ' percentage points')}.")
    return sentences


def _against_reference(table: pd.DataFrame) -> list[str]:
    """A sentence an arm: with how many labels it beats a plain, fixed encoder."""
    sentences = []
    for arm, lines in table.groupby("arm", sort=False):
        parts = [
            f"{_word(line, 'better', 'worse', 'undecided')} with {line['labels']} labels "
            f"({_points(line)})"
            for _, line in lines.iterrows()
        ]
        sentences.append(
            f"“{name_of(arm)}” against “{name_of(REFERENCE)}”, in percentage points: "
            f"{', '.join(parts)}."
        )
    return sentences


def _best_arms(rows: pd.DataFrame) -> list[str]:
    """The arm with the best validation accuracy for each number of labels, in one sentence."""
    parts = []
    for labels, group in rows.groupby("labels"):
        cell = group.groupby("cell")["val_accuracy"].mean().idxmax()
        chosen = group[group["cell"] == cell]
        interval = accuracy_interval(chosen)
        parts.append(
            f"{labels} labels: {interval.text(1, 100, ' %')} by “{name_of(chosen['arm'].iloc[0])}”"
        )
    return [f"Best arm by mean validation accuracy, its mean test accuracy: {'; '.join(parts)}."]


def _basis(lines: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """What the differences are, and what decides the words."""
    if lines.empty:
        return []
    line = lines.iloc[-1]
    bounded = not math.isnan(line["low"])
    brackets = f"; in brackets: {unadjusted(line['interval'])}" if bounded else ""
    said = (
        "These are means over d of differences on common label subsets and encoders"
        f"{brackets}, n = {line['pairs']} pairs. Better, worse and undecided are decided by "
        f"p < {LEVEL} after Holm's correction for the number of comparisons."
    )
    return [said, *filter(None, [setting_words(rows)])]


def conclusions(rows: pd.DataFrame) -> list[str]:
    """Which arm is better, by how much, in sentences computed from the rows."""
    rows = with_arms(rows)
    best = best_classifier(rows)
    score = (
        f"Best score: {100 * best['test_accuracy']:.1f} % of the test images, by the classifier "
        f"with the best validation accuracy ({name_of(best['arm'])}, d = "
        f"{best['latent_dim']}, {best['labels']} labels)."
    )
    sentences = [score]
    arms = set(rows["arm"])
    of_reference, lines = against(rows), pd.DataFrame()
    for first, second in COMPARED:
        both = {first, second} <= arms
        of_pair = pair_table(rows, of_reference, first, second) if both else lines[:0]
        sentences += _on_pair(of_pair, first, second)
        lines = of_pair if len(of_pair) else lines
    others = [arm for arm in ordered(arms) if arm not in {a for pair in COMPARED for a in pair}]
    if others:
        of_others = _lines_of(of_reference, others)
        sentences += _against_reference(of_others) if len(of_others) else []
        sentences += _best_arms(rows)
        lines = of_others if lines.empty else lines
    sentences += _basis(lines, rows)
    chance = rows.groupby("cell")["test_accuracy"].mean()
    at_chance = int((chance < 1.5 * CHANCE).sum())
    if at_chance:
        sentences.append(
            f"Warning: {at_chance} of {len(chance)} cells are at chance level (below "
            f"{150 * CHANCE:.0f} %), which in this task means too little training or a bug."
        )
    return sentences
