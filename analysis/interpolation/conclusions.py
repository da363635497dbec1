"""Sentences on which d interpolates better, computed from a scorecard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.correlation import direction
from analysis.interpolation.scorecard import (
    INTERPOLATION,
    MEASURES,
    OF_EVERY_PAIR,
    PIXEL_BLEND,
    RECONSTRUCTION,
    by_replicate,
    counted_by_every_model,
)
from analysis.selection import with_common_replicates
from analysis.statistics import (
    LEVEL,
    PERCENT,
    Interval,
    crossed_bootstrap,
    finite_mean,
    holm,
    verdict,
)

CRITERIA = {
    "counted": (1, "the share of pairs whose end points keep their class"),
    "mse": (-1, "the error of the end points"),
    "relative": (1, "the confidence relative to the end points"),
    "outside": (-1, "the probability outside the two classes"),
    "both": (-1, "both classes at once"),
    "cross_dissolve": (1, "the distance from cross-dissolve"),
    "nearest": (-1, "the distance to the nearest real image"),
    "mean_distance": (-1, "the mean cosine distance from real images"),
    "smoothness": (-1, "the unevenness of the path of nearest real images"),
    "cycle": (-1, "the cycle error"),
}
"""The measures that decide: 1 if more is better, −1 if less is better, and the measure's name in
sentences."""

OF_EACH_JUDGE = ("relative", "outside", "both")
"""The measures with one value per judge."""

RELATIVE = "judges' confidence in midpoints relative to the end points"
"""The subject of the sentence on the trend of `relative`."""

MIN_SHARE_OF_PAIRS = 0.5
"""A d is compared with others only if at least this share of its pairs counts."""


def conclusions(table: pd.DataFrame) -> list[str]:
    """Sentences on which d interpolates better, and by which measures.

    They say "undecided" for measures whose corrected p value is not below `LEVEL`, and for trends
    of midpoints whose interval includes 0.
    """
    table = with_common_replicates(table)
    shares = _shares(table)
    if len(shares) < 2:
        only = f"only d = {shares.index[0]} is finished"
        return [f"Which d interpolates better can't be said: {only}."]
    compared = Comparison.of(table)
    if len(compared.dims) < 2:
        where = "one d only" if compared.dims else "no d"
        why = f"Which d interpolates better can't be said: most pairs count at {where}."
        return [why, _counted(table, compared), *_same_at_both_ends(table)]
    midpoints = ["Midpoints can't be compared: no pair counts at every d."]
    if "relative" not in compared.measures:
        midpoints = ["The images have no labels, so no judge says what midpoints show."]
    elif len(compared.pair_counts):
        midpoints = [_relative(table, compared), _both_at_once(table, compared)]
    return [
        _verdict(trends_by_measure(compared), compared.dims),
        *([_counted(table, compared)] if "counted" in compared.measures else []),
        *midpoints,
        *_left_out(compared),
        *_same_at_both_ends(table),
    ]


def at_a_glance(sentences: Sequence[str]) -> str:
    """Of `conclusions`: which d is better and, if there, the trend of the judges' confidence."""
    first, *others = sentences
    chosen = [first, *(sentence for sentence in others if RELATIVE in sentence)]
    return " ".join(re.split(r"(?<=\.) ", sentence)[0] for sentence in chosen)


@dataclass(frozen=True)
class Comparison:
    """The rows of a scorecard that are used to compare latent dimensions.

    All d have the same replicates. Except for the measures `OF_EVERY_PAIR`, each d of a replicate
    is measured on the same pairs of images: those that count at every d. Otherwise a d that keeps
    the class of easy pairs only would be measured on easy pairs only.
    """

    dims: list[int]
    """The latent dimensions at which at least half of the pairs count, ascending."""
    every_pair: pd.DataFrame
    """The rows of the scorecard with these dimensions."""
    common_pairs: pd.DataFrame
    """The rows of `every_pair` whose pair counts at every d of its replicate."""

    @classmethod
    def of(cls, table: pd.DataFrame) -> Comparison:
        table = with_common_replicates(table)
        shares = _shares(table)
        dims = [int(d) for d in shares.index[shares >= MIN_SHARE_OF_PAIRS]]
        rows = table[table["latent_dim"].isin(dims)]
        return cls(dims, rows, counted_by_every_model(rows))

    @property
    def pair_counts(self) -> pd.Series:
        """Number of pairs of images that count at every d, by replicate."""
        pairs = self.common_pairs.drop_duplicates(["replicate", "pair", "example"])
        return pairs.groupby("replicate").size()

    @property
    def measures(self) -> list[str]:
        """The measures of `CRITERIA` that have values: without labels, there are no judges."""
        table = self.every_pair
        without = [] if table["relative"].notna().any() else ["counted", *OF_EACH_JUDGE]
        return [measure for measure in CRITERIA if measure not in without]

    def means(self, measure: str) -> pd.DataFrame:
        """Mean `measure` by replicate and judge (rows) and d (columns); rows finite at every d."""
        rows = self.every_pair if measure in OF_EVERY_PAIR else self.common_pairs
        rows = rows[rows["control"] == (RECONSTRUCTION if measure == "mse" else INTERPOLATION)]
        wide = rows.pivot_table(
            index=["replicate", "judge"], columns="latent_dim", values=measure, aggfunc="mean"
        ).reindex(columns=self.dims)
        return wide[np.isfinite(wide.to_numpy(float)).all(axis=1)]

    def slopes(self, measure: str) -> pd.Series:
        """Least-squares slope of `measure` over log2 d by replicate and judge."""
        doublings = np.log2(np.array(self.dims, dtype=float))
        centred = doublings - doublings.mean()
        return self.means(measure) @ (centred / (centred @ centred))

    def trend(self, measure: str) -> Interval:
        """Interval for the mean slope of `measure` over log2 d.

        The interval is over replicates, and also over judges for the measures `OF_EACH_JUDGE`. n
        counts replicates, and may be 0.
        """
        slopes = self.slopes(measure)
        by_model = slopes.groupby("replicate").mean()
        replicate, judge = (slopes.index.get_level_values(name) for name in slopes.index.names)
        if measure not in OF_EACH_JUDGE or min(len(by_model), judge.nunique()) < 2:
            return finite_mean(by_model)
        crossed = crossed_bootstrap(slopes, replicate, judge)
        kind = f"{PERCENT} Student t over replicates and {judge.nunique()} judges"
        return replace(crossed, n=len(by_model), kind=kind)


def trends_by_measure(compared: Comparison) -> pd.DataFrame:
    """Means and trend with d of each measure of `CRITERIA` that has values, one row each.

    Columns `measure`, `speaks_for` ("larger d", "smaller d" or "undecided"), `at d = …` (the least
    and the largest d compared), `a_doubling` (the slope over log2 d), `low`, `high`, `p_holm`
    (two-sided, corrected for the number of rows), `interval`, `replicates`, `cells`.
    """
    least, most = compared.dims[0], compared.dims[-1]
    intervals = {measure: compared.trend(measure) for measure in compared.measures}
    corrected = holm([interval.p_value() for interval in intervals.values()])
    cells = " ".join(dict.fromkeys(compared.every_pair["cell"]))
    lines = []
    for (measure, interval), p in zip(intervals.items(), corrected, strict=True):
        better = CRITERIA[measure][0] * interval.estimate
        side = "larger d" if better > 0 else "smaller d"
        average = compared.means(measure).mean()
        lines.append(
            {
                "measure": MEASURES[measure].replace("\n", " "),
                "speaks_for": side if p < LEVEL else "undecided",
                f"at d = {least}": average[least],
                f"at d = {most}": average[most],
                **interval.columns("a_doubling", "replicates"),
                "p_holm": p,
                "cells": cells,
            }
        )
    return pd.DataFrame(lines, index=pd.Index(intervals))


def after_longer_training(table: pd.DataFrame, longer: pd.DataFrame, epochs: str) -> list[str]:
    """Compare the scorecards `table` and `longer` at the d of `longer`.

    `epochs` says how long the models of `longer` were trained. Returns one sentence, or none unless
    both scorecards compare the same d, at least two.
    """
    if longer["latent_dim"].nunique() < 2:
        return []
    dims = Comparison.of(longer).dims
    compared = [Comparison.of(part[part["latent_dim"].isin(dims)]) for part in (table, longer)]
    if min(len(part.dims) for part in compared) < 2 or compared[0].dims != compared[1].dims:
        return []
    before, after = (trends_by_measure(part)["speaks_for"] for part in compared)
    sides = {side: _measures(after == side) for side in ("larger d", "smaller d")}
    better = "; ".join(f"a {side} is better by {names}" for side, names in sides.items() if names)
    decided = (before != "undecided") & (after != "undecided")
    turned = _measures(decided & (before != after))
    change = f"these changed sides: {turned}" if turned else "none changed sides"
    where = f"at d = {_listed([str(d) for d in dims])}"
    replicates = compared[1].every_pair["replicate"].nunique()
    sentence = (
        f"After {epochs} instead, {where} (n = {replicates}), {better or 'no measure decides'}; of "
        f"the {decided.sum()} measures that decide there both times, {change}."
    )
    return [sentence]


def _verdict(trends: pd.DataFrame, dims: Sequence[int]) -> str:
    """Say whether a larger d is better, worse, a trade-off or undecided, and by which measures."""
    span = f"from d = {dims[0]} to d = {dims[-1]}"
    larger, smaller, open_ones = (
        _measures(trends["speaks_for"] == side) for side in ("larger d", "smaller d", "undecided")
    )
    undecided = f" Undecided: {open_ones}." if open_ones else ""
    corrected = f"(p < {LEVEL} after Holm's correction for {len(trends)} measures)"
    if larger and smaller:
        return (
            f"Which d interpolates better is a trade-off {span}. A larger d is better by {larger}; "
            f"a smaller d is better by {smaller} {corrected}.{undecided}"
        )
    if larger or smaller:
        word = "larger" if larger else "smaller"
        decided = trends.index[trends["speaks_for"] == f"{word} d"]
        if set(decided) <= set(OF_EVERY_PAIR):
            return (
                f"A {word} d has better end points {span}: it is better by {larger or smaller} "
                f"{corrected}. No measure of midpoints decides."
            )
        return (
            f"A {word} d interpolates better {span}: it is better by {larger or smaller}, and "
            f"worse by no measure {corrected}.{undecided}"
        )
    return (
        f"Whether a larger or a smaller d interpolates better {span} is undecided by all "
        f"{len(trends)} measures."
    )


def _measures(chosen: pd.Series) -> str:
    """Name the measures of `CRITERIA` for which `chosen`, by measure, is true."""
    return _listed([CRITERIA[measure][1] for measure in chosen.index[chosen]])


def _listed(names: Sequence[str]) -> str:
    """Join names as `A, B and C`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _shares(table: pd.DataFrame) -> pd.Series:
    """Share of pairs that count, mean over replicates, by latent dimension."""
    models = by_replicate(table, INTERPOLATION)
    return models.groupby("latent_dim")["counted"].mean().sort_index()


def _counted(table: pd.DataFrame, compared: Comparison) -> str:
    """Say which pairs count, at which d, and how many are compared."""
    shares = [f"{100 * share:.0f} % at d = {d}" for d, share in _shares(table).items()]
    rule = "if most judges see the right class in both decoded end points"
    sentences = [f"A pair of images counts {rule}: {_listed(shares)}."]
    few = [str(d) for d in _shares(table).index if d not in compared.dims]
    if few:
        verb = "is" if len(few) == 1 else "are"
        sentences.append(f"Fewer than half count at d = {_listed(few)}, which {verb} not compared.")
    counts = compared.pair_counts
    if len(compared.dims) > 1 and len(counts):
        least, most = counts.min(), counts.max()
        number = f"{least} to {most}" if least < most else f"{least}"
        sentences.append(f"Only the {number} pairs that count at each of the other d are compared.")
    return " ".join(sentences)


def _relative(table: pd.DataFrame, compared: Comparison) -> str:
    """Say how the confidence in midpoints, relative to the end points, changes with d."""
    claim = direction(compared.trend("relative"), f"the {RELATIVE}")
    by_judge = compared.slopes("relative").groupby("judge").mean()
    judges = f", by judge {by_judge.min():+.3f} to {by_judge.max():+.3f}"
    numbers = _at_both_ends(compared, "relative", 3)
    return f"{claim}: {numbers}{judges}. {_of_a_blend(table, 'relative')}."


def _both_at_once(table: pd.DataFrame, compared: Comparison) -> str:
    """Say how seeing both classes at once, the original's reason for a larger d, changes with d."""
    claim = verdict(
        compared.trend("both"),
        "The judges see both classes at once more at a larger d",
        "The judges see both classes at once less at a larger d",
        "Whether the judges see both classes at once more at a larger d is undecided",
    )
    return (
        f"{claim}: {_at_both_ends(compared, 'both', 4)}. {_of_a_blend(table, 'both')}, without "
        "any model: more of it is a failure to interpolate."
    )


def _at_both_ends(compared: Comparison, measure: str, digits: int) -> str:
    """The means at the least and the largest d, and the trend."""
    average, trend = compared.means(measure).mean(), compared.trend(measure)
    at = [f"{average[d]:.3f} at d = {d}" for d in (compared.dims[0], compared.dims[-1])]
    slope = trend.text(digits, unit=" a doubling", signed=True)
    return f"{', '.join(at)}, {slope}{trend.basis()}"


def _of_a_blend(table: pd.DataFrame, measure: str) -> str:
    return f"In a blend of pixels it is {by_replicate(table, PIXEL_BLEND)[measure].mean():.3f}"


def _left_out(compared: Comparison) -> list[str]:
    """Say how many replicates are left out of the comparison of midpoints; empty if none are."""
    replicates = compared.every_pair["replicate"].nunique()
    without = replicates - len(compared.pair_counts)
    if not without:
        return []
    return [f"Left out: {without} of {replicates} replicates, in which no pair counts at every d."]


def _same_at_both_ends(table: pd.DataFrame) -> list[str]:
    """Say how many models decode both images of every pair to one picture; empty if none do."""
    rows = table[table["control"] == INTERPOLATION]
    models = rows.groupby(["cell", "replicate"])["cross_dissolve"].count()
    if models.all():
        return []
    dims = _listed([str(d) for d in sorted(rows["latent_dim"].unique())])
    of_all = f"{(models == 0).sum()} of {len(models)} models of d = {dims}"
    return [f"Left out: {of_all}, which show the same picture at both ends."]
