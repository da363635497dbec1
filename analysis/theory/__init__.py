"""The assignment's theory: every answer stated, derived, and checked by code.

Each question has a module with ``ANSWERS``, the mathematics, and ``checks(seed)``, which measures
the same claims. ``common.Check.question`` is the ``Answer.number`` that the check belongs to.

>>> from analysis import theory
>>> bool(theory.checks(seed=0)["passed"].all())
True
"""

import pandas as pd

from analysis.theory import chain_rule, circular, composition, descent
from analysis.theory.circular import draw_circular_losses as draw_circular_losses
from analysis.theory.common import Answer as Answer
from analysis.theory.stationary import draw_stationary_points as draw_stationary_points

_QUESTIONS = (composition, descent, circular, chain_rule)


def answers() -> list[Answer]:
    """The answers in the assignment's order: 1, 2, 3, 4a, 4b, 4c, 4d."""
    return [answer for question in _QUESTIONS for answer in question.ANSWERS]


def checks(seed: int = 0) -> pd.DataFrame:
    """Run every numerical check, in float64 on the CPU, in about a second.

    Args:
        seed: for the random maps, functions and points.

    Returns:
        One row per check: question, claim, measured, comparison ("at most" or "at least"),
        allowed, passed.
    """
    found = [check for question in _QUESTIONS for check in question.checks(seed)]
    columns = ["question", "claim", "measured", "comparison", "allowed", "passed"]
    lines = [[getattr(check, name) for name in columns] for check in found]
    return pd.DataFrame(lines, columns=columns)
