"""Intervals after each replicate, for comparisons that ran until they were decided."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.statistics import confidence_sequence
from analysis.style import COLOURS, figure, styled
from analysis.transfer.accuracies import differences_by_labels
from analysis.transfer.arms import at_one_setting
from analysis.transfer.conclusions import COMPARED, pair_table


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


@styled()
def draw_decisions(paths: pd.DataFrame, negligible_below: float) -> Figure:
    """Draw the interval of each comparison against the number of replicates, in percentage points.

    Rows are pairs of arms, columns numbers of labels.
    """
    pairs = list(paths[["arm", "reference"]].drop_duplicates().itertuples(index=False))
    counts = sorted(paths["labels"].unique())
    points = 100 * negligible_below
    made, panels = figure(len(counts), len(pairs), width=2.3 * len(counts) + 0.6,
                          height=2.4 * len(pairs) + 0.4, sharey="row", squeeze=False)  # fmt: skip
    for index, (line, pair) in enumerate(zip(panels, pairs, strict=True)):
        for axes, labels in zip(line, counts, strict=True):
            chosen = (paths["arm"] == pair.arm) & (paths["reference"] == pair.reference)
            known = paths[chosen & (paths["labels"] == labels)]
            axes.axhspan(-points, points, color="#dddddd", linewidth=0)
            axes.axhline(0, color="#444444", linewidth=1)
            axes.fill_between(known["n"], 100 * known["low"], 100 * known["high"],
                              color=COLOURS[index], alpha=0.3, linewidth=0)  # fmt: skip
            axes.plot(known["n"], 100 * known["estimate"], color=COLOURS[index])
            axes.set_title(f"{labels} labels")
        line[0].set_ylabel(f"{pair.arm} − {pair.reference}\n(percentage points)")
        widest = 100 * paths[paths["n"] >= 6][["low", "high"]].abs().max().max()
        line[0].set_ylim(-min(20, widest), min(20, widest))
    for axes in panels[-1]:
        axes.set_xlabel("replicates")
    return made
