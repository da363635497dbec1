"""Tables of the differences between two studies, with their intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis import transfer
from analysis.compare.studies import Study, match, words
from analysis.reconstruction.checks import in_per_cent
from analysis.results import MEASURES
from analysis.selection import with_common_replicates
from analysis.statistics import Interval, holm_table, independent_difference
from analysis.transfer.accuracies import over_replicates
from analysis.transfer.arms import at_one_setting, ordered


def by_replicate(rows: pd.DataFrame, metric: str, logarithm: bool = False) -> pd.DataFrame:
    """One row per replicate: `value`, `encoder` and label `subset`.

    `value` is the mean of the metric (or of its logarithm) over cells. Rows whose metric is not
    finite are left out.
    """
    values = np.log(rows[metric]) if logarithm else rows[metric]
    rows = with_common_replicates(rows.assign(value=values)[np.isfinite(values.astype(float))])
    subset = rows["label_subset"] if "label_subset" in rows else rows["replicate"]
    encoder = subset
    if "encoder_replicate" in rows:
        encoder = rows["encoder_replicate"].where(rows["encoder_cell"].notna(), subset)
    groups = rows.assign(subset=subset, encoder=encoder).groupby("replicate")
    return groups.agg({"value": "mean", "encoder": "first", "subset": "first"})


def mean_over_replicates(replicates: pd.DataFrame) -> Interval:
    """Interval of the mean `value` of a table of `by_replicate`."""
    if replicates.empty:
        return Interval(math.nan, math.nan, math.nan, 0, "no value")
    return over_replicates(*(replicates[name] for name in ("value", "encoder", "subset")))


def difference(second: pd.DataFrame, first: pd.DataFrame, paired: bool) -> Interval:
    """Interval of second − first, two tables of `by_replicate`.

    If `paired`, it is the interval of the differences of common replicates, else Welch's.
    """
    if not paired:
        return independent_difference(mean_over_replicates(second), mean_over_replicates(first))
    both = second.join(first.add_suffix("_first"), how="inner")
    # If the replicates of one study share encoders, so do the pairs.
    encoder = both[["encoder", "encoder_first"]].nunique().idxmin()
    return mean_over_replicates(
        both.assign(value=both["value"] - both["value_first"], encoder=both[encoder])
    )


def comparison(
    studies: tuple[Study, Study],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    cells: pd.DataFrame,
    metric: str,
    relative: bool = False,
) -> dict[str, object]:
    """Compare a metric over corresponding `cells` of two studies, as one row of a table.

    `rows` are the rows of both studies. The row has `comparison`, `first`, `second` (means), their
    bounds `first_low` …, `difference` (if `relative`, in per cent, from mean logarithms), `low`,
    `high`, `p`, `n`, `pairing`, `interval`, `cells`.
    """
    of_cells = [
        table[table["cell"].isin(cells[f"cell_{side}"])] for side, table in enumerate(rows, 1)
    ]
    first, second = (by_replicate(table, metric, relative) for table in of_cells)
    paired = bool(cells["paired"].all())
    found = difference(second, first, paired)
    interval = in_per_cent(found) if relative else found
    most = 1.0 if metric.endswith("accuracy") else math.inf
    means = {
        f"{side}{bound}": value
        for side, table in zip(("first", "second"), of_cells, strict=True)
        for mean in [mean_over_replicates(by_replicate(table, metric)).within(0, most)]
        for bound, value in (("", mean.estimate), ("_low", mean.low), ("_high", mean.high))
    }
    return {
        "comparison": f"{studies[1].name} − {studies[0].name}",
        **means,
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": found.p_value(),
        "n": str(interval.n) if paired else f"{len(first)} + {len(second)}",
        "pairing": "paired by replicate" if paired else "unpaired",
        "interval": interval.kind,
        "cells": " ".join([*cells["cell_1"], *cells["cell_2"]]),
    }


def by_cell(
    first: Study, second: Study, experiment: str, metric: str, relative: bool = False
) -> pd.DataFrame:
    """`comparison` for each pair of corresponding cells of an experiment, with their settings."""
    found = match(first, second, experiment)
    rows = first.results.of(experiment), second.results.of(experiment)
    table = holm_table(
        {
            **cells[found.keys].iloc[0].to_dict(),
            "settings": words(cells.iloc[0], found.keys),
            **comparison((first, second), rows, cells, metric, relative),
        }
        for _, cells in found.cells.groupby(found.cells.index)
    )
    return table.sort_values(found.keys, ignore_index=True) if len(table) else table


def over_cells(first: Study, second: Study, experiment: str, metric: str) -> pd.Series:
    """The relative `comparison` over all corresponding cells of an experiment."""
    rows = first.results.of(experiment), second.results.of(experiment)
    cells = match(first, second, experiment).cells
    return pd.Series(comparison((first, second), rows, cells, metric, relative=True))


def metrics(first: Study, second: Study, experiment: str) -> list[str]:
    """The columns of validation and test metrics of an experiment that both studies have.

    The metric that selects the experiment's best cell comes first.
    """
    one, two = (study.results.of(experiment) for study in (first, second))
    chosen = first.results.planned(experiment)["metric"]
    common = [str(c) for c in one if c in two and (MEASURES.fullmatch(str(c)) or c == chosen)]
    known = [c for c in common if not c.startswith("train_") and is_numeric_dtype(one[c])]
    return sorted(known, key=lambda column: column != chosen)


def accuracies(first: Study, second: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the test accuracies of the few-shot arms that both studies have.

    Accuracies are means over d for each replicate, at one setting of depth and batch size. The
    first table has a `comparison` for each arm and number of labels, with `arm` and `labels`. The
    second has every replicate: `study`, `arm`, `labels`, `value`. Both are empty without a common
    arm.
    """
    experiments = "fewshot", "supervised"
    rows = tuple(transfer.rows_of(study.results) for study in (first, second))
    cells = pd.concat(
        [match(first, second, e).cells[["cell_1", "cell_2", "paired"]] for e in experiments]
    )
    places = ["cell", "arm", "labels", "latent_dim", "depth", "asked_batch_size"]
    cells = cells.merge(rows[0][places].drop_duplicates("cell"), left_on="cell_1", right_on="cell")
    lines, dots = [], []
    for (arm, labels), group in at_one_setting(cells).groupby(["arm", "labels"]):
        common = {"arm": arm, "labels": labels}
        lines.append(common | comparison((first, second), rows, group, "test_accuracy"))
        for side, (study, table) in enumerate(zip((first, second), rows, strict=True), 1):
            of_side = table[table["cell"].isin(group[f"cell_{side}"])]
            values = by_replicate(of_side, "test_accuracy").reset_index()
            dots.append(values.assign(study=study.name, **common))
    table = holm_table(lines)
    if table.empty:
        return table, table
    order = ordered(table["arm"])
    places = table["arm"].map(order.index)
    table = table.assign(place=places).sort_values(["place", "labels"], ignore_index=True)
    return table.drop(columns="place"), pd.concat(dots, ignore_index=True)
