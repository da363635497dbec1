"""Circular losses compared: networks that learn under each by how much a digit was turned.

For each replicate, networks, turns, order of the images and budget are the same under every loss,
so differences are paired. An error is the length of the shortest turn from the predicted to the
true angle, in degrees.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.results import Results
from analysis.selection import best_setting
from analysis.statistics import LEVEL, Interval, holm_table, mean_interval, unadjusted, verdict
from analysis.style import COLOURS, LINES, error_bars, figure, from_zero, marks, styled
from trainables.rotation.train import held_out_angles

NAMES = {
    "absolute": "naive |ŷ − y|",
    "wrapped": "wrapped |δ|",
    "cosine": "1 − cos δ",
    "von_mises": "von Mises",
    "sine_cosine": "(sin, cos) regression",
}
"""Names of the losses in figures and sentences."""

NAIVE = "absolute"
BIN = 10
"""Width of a bin of true angles, in degrees."""
NEAR = 30
"""Angles up to this many degrees from 0° are near the break of the naive loss."""

HALF_TURN = (0, 1, 6, 8, 9)
"""Digits that half a turn leaves unchanged or turns into one another."""
TURNED_OVER = 135
"""An error above this many degrees is nearer to half a turn than to a quarter."""

NETWORK = ["depth", "batch_size"]
"""Settings besides the loss that options can vary."""


def _losses(table: pd.DataFrame) -> list[str]:
    present = set(table["loss"])
    return [loss for loss in NAMES if loss in present]


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one network (depth and batch size), which figures and sentences use.

    It is the network with the least mean validation error over the losses, of the networks that
    have all losses.
    """
    best = best_setting(rows, NETWORK, "loss", "val_error", "min")
    return rows[(rows[NETWORK] == list(best)).all(axis=1)]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per cell: mean test error in degrees with its interval over replicates.

    Columns `loss`, `depth`, `batch_size`, `test_error`, `low`, `high`, `median_error` (mean over
    replicates of the median over images), `val_error`, `interval`, `replicates`, `cells`.
    """
    lines = []
    for cell, group in rows.groupby("cell", sort=False):
        interval = mean_interval(group["test_error"]).within(0)
        lines.append(
            {
                **{name: group[name].iloc[0] for name in ("loss", *NETWORK)},
                **interval.columns("test_error", "replicates"),
                "median_error": group["test_median_error"].mean(),
                "val_error": group["val_error"].mean(),
                "cells": cell,
            }
        )
    return pd.DataFrame(lines)


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in test error, naive minus each circular loss: above 0, naive is worse.

    Columns `loss`, `depth`, `batch_size`, `difference` (degrees), `low`, `high`, `p` (two-sided),
    `p_holm` (corrected for the number of lines), `interval`, `pairs`, `cells`.
    """
    lines = []
    for network, group in rows.groupby(NETWORK):
        naive = group[group["loss"] == NAIVE]
        for loss in _losses(group):
            other = group[group["loss"] == loss]
            pairs = naive.merge(other, on="replicate", suffixes=("", "_other"))
            if loss == NAIVE or pairs.empty:
                continue
            interval = mean_interval(pairs["test_error"] - pairs["test_error_other"])
            lines.append(
                {
                    "loss": loss,
                    **dict(zip(NETWORK, network, strict=True)),
                    **interval.columns("difference", "pairs"),
                    "p": interval.p_value(),
                    "cells": f"{naive['cell'].iloc[0]} {other['cell'].iloc[0]}",
                }
            )
    return holm_table(lines)


def errors(results: Results, rows: pd.DataFrame) -> pd.DataFrame:
    """The error on every test image: `loss`, `replicate`, `angle` (true, in [0, 360)), `error`,
    `cell`; in degrees. Each replicate has all images in order."""
    tables = []
    for (cell, loss, seed), group in rows.groupby(["cell", "loss", "seed"], sort=False):
        predicted = results.predictions(cell, group["replicate"])
        angles = held_out_angles(int(seed), predicted.shape[1], "test")
        away = np.abs((predicted - angles + 180) % 360 - 180)
        for replicate, of_one in zip(group["replicate"], away, strict=True):
            tables.append(
                pd.DataFrame(
                    {
                        "loss": loss,
                        "replicate": replicate,
                        "angle": angles,
                        "error": of_one,
                        "cell": cell,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def with_digits(table: pd.DataFrame, digits: np.ndarray) -> pd.DataFrame:
    """`errors` with the `digit` of each test image; `digits` (N,) are the test labels."""
    return table.assign(digit=np.tile(digits, len(table) // len(digits)))


def by_angle(table: pd.DataFrame) -> pd.DataFrame:
    """Mean `errors` by true `angle` in bins of 10°, named by their middle; see `_by`."""
    return _by(table.assign(angle=(table["angle"] // BIN) * BIN + BIN / 2), "angle")


def by_digit(table: pd.DataFrame) -> pd.DataFrame:
    """Mean errors by digit, from a table `with_digits`; see `_by`."""
    return _by(table, "digit")


def _by(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """Means over replicates with their intervals, by loss and `key`.

    Columns `loss`, `key`, `error`, `low`, `high`, `turned_over` (the share of images with an error
    above 135°), `replicates`, `interval`, `cells`.
    """
    over = table.assign(turned_over=(table["error"] > TURNED_OVER).astype(float))
    keys = ["cell", "loss", key]
    means = over.groupby([*keys, "replicate"])[["error", "turned_over"]].mean().reset_index()
    lines = []
    for (cell, loss, value), group in means.groupby(keys, sort=False):
        interval = mean_interval(group["error"]).within(0)
        lines.append(
            {
                "loss": loss,
                key: value,
                **interval.columns("error", "replicates"),
                "turned_over": group["turned_over"].mean(),
                "cells": cell,
            }
        )
    return pd.DataFrame(lines)


def excess_near_the_break(table: pd.DataFrame, loss: str) -> Interval:
    """Error within 30° of 0° minus error elsewhere, in degrees: mean over replicates with its
    interval."""
    mine = table[table["loss"] == loss]
    near = np.minimum(mine["angle"], 360 - mine["angle"]) <= NEAR
    close, far = (part.groupby("replicate")["error"].mean() for part in (mine[near], mine[~near]))
    return mean_interval(close - far)


def conclusions(rows: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Sentences on the cost of the naive loss and the angles at which it arises.

    From the rows and from the `errors` of the `chosen` ones.
    """
    shown = chosen(rows)
    best = shown.groupby("loss")["val_error"].mean().idxmin()
    score = mean_interval(shown[shown["loss"] == best]["test_error"]).within(0)
    median = shown[shown["loss"] == best]["test_median_error"].mean()
    least = (
        f"Least error: {score.text(1, unit=' degrees')} on test images (median {median:.1f}), "
        f"under “{NAMES[best]}”, which has the least validation error{score.basis()}."
    )
    sentences = [least]
    compared = differences(rows)
    if len(compared):
        network = list(shown[NETWORK].iloc[0])
        sentences += _on_losses(compared[(compared[NETWORK] == network).all(axis=1)])
    for loss in dict.fromkeys([NAIVE, best]):
        if loss not in set(table["loss"]):
            continue
        excess = excess_near_the_break(table, loss)
        sentences.append(
            f"Under “{NAMES[loss]}” the error within {NEAR}° of 0/360 "
            + verdict(
                excess,
                "is larger than elsewhere: ",
                "is smaller than elsewhere: ",
                "may be the same as elsewhere (undecided): ",
            )
            + f"{excess.text(1, unit=' degrees')}, near minus elsewhere."
        )
    return sentences


def conclusions_by_digit(rows: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """A sentence that compares the digits that half a turn makes ambiguous with the others.

    From the errors `with_digits` under the best loss; none if the data have only one kind.
    """
    best = chosen(rows).groupby("loss")["val_error"].mean().idxmin()
    mine = table[table["loss"] == best]
    alike = mine["digit"].isin(HALF_TURN)
    if alike.all() or not alike.any():
        return []
    first, second = (
        part.groupby("replicate")["error"].mean() for part in (mine[alike], mine[~alike])
    )
    difference = mean_interval(first - second)
    means = by_digit(mine).sort_values("error")
    least, most = means.iloc[0], means.iloc[-1]
    compared = verdict(
        difference,
        "have a larger error than the other digits",
        "have a smaller error than the other digits",
        "may have the same error as the other digits (undecided)",
    )
    ambiguous = f"{100 * (mine.loc[alike, 'error'] > TURNED_OVER).mean():.1f} %"
    sentence = (
        f"Digits that half a turn makes ambiguous (0, 1, 8; 6 and 9) {compared} under "
        f"“{NAMES[best]}”: {difference.text(1, unit=' degrees', signed=True)}"
        f"{difference.basis()}; {ambiguous} of their images are off by more than {TURNED_OVER}°. "
        f"The {least['digit']} has the least error ({least['error']:.1f}°), the "
        f"{most['digit']} the largest ({most['error']:.1f}°)."
    )
    return [sentence]


def _on_losses(compared: pd.DataFrame) -> list[str]:
    """One sentence per line of `differences`, and one if the naive loss is worse than all others.

    The corrected p value decides the wording: an uncorrected interval, one among many, excludes 0
    too often.
    """
    sentences = []
    worse = 0
    for _, line in compared.iterrows():
        name = NAMES[line["loss"]]
        kind = unadjusted(line["interval"])
        interval = Interval(line["difference"], line["low"], line["high"], line["pairs"], kind)
        start = f"It is undecided whether the naive loss or “{name}” is worse: "
        if line["p_holm"] < LEVEL:  # False for NaN: nothing could be tested
            word = "worse" if line["difference"] > 0 else "better"
            worse += word == "worse"
            start = f"The naive loss is {word} than “{name}”: "
        sentences.append(
            f"{start}{interval.text(1, unit=' degrees')}, naive minus circular"
            f"{interval.basis('in pairs of the same seed')}."
        )
    if worse and worse == len(compared):
        sentences.append(
            f"So it is worse than every one of the {worse} circular losses, each time with "
            f"p < {LEVEL} after Holm's correction for their number."
        )
    return sentences


@styled()
def draw_errors(rows: pd.DataFrame) -> Figure:
    """Draw mean error by loss with its interval, the replicates as dots."""
    losses = _losses(rows)
    made, axes = figure(width=8, height=3.4)
    for place, loss in enumerate(losses):
        values = rows[rows["loss"] == loss]["test_error"]
        interval = mean_interval(values).within(0)
        reach = error_bars([interval.estimate], [interval.low], [interval.high])
        shifts = np.linspace(0.12, 0.28, len(values)) if len(values) > 1 else [0.2]
        axes.plot(
            place + np.asarray(shifts), values, ".", color=COLOURS[place], alpha=0.5, markersize=5
        )
        axes.errorbar(
            place,
            interval.estimate,
            yerr=reach,
            **marks(place),
            capsize=4,
            markersize=6,
        )
    axes.set_xticks(range(len(losses)), [NAMES[loss] for loss in losses])
    axes.set_xlim(-0.5, len(losses) - 0.4)
    from_zero(axes)
    axes.set_xlabel("loss that the network learns from")
    axes.set_ylabel("mean circular error (degrees)")
    return made


@styled()
def draw_by_digit(table: pd.DataFrame) -> Figure:
    """Draw mean error by digit, a marker with its interval for each loss; the background is grey at
    digits that half a turn makes ambiguous."""
    made, axes = figure(width=9, height=4.2)
    losses = _losses(table)
    for digit in HALF_TURN:
        axes.axvspan(digit - 0.5, digit + 0.5, color="#000000", alpha=0.06, linewidth=0)
    for index, loss in enumerate(losses):
        part = table[table["loss"] == loss]
        reach = error_bars(part["error"], part["low"], part["high"])
        axes.errorbar(
            part["digit"] + 0.14 * (index - (len(losses) - 1) / 2),
            part["error"],
            yerr=reach,
            **marks(index),
            linestyle="",
            markersize=4.5,
            capsize=2,
            label=NAMES[loss],
        )
    axes.set_xticks(range(10))
    axes.set_xlim(-0.5, 9.5)
    from_zero(axes)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("digit (grey: ambiguous after half a turn)")
    axes.set_ylabel("mean circular error (degrees)")
    made.legend(loc="outside lower center", ncols=5)
    return made


@styled()
def draw_by_angle(binned: pd.DataFrame) -> Figure:
    """Draw mean error against the true angle, a line with its interval as a band for each loss; the
    axis is centred on 0/360, where the naive loss breaks."""
    made, axes = figure(width=9, height=4.2)
    for index, loss in enumerate(_losses(binned)):
        part = binned[binned["loss"] == loss]
        part = part.assign(angle=(part["angle"] + 180) % 360 - 180).sort_values("angle")
        axes.fill_between(
            part["angle"], part["low"], part["high"], color=COLOURS[index], alpha=0.18, linewidth=0
        )
        axes.plot(
            part["angle"],
            part["error"],
            **marks(index),
            linestyle=LINES[index],
            markersize=3.5,
            linewidth=1.3,
            label=NAMES[loss],
        )
    axes.axvline(0, color="#666666", linestyle=":", linewidth=1)
    ticks = range(-180, 181, 45)
    axes.set_xticks(ticks, [f"{tick % 360}" if tick else "0/360" for tick in ticks])
    from_zero(axes)
    axes.set_xlabel("true angle (degrees)")
    axes.set_ylabel("mean circular error (degrees)")
    made.legend(loc="outside lower center", ncols=5)
    return made
