"""Undecided comparisons, and the cells that need more replicates, for `--until-decided`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import transfer
from analysis.reconstruction.checks import layer_changes
from analysis.results import Results, load
from analysis.statistics import LEVEL
from analysis.transfer.conclusions import COMPARED, pair_table

ERROR_A_POINT = 0.02
"""Relative change of an error that matters as much as one percentage point of accuracy."""


@dataclass(frozen=True)
class Question:
    """A comparison that replicates can decide."""

    text: str
    """The question in a few words."""
    decided: bool
    """True if it is answered, or the difference is known to be too small to matter."""
    replicates: int
    """Number of pairs so far."""
    cells: tuple[str, ...]
    """Ids of the cells that are compared; they get more replicates until it is decided."""


def questions(results: Results, matters: float) -> list[Question]:
    """The assignment's comparisons: of arms at each number of labels, and of layers at each d.

    `matters` is in percentage points of accuracy.
    """
    found = []
    if len(results.of("fewshot")):
        rows = transfer.rows_of(results)
        for first, second in COMPARED:
            if {first, second} <= set(rows["arm"]):
                table = pair_table(rows, first, second, matters / 100)
                names = f"{first} or {second}"
                for _, line in table.iterrows():
                    text = f"{names}, {line['labels']} labels"
                    found.append(question(text, line, int(line["pairs"])))
    rows = results.with_plain_autoencoders().of("autoencoder")
    if len(rows):
        table = layer_changes(rows, ERROR_A_POINT * matters)
        for _, line in table.iterrows():
            text = f"{line['question']}, d = {line['latent_dim']:.0f}"
            found.append(question(text, line, int(line["n"])))
    return found


def question(text: str, line: pd.Series, replicates: int) -> Question:
    """The question of one line of a table of comparisons."""
    decided = bool(line["p_holm"] < LEVEL or line["negligible"])
    return Question(text, decided, replicates, tuple(line["cells"].split()))


def questions_of(folder: str | Path, matters: float) -> list[Question]:
    """The questions of a results folder; its blocks must have been verified."""
    return questions(load(folder, {}), matters)
