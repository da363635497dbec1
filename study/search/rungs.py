"""When the trials of a search are compared, which is known without Ray."""

from __future__ import annotations

SPACING = 3
"""How many times as late as the one before trials are compared again."""

KEPT = 4
"""Of the trials at a rung, one in so many goes on."""

RECENT = 10
"""How many trials at a rung a new one is compared with: the latest. Optuna's suggestions get
better while a search lasts, so that among all of them nearly every late one would be in the best
quarter: 40 trials of 9 epochs took 44 % of the epochs when the best third of all went on."""


def rungs(epochs: range) -> list[int]:
    """Those of the `epochs` at which a trial is scored after which it is compared with others: from
    a tenth of them on, each three times as late as the one before, and none at the end, where
    nothing is left to save."""
    found, trained = [], max(1, len(epochs) // 10)
    while trained < len(epochs):
        found.append(epochs[trained - 1])
        trained *= SPACING
    return found
