"""Which d interpolates better and why: sentences that follow from the numbers of a scorecard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.interpolation.scorecard import (
    INTERPOLATION,
    PIXEL_BLEND,
    RECONSTRUCTION,
    by_replicate,
)
from analysis.selection import with_common_replicates
from analysis.statistics import Interval, finite_mean, verdict


def conclusions(table: pd.DataFrame) -> list[str]:
    """Which d is better and why, from the numbers of a scorecard: sentences that change with
    them, and say "undecided" where the interval includes no difference."""
    all_models, table = table, with_common_replicates(table)
    models = by_replicate(table, INTERPOLATION)
    dims = sorted(int(d) for d in models["latent_dim"].unique())
    if len(dims) < 2:
        done = f"only d = {dims[0]} is finished" if dims else "no autoencoder is finished"
        return [f"Which d interpolates better can't be said: {done}."]
    low, high = dims[0], dims[-1]
    plausible = paired(table, "confidence", low, high)
    dissolve = paired(table, "cross_dissolve", low, high)
    ends = paired(table, "mse", low, high, RECONSTRUCTION)
    return [
        _which_and_why(plausible, dissolve, ends, low, high),
        _best(table, dims),
        _compared(table, "confidence", low, high, plausible,
                  "the judge takes midpoints for a digit with {more} confidence at"),
        _end_points(table, low, high),
        _compared(table, "cross_dissolve", low, high, dissolve,
                  "midpoints are {more} distant from cross-dissolve at"),
        _both_at_once(table, low, high),
        *_left_out(all_models, (low, high)),
    ]  # fmt: skip


def conclusion(table: pd.DataFrame) -> str:
    """`conclusions` as one paragraph."""
    return " ".join(conclusions(table))


def paired(
    table: pd.DataFrame, measure: str, low: int, high: int, control: str = INTERPOLATION
) -> Interval:
    """Interval for the mean of `measure` at d = `high` less that at d = `low`, over replicates:
    replicate r has the same seeds and the same image pairs at both. Unbounded, with n = 0, where
    none has a finite value at both."""
    at = _at_both(table, measure, low, high, control)
    return finite_mean((at[high] - at[low]).to_numpy(float))


def _at_both(
    table: pd.DataFrame, measure: str, low: int, high: int, control: str = INTERPOLATION
) -> pd.DataFrame:
    """`measure` by replicate (rows) and d (columns `low` and `high`), where it is finite at both:
    means and their difference are of the same models."""
    models = by_replicate(table, control)
    compared = models[models["latent_dim"].isin([low, high])]
    values = compared.set_index(["latent_dim", "replicate"])[measure].astype(float)
    at = pd.DataFrame({d: values.loc[d] for d in (low, high)})
    return at[np.isfinite(at).all(axis=1)]


def _which_and_why(
    plausible: Interval, dissolve: Interval, ends: Interval, low: int, high: int
) -> str:
    better = verdict(plausible, str(high), str(low), "")
    if not better:
        why = (
            "the interval of the difference in the plausibility of midpoints includes 0"
            if plausible.bounded
            else "the difference in the plausibility of midpoints is "
            f"{plausible.text(3, signed=True)}"
        )
        return f"Whether d = {low} or d = {high} interpolates better is undecided: {why}."
    size = "larger" if better == str(high) else "smaller"
    # Signs turned so that above 0 speaks for the d that is better.
    toward = 1 if size == "larger" else -1
    reasons = [
        _sided(ends, -toward, "its end points are more faithful", "its end points are less "
               "faithful", "whether its end points are more faithful is undecided"),
        _sided(dissolve, toward, "its midpoints are farther from mere cross-dissolve",
               "its midpoints are closer to mere cross-dissolve, which is the price",
               "whether its midpoints are closer to mere cross-dissolve is undecided"),
    ]  # fmt: skip
    return (
        f"The {size} d is better: midpoints are more plausible at d = {better}; "
        f"{reasons[0]}, and {reasons[1]}."
    )


def _sided(interval: Interval, toward: int, positive: str, negative: str, undecided: str) -> str:
    if toward < 0:
        positive, negative = negative, positive
    return verdict(interval, positive, negative, undecided)


def _best(table: pd.DataFrame, dims: Sequence[int]) -> str:
    """The d with the most plausible midpoints, which others may be as good, and the control."""
    models = by_replicate(table, INTERPOLATION)
    means = models.groupby("latent_dim")["confidence"].mean()
    best = int(means.idxmax())
    others = [d for d in dims if d != best]
    as_good = [d for d in others if not paired(table, "confidence", d, best).excludes(0)]
    rivals = f"; not told apart from it: d = {', '.join(map(str, as_good))}" if as_good else ""
    blend = by_replicate(table, PIXEL_BLEND)["confidence"].mean()
    interval = finite_mean(models.loc[models["latent_dim"] == best, "confidence"])
    control = verdict(
        interval,
        "more than in a blend of pixels",
        "less than in a blend of pixels",
        "undecided whether more or less than in a blend of pixels",
        null=blend,
    )
    return (
        f"The most plausible midpoints are those of d = {best}: the judge's mean confidence is "
        f"{interval.text(3)}, {control} ({blend:.3f}){rivals}."
    )


def _compared(
    table: pd.DataFrame, measure: str, low: int, high: int, difference: Interval, start: str
) -> str:
    """`start`, with "more" or "less" for {more}, and both means with their difference."""
    means = _at_both(table, measure, low, high).mean()
    shown = {d: _number(means[d]) for d in (low, high)}
    claim = start.format(more=verdict(difference, "more", "less", "more or less"))
    undecided = f"it is undecided whether {claim}"
    sentence = verdict(difference, claim, claim, undecided)
    return (
        f"{sentence[0].upper()}{sentence[1:]} d = {high} than at d = {low}: {shown[high]} "
        f"against {shown[low]}, difference {difference.text(3, signed=True)}"
        f"{difference.basis('paired by replicate')}."
    )


def _end_points(table: pd.DataFrame, low: int, high: int) -> str:
    """How much of what the judge thinks of midpoints it thinks of the end points already."""
    ends = by_replicate(table, RECONSTRUCTION)
    between = by_replicate(table, INTERPOLATION)
    lost = ends.merge(between, on=["cell", "replicate", "latent_dim"], suffixes=("", "_between"))
    lost["lost"] = lost["confidence"] - lost["confidence_between"]
    means = lost.groupby("latent_dim")[["confidence", "lost"]].mean()
    of = lost.set_index("replicate")
    at = {d: of.loc[of["latent_dim"] == d, "lost"] for d in (low, high)}
    difference = finite_mean((at[high] - at[low]).to_numpy(float))
    compared = verdict(
        difference, "the larger d loses more", "the smaller d loses more",
        "which loses more is undecided",
    )  # fmt: skip
    return (
        f"In the end points D(E(I)) themselves its confidence is "
        f"{means.loc[low, 'confidence']:.3f} at d = {low} and {means.loc[high, 'confidence']:.3f} "
        f"at d = {high}; from there to the midpoint it loses {means.loc[low, 'lost']:.3f} and "
        f"{means.loc[high, 'lost']:.3f}: {compared}, difference {difference.text(3, signed=True)}."
    )


def _both_at_once(table: pd.DataFrame, low: int, high: int) -> str:
    """The original's reason for a larger d, as a number."""
    difference = paired(table, "both", low, high)
    means = by_replicate(table, INTERPOLATION).groupby("latent_dim")["both"].mean()
    blend = by_replicate(table, PIXEL_BLEND)["both"].mean()
    claim = verdict(
        difference,
        f"Both digits are seen at once more at d = {high} than at d = {low}",
        f"Both digits are seen at once less at d = {high} than at d = {low}",
        f"Whether both digits are seen at once more at d = {high} or at d = {low} is undecided",
    )
    return (
        f"{claim}: {means[high]:.3f} against {means[low]:.3f}, "
        f"difference {difference.text(3, signed=True)}; it is what a blend of pixels does without "
        f"any model ({blend:.3f}), so more of it is a "
        "failure to interpolate and not a merit."
    )


def _left_out(table: pd.DataFrame, dims: Sequence[int]) -> list[str]:
    """How many models are in no difference, because they show the same picture at both ends: no
    sentence where there is none."""
    models = by_replicate(table, INTERPOLATION)
    compared = models[models["latent_dim"].isin(dims)]
    without = ~np.isfinite(compared["cross_dissolve"].to_numpy(float))
    if not without.any():
        return []
    sentence = (
        f"Left out of the distance from cross-dissolve: {without.sum()} of {len(compared)} models "
        f"of d = {' and '.join(map(str, dims))}, which show the same picture at both ends."
    )
    return [sentence]


def _number(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:.3f}"
