"""Which conclusions are decided, and which cells would decide the others: `--until-decided`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis import transfer
from analysis.reconstruction.checks import layer_changes
from analysis.reconstruction.conclusions import with_settings
from analysis.results import Results, load
from analysis.statistics import LEVEL
from analysis.transfer.conclusions import COMPARED, decided_pair

PER_CENT = 0.02
"""How much of an error matters as much as a percentage point of accuracy: 1 % for 0.5 points."""


@dataclass(frozen=True)
class Question:
    """A comparison that replicates can decide."""

    text: str
    """What is asked, in a few words."""
    decided: bool
    """Whether it is answered, or known to be smaller than what matters."""
    replicates: int
    """Pairs so far."""
    cells: tuple[str, ...]
    """Ids of the cells that it needs more replicates of."""


def questions(results: Results, matters: float) -> list[Question]:
    """The comparisons of the assignment: which arm, at each number of labels, and how many layers,
    at each d. `matters` is in percentage points of accuracy."""
    found = []
    if len(results.of("fewshot")):
        rows = transfer.rows_of(results)
        for first, second in COMPARED:
            if {first, second} <= set(rows["arm"]):
                table = decided_pair(rows, first, second, matters / 100)
                names = f"{first} or {second}"
                for _, line in table.iterrows():
                    text = f"{names}, {line['labels']} labels"
                    answered = bool(line["p_holm"] < LEVEL) or bool(line["negligible"])
                    cells = tuple(line["cells"].split())
                    found.append(Question(text, answered, int(line["pairs"]), cells))
    rows = results.without_augmented().of("autoencoder")
    if len(rows):
        for _, line in layer_changes(with_settings(rows), sequential=True).iterrows():
            small = 100 * PER_CENT * matters
            inside = max(abs(line["low"]), abs(line["high"])) < small
            text = f"{line['question']}, d = {line['latent_dim']:.0f}"
            answered = bool(line["p_holm"] < LEVEL) or bool(inside)
            cells = tuple(line["cells"].split())
            found.append(Question(text, answered, int(line["n"]), cells))
    return found


def open_questions(folder: str | Path, matters: float) -> list[Question]:
    """Those of a results folder that are not decided; its blocks have been verified."""
    return [q for q in questions(load(folder, {}), matters) if not q.decided]
