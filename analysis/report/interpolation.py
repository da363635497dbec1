"""Section 2: what lies between two digits."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis import interpolation
from analysis.document import Document
from analysis.interpolation import explorer
from analysis.interpolation.judge import Judge, judge_of
from analysis.report.captions import INTERVALS
from analysis.results import Results, load
from study.store import Block


@dataclass(frozen=True)
class Found:
    """What takes most of a report's time, and needs nothing of the rest of it."""

    judge: Judge
    """Who reads the pictures."""
    scorecard: pd.DataFrame
    """What it reads, as `interpolation.scorecard` has it."""


def find(results: Results) -> Found:
    """Train the judge, and let it read."""
    judge = judge_of(results.dataset)
    return Found(judge, interpolation.scorecard(results, judge=judge))


def find_in(address: str, damaged: Mapping[Block, str]) -> Found:
    """The same in a process of its own, of results whose blocks have been verified."""
    with threadpool_limits(1):  # as for all of a report
        return find(load(address, damaged).without_augmented())


def write(document: Document, results: Results, finding: Future[Found] | None = None) -> None:
    found = finding.result() if finding else find(results)
    judge, scorecard = found.judge, found.scorecard
    table = interpolation.summary(scorecard)
    section = document.section(
        "interpolation",
        "2 · Interpolation",
        "What does D(α·E(I₁) + (1 − α)·E(I₂)) show between two different digits, and is a higher "
        "d better?",
    )
    section.conclusions = interpolation.conclusions(scorecard)
    section.cells = sorted(set(scorecard["cell"]) - {""})
    for pair in interpolation.PAIRS:
        first, second = pair
        document.figure(
            f"interpolation_{first}_{second}",
            interpolation.draw_strip(interpolation.strips(results, pair)),
            f"From a {second} to a {first}: decoded points of the line between their codes "
            "(replicate 0), with the two test images on either side; below, the mere blend of "
            "their pixels.",
        )
    document.heading("The scorecard")
    count = int(scorecard["image_pairs"].max())
    document.text(
        f"Over {count} pairs of held-out images of each of the four pairs of digits, the same for "
        f"every model. {judge.description()} Seeing both digits at once is not success: it is "
        "cross-dissolve, what averaging pixels gives without any model."
    )
    document.figure(
        "interpolation_scorecard",
        interpolation.draw_scorecard(scorecard),
        f"Midpoints (α = 0.5) and controls against d; {INTERVALS}.",
    )
    document.figure(
        "interpolation_trade_off",
        interpolation.draw_trade_off(scorecard),
        "How plausible the midpoint is (left) and how far from cross-dissolve (right), against how "
        "faithful the end points are; bars are 95 % Student-t intervals over replicates.",
    )
    document.table(
        "interpolation", table, "The scorecard by latent dimension, means over replicates"
    )
    document.table(
        "interpolation_pairs",
        interpolation.by_pair(scorecard),
        "The scorecard by latent dimension and pair of digits, means over replicates",
    )
    document.download(
        "interpolation_models",
        scorecard.rename(columns={"cell": "cells"}).replace({"cells": {"": "none: images"}}),
        "The scorecard by model and pair of digits",
    )
    document.heading("Explore")
    shown = explorer.content(results, judge)
    document.explorer(explorer.values(shown, scorecard))
    document.download("interpolation_explorer", explorer.readings(shown), "All the readings")
