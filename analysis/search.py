"""The results of a search: importance of settings, early stopping, and the cost of less error.

The functions take the trials that `study search` leaves in RESULTS/search/NAME.json as `content`.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, json_to_distribution

from analysis.selection import front
from analysis.style import COLOURS, figure, literal, plain_log_ticks, styled
from study.words import counted, mean_and_sd

MAP = "viridis"
"""Colour scale from dark (best) to light; safe for greyscale and colour blindness."""

LEAST = 5
"""Fewest trials for which importances are computed."""

WORDS = {"complete": "ran in full", "pruned": "stopped early", "fail": "failed"}
"""Optuna's states in the study's words."""


# --- numbers -----------------------------------------------------------------------------------


def metric(content: dict[str, Any]) -> str:
    """The column that the search optimises, `val_mse` or `val_accuracy`."""
    return str(content["columns"][0])


def less_is_better(content: dict[str, Any]) -> bool:
    """True if the metric is minimised."""
    return bool(content["directions"][0] == "minimize")


def trials(content: dict[str, Any]) -> pd.DataFrame:
    """One line per trial: `trial`, `state` (in words), the metric at its last epoch, `epochs` run,
    `parameters` and `seconds` if it ran in full, its settings, and its cell in `cells`."""
    lines = []
    for trial in content["trials"]:
        complete = trial["state"] == "complete"
        curve = trial["curve"]
        last = curve[-1][1] if curve else np.nan
        lines.append(
            {
                "trial": trial["number"],
                "state": WORDS[trial["state"]],
                metric(content): trial["values"][0] if complete else last,
                "epochs": content["epochs"] if complete else curve[-1][0] if curve else 0,
                "parameters": trial.get("parameters"),
                "seconds": trial.get("seconds"),
                **{name: trial["params"].get(name) for name in content["dimensions"]},
                "cells": trial.get("cell"),
            }
        )
    return pd.DataFrame(lines)


def epochs_used(content: dict[str, Any]) -> tuple[int, int]:
    """Epochs that the trials ran, and that they would have run if none had been stopped.

    A trial whose cell existed already counts in full in both. Epochs of a stage before the one in
    which trials are compared count in neither.
    """
    before = content.get("epochs_before", 0)  # missing in older searches
    ran = (trials(content)["epochs"] - before).clip(lower=0)
    return int(ran.sum()), (content["epochs"] - before) * len(content["trials"])


def curves(content: dict[str, Any]) -> pd.DataFrame:
    """The metric by epoch: `trial`, `state`, `epoch`, `value`; complete trials include the last
    epoch."""
    lines = []
    for trial in content["trials"]:
        points = dict(trial["curve"])
        if trial["state"] == "complete":
            points[content["epochs"]] = trial["values"][0]
        state = WORDS[trial["state"]]
        lines += [(trial["number"], state, epoch, value) for epoch, value in points.items()]
    return pd.DataFrame(lines, columns=["trial", "state", "epoch", "value"])


def distributions(content: dict[str, Any]) -> dict[str, BaseDistribution]:
    """The distribution from which each dimension was drawn."""
    known = content["dimensions"]
    return {name: json_to_distribution(json.dumps(value)) for name, value in known.items()}


def importances(content: dict[str, Any]) -> pd.DataFrame:
    """Share of the metric's variance that each setting explains (fANOVA: Hutter, Hoos &
    Leyton-Brown 2014): `setting`, `stage`, `importance`, `trials`.

    There are two stages: the epoch at which trials are first compared, for all trials that reached
    it; and the end, for those that ran in full, which are a selection. A stage with fewer than
    `LEAST` trials, or no variance, is left out.
    """
    stages: dict[str, list[tuple[dict[str, Any], float]]] = {}
    if content["rungs"]:
        first = content["rungs"][0]
        curves_by_epoch = [(trial["params"], dict(trial["curve"])) for trial in content["trials"]]
        stages[f"after epoch {first}, all trials"] = [
            (params, curve[first]) for params, curve in curves_by_epoch if first in curve
        ]
    stages["at the end, those in full"] = [
        (trial["params"], trial["values"][0])
        for trial in content["trials"]
        if trial["state"] == "complete"
    ]
    lines = []
    for stage, points in stages.items():
        if len(points) >= LEAST and np.ptp([value for _, value in points]) > 0:
            for name, share in _importances(distributions(content), points).items():
                lines.append((name, stage, share, len(points)))
    return pd.DataFrame(lines, columns=["setting", "stage", "importance", "trials"])


def _importances(
    known: dict[str, BaseDistribution], points: list[tuple[dict[str, Any], float]]
) -> dict[str, float]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.create_trial(params=params, distributions=known, value=value)
                for params, value in points
            ]
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(before)


def coordinates(content: dict[str, Any]) -> pd.DataFrame:
    """Position of each trial in each dimension, from 0 at the least value to 1 at the largest, on
    the scale of its distribution: `trial`, `state`, `value` (the metric), and the settings."""
    table = trials(content)
    placed = table[["trial", "state"]].assign(value=table[metric(content)])
    for name, known in distributions(content).items():
        placed[name] = [_place(known, value) for value in table[name]]
    return placed


def _place(known: BaseDistribution, value: Any) -> float:
    if isinstance(known, CategoricalDistribution):
        count = len(known.choices)
        return known.choices.index(value) / (count - 1) if count > 1 else 0.5
    low, high, at = (float(x) for x in (known.low, known.high, value))  # type: ignore[attr-defined]
    if getattr(known, "log", False):
        low, high, at = np.log([low, high, at])
    return float((at - low) / (high - low)) if high > low else 0.5


def verdicts(content: dict[str, Any], rows: pd.DataFrame) -> list[str]:
    """Sentences on the epochs that early stopping saved, and on the winner.

    The winner's score is given on the seeds that chose it and on fresh ones, beside the recipe that
    the search started from. `rows` are those of `Results`, which have the cells on fresh seeds.
    """
    table, name = trials(content), metric(content)
    counts = table["state"].value_counts()
    said = ", ".join(f"{counts.get(word, 0)} {word}" for word in WORDS.values())
    used, whole = epochs_used(content)
    sentence = (
        f"{content['name']} on {content['dataset']}: {counted(len(table), 'trial')}, {said}; "
        f"{used:,} of the {whole:,} epochs that they would have taken in full "
        f"({100 * used / whole:.0f} %)."
    )
    sentences = [sentence]
    winner = next((t for t in content["trials"] if t["number"] == content.get("winner")), None)
    if winner is None:
        return [*sentences, "The search has not ended: there is no winner yet."]
    settings = ", ".join(f"{key} {_short(value)}" for key, value in winner["params"].items())
    biased = ", biased as the best of many" if len(table) > 1 else ""
    sentences.append(
        f"The best recipe of the trials in full is trial {winner['number']}: {settings}. Its mean "
        f"{name} is {winner['values'][0]:.5f} on the {winner.get('replicates', '?')} seeds that "
        f"chose it{biased}."
    )
    scores = {}
    for which in ("winner_cell", "start_cell"):
        of_cell = rows[rows["cell"] == content.get(which)] if len(rows) else rows
        if len(of_cell):
            scores[which] = of_cell[name].to_numpy(float)
    if "winner_cell" in scores:
        fresh = scores["winner_cell"]
        sentence = f"On {counted(len(fresh), 'fresh seed')} it is {mean_and_sd(fresh)}"
        if content.get("start_cell") == content["winner_cell"]:
            sentence += ": it is the recipe that the search started from"
        elif "start_cell" in scores:
            ratio = 100 * (fresh.mean() / scores["start_cell"].mean() - 1)
            sentence += (
                "; the recipe that the search started from has "
                f"{mean_and_sd(scores['start_cell'])} on the same seeds ({ratio:+.1f} %)"
            )
        sentences.append(sentence + ".")
    return sentences


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# --- figures -----------------------------------------------------------------------------------


@styled()
def draw_importances(table: pd.DataFrame) -> Figure:
    """Draw `importances` as bars, the most important setting on top."""
    order = table.groupby("setting")["importance"].max().sort_values().index
    made, axes = figure(width=7, height=1.2 + 0.42 * len(order))
    stages = list(table["stage"].unique())
    thick = 0.8 / len(stages)
    for index, stage in enumerate(stages):
        part = table[table["stage"] == stage].set_index("setting").reindex(order)
        at = np.arange(len(order)) - 0.4 + thick * (len(stages) - index - 0.5)
        axes.barh(
            at,
            part["importance"],
            height=0.9 * thick,
            color=COLOURS[index],
            hatch=("", "//")[index % 2],
            edgecolor="white",
            label=f"{stage} (n = {int(part['trials'].max())})",
        )
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("share of the metric's variance (fANOVA)")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right")
    return made


@styled()
def draw_coordinates(content: dict[str, Any]) -> Figure:
    """Draw `coordinates`: a line per trial through all dimensions.

    Trials in full are coloured by their metric, the best on top; trials stopped early are grey.
    """
    placed, known = coordinates(content), distributions(content)
    names = list(known)
    made, axes = figure(width=max(6.0, 1.5 * len(names)), height=4.2)
    stopped = placed[placed["state"] == WORDS["pruned"]]
    for line in stopped[names].to_numpy(float):
        axes.plot(line, color="#bbbbbb", linewidth=0.7, alpha=0.7, zorder=1)
    less = less_is_better(content)
    done = placed[placed["state"] == WORDS["complete"]].sort_values("value", ascending=not less)
    if len(done):
        low, high = done["value"].min(), done["value"].max()
        high = high if high > low else 1.01 * low  # one trial, or all alike
        scale = (LogNorm if less and low > 0 else Normalize)(low, high)
        colours = ScalarMappable(scale, MAP if less else f"{MAP}_r")
        for value, line in zip(done["value"], done[names].to_numpy(float), strict=True):
            axes.plot(line, color=colours.to_rgba(value), linewidth=1.6, zorder=2)
        axes.plot(done[names].to_numpy(float)[-1], "o", color="black", markersize=5, zorder=3)
        bar = made.colorbar(colours, ax=axes, label=f"{metric(content)} of trials in full")
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        bar.ax.yaxis.set_minor_formatter(lambda value, _: f"{value:.3g}")
        bar.ax.tick_params(which="both", labelsize=8)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks([])
    axes.grid(visible=False)
    for at, distribution in enumerate(known.values()):
        axes.axvline(at, color="#888888", linewidth=0.8, zorder=0)
        for height, text in _marks(distribution):
            axes.annotate(
                text,
                (at, height),
                textcoords="offset points",
                xytext=(3, 2),
                fontsize=8,
                color="#333333",
            )
    axes.set_xlim(-0.15, len(names) - 0.4)
    return made


def _marks(known: BaseDistribution) -> list[tuple[float, str]]:
    """Labels of an axis of the parallel coordinates with their heights: choices, or bounds."""
    if isinstance(known, CategoricalDistribution):
        return [(_place(known, choice), literal(choice)) for choice in known.choices]
    low, high = known.low, known.high  # type: ignore[attr-defined]
    return [(0.0, f"{low:g}"), (1.0, f"{high:g}")]


@styled()
def draw_pareto(content: dict[str, Any]) -> Figure:
    """Draw the metric of the trials in full against parameters, and against seconds of training per
    replicate; trials on the Pareto front are ringed and joined."""
    table, name, less = trials(content), metric(content), less_is_better(content)
    done = table[table["state"] == WORDS["complete"]]
    made, both = figure(columns=2, width=10, sharey=True)
    labels = {"parameters": "parameters", "seconds": "training time of a replicate (s)"}
    for axes, (cost, label) in zip(both, labels.items(), strict=True):
        axes.plot(done[cost], done[name], "o", color=COLOURS[0], markersize=5, label="trial")
        best = front(done, name, cost, "min" if less else "max")
        axes.step(best[cost], best[name], where="post", color="#444444", linewidth=1)
        axes.plot(
            best[cost],
            best[name],
            "o",
            markersize=11,
            fillstyle="none",
            color="#444444",
            label="Pareto front",
        )
        for line in best.to_dict("records"):
            axes.annotate(
                str(line["trial"]),
                (line[cost], line[name]),
                fontsize=8,
                textcoords="offset points",
                xytext=(7, 5),
            )
        axes.set_xlabel(label)
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.margins(x=0.12, y=0.12)
    both[0].set_ylabel(f"{name} (mean over replicates)")
    both[1].legend()
    return made


@styled()
def draw_curves(content: dict[str, Any]) -> Figure:
    """Draw the metric of every trial by epoch, and the epochs spent by all trials.

    Trials in full are coloured and end in a dot; stopped trials are grey and end in a cross. Dashed
    lines are the epochs at which trials were compared.
    """
    table = curves(content)
    made, (axes, counts) = figure(columns=2, width=10, gridspec_kw={"width_ratios": [3, 1]})
    for rung in content["rungs"]:
        axes.axvline(rung, color="#888888", linestyle="--", linewidth=0.8, zorder=0)
    labelled = set()
    for (_, state), part in table.groupby(["trial", "state"]):
        full = state == WORDS["complete"]
        axes.plot(
            part["epoch"],
            part["value"],
            color=COLOURS[0] if full else "#999999",
            linewidth=1.3 if full else 0.8,
            zorder=3 if full else 2,
            label=None if state in labelled else state,
        )
        end = {"marker": "o", "color": COLOURS[0]} if full else {"marker": "x", "color": COLOURS[3]}
        # The only mark of a trial whose cell existed already: its curve is one point.
        axes.plot(
            part["epoch"].iloc[-1], part["value"].iloc[-1], markersize=5 - full, zorder=3, **end
        )
        labelled.add(state)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(metric(content))
    if less_is_better(content):
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    axes.legend()
    used, whole = epochs_used(content)
    counts.bar(["spent", "in full"], [used, whole], color=[COLOURS[0], "#bbbbbb"])
    counts.bar_label(counts.containers[0])
    counts.set_ylabel("epochs of all trials")
    counts.grid(axis="x", visible=False)
    return made
