"""The rate of false decisions of `--until-decided`, and the replicates that a decision costs.

    python -m benchmarks.decisions [--studies 2000]

simulates whole studies. Each has five comparisons, one per number of labels, whose paired
differences are correlated. The comparisons are tested after every replicate from the second to the
64th, with Holm's correction. For comparison: a t test after every replicate, and t tests after a
fixed number of replicates.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import stats

from analysis.statistics.interval import LEVEL

SPREADS = np.array([6.0, 5.0, 3.0, 2.0, 1.4])
"""Standard deviations of the differences at 10 … 160 labels, in percentage points."""

MAX_REPLICATES = 64
"""Number of replicates at which a study gives up."""

CORRELATION = 0.5
"""Correlation of a replicate's differences at different numbers of labels."""

EFFECTS = (0.3, 0.5, 0.8, 1.2)
"""True differences, in standard deviations."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

KINDS: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "heavy tails (t, 5 degrees of freedom)": lambda draw, shape: (
        draw.standard_t(5, size=shape) / np.sqrt(5 / 3)
    ),
    "skewed (gamma, skewness 1)": lambda draw, shape: (draw.gamma(4, size=shape) - 4) / 2,
    "whole tenths of a point": lambda draw, shape: np.round(draw.normal(size=shape), 1),
}
"""Distributions of differences, with mean 0 and variance 1."""


def differences(draw: np.random.Generator, studies: int, kind: Draw) -> np.ndarray:
    """Differences by replicate, (studies, comparisons, MAX_REPLICATES), in percentage points."""
    shape = (studies, len(SPREADS), MAX_REPLICATES)
    common = kind(draw, (studies, 1, MAX_REPLICATES))
    own = kind(draw, shape)
    values = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    return values * SPREADS[:, None]


def p_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p values (studies, comparisons, MAX_REPLICATES - 1) at each n from 2 on, of two tests.

    The first test stays valid however often one tests (`analysis.statistics.confidence_sequence`);
    the second is a t test.
    """
    n = np.arange(1, MAX_REPLICATES + 1)
    total, squares = values.cumsum(axis=-1), (values**2).cumsum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(squares > 0, total**2 / ((n + 1) * squares), 0.0)
        logs = 0.5 * np.log(1 / (n + 1)) - n / 2 * np.log1p(-share)
        valid = np.minimum.accumulate(np.exp(-np.maximum(logs, 0)), axis=-1)
        variance = (squares - total**2 / n) / (n - 1)
        t = total / np.sqrt(n * variance)
        naive = 2 * stats.t.sf(np.abs(t), n - 1)
    return valid[..., 1:], np.nan_to_num(naive[..., 1:], nan=1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values over the comparisons (axis 1)."""
    count = p.shape[1]
    order = p.argsort(axis=1)
    ascending = np.take_along_axis(p, order, axis=1)
    factors = np.arange(count, 0, -1).reshape(1, count, *[1] * (p.ndim - 2))
    steps = np.minimum(np.maximum.accumulate(ascending * factors, axis=1), 1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, steps, axis=1)
    return result


def simulate(studies: int, seed: int = 0) -> dict[str, list[dict[str, object]]]:
    """Rates of false decisions by kind of differences, and power by size of the true difference."""
    draw = np.random.default_rng(seed)
    errors, power = [], []
    for name, kind in KINDS.items():
        valid, naive = p_values(differences(draw, studies, kind))
        errors.append(
            {
                "differences": name,
                "a look after every replicate": (holm(valid) < LEVEL).any(axis=(1, 2)).mean(),
                "t test at every look": (holm(naive) < LEVEL).any(axis=(1, 2)).mean(),
            }
        )
    for effect in EFFECTS:
        values = differences(draw, studies, KINDS["normal"]) + effect * SPREADS[:, None]
        valid, naive = p_values(values)
        decided = holm(valid) < LEVEL
        ever = decided.any(axis=-1)
        first = np.where(ever, decided.argmax(axis=-1) + 2, MAX_REPLICATES)
        power.append(
            {
                "effect": effect,
                "decided by 64": ever.mean(),
                "median replicates": float(np.median(first)),
                "t test at n = 8": (holm(naive[..., 6]) < LEVEL).mean(),
                "t test at n = 64": (holm(naive[..., -1]) < LEVEL).mean(),
            }
        )
    return {"errors": errors, "power": power}


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    arguments = parser.parse_args()
    tables = simulate(arguments.studies)
    print(f"{arguments.studies} studies of {len(SPREADS)} comparisons")
    for lines in tables.values():
        print(" | ".join(lines[0]))
        for line in lines:
            print(" | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in line.values()))


if __name__ == "__main__":
    main()
