"""Summaries and conclusions follow the numbers of a scorecard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.interpolation.conclusions import conclusion, conclusions, paired
from analysis.interpolation.figures import draw_scorecard, draw_trade_off
from analysis.interpolation.scorecard import (
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    REAL,
    RECONSTRUCTION,
    summary,
)


def synthetic(
    confidence: dict[int, float],
    cross_dissolve: dict[int, float],
    both_digits: dict[int, float],
    noise: float = 0.005,
    replicates: int = 4,
) -> pd.DataFrame:
    """A scorecard with these means at each d, and replicates ± `noise` around them."""
    draw = np.random.default_rng(0)
    lines = []
    for latent_dim, value in confidence.items():
        for replicate in range(replicates):
            for pair in ("4-7", "8-9"):
                about = {"cell": f"{latent_dim:016x}", "replicate": replicate,
                         "latent_dim": latent_dim, "pair": pair, "image_pairs": 9}  # fmt: skip
                jitter = noise * draw.standard_normal(4)
                lines.append({**about, "control": INTERPOLATION,
                              "confidence": value + jitter[0],
                              "cross_dissolve": cross_dissolve[latent_dim] + jitter[1],
                              "both": both_digits[latent_dim] + jitter[2]})  # fmt: skip
                lines.append({**about, "control": RECONSTRUCTION, "confidence": 0.95,
                              "mse": 0.05 / latent_dim + noise * jitter[3]})  # fmt: skip
    lines += [
        {"cell": "", "pair": pair, "control": control, "image_pairs": 9,
         "confidence": 0.6, "both": 0.2}
        for pair in ("4-7", "8-9") for control in (PIXEL_BLEND, REAL)
    ]  # fmt: skip
    table = pd.DataFrame(lines).reindex(
        columns=["cell", "replicate", "latent_dim", "pair", "control", "image_pairs", *MEASURES]
    )
    return table.astype({"replicate": "Int64", "latent_dim": "Int64"})


RISING, FALLING, FLAT = {2: 0.5, 30: 0.8}, {2: 0.8, 30: 0.5}, {2: 0.65, 30: 0.65}


def test_summary_has_means_and_intervals_over_replicates() -> None:
    table = synthetic(RISING, FALLING, FLAT)
    found = summary(table).set_index(["latent_dim", "control", "measure"])
    line = found.loc[(2, INTERPOLATION, "confidence")]
    rows = table[(table["latent_dim"] == 2) & (table["control"] == INTERPOLATION)]
    means = rows.groupby("replicate")["confidence"].mean().to_numpy(float)
    assert line["mean"] == pytest.approx(means.mean())
    # t(0.975, 3) = 3.1824
    assert line["high"] - line["mean"] == pytest.approx(3.1824 * means.std(ddof=1) / 2, rel=1e-4)
    assert line["n"] == 4
    assert line["interval"] == "95 % Student t"
    assert line["cells"] == f"{2:016x}"


def test_paired_difference_over_replicates() -> None:
    interval = paired(synthetic(RISING, FALLING, FLAT, noise=0), "confidence", 2, 30)
    assert interval.estimate == pytest.approx(0.3)
    assert interval.n == 4


def test_conclusions_turn_with_the_numbers() -> None:
    up = conclusion(synthetic(RISING, FALLING, RISING))
    assert "The larger d is better: midpoints are more plausible at d = 30" in up
    assert "closer to mere cross-dissolve, which is the price" in up
    assert "its end points are more faithful" in up
    assert "most plausible midpoints are those of d = 30" in up
    assert "Both digits are seen at once more at d = 30 than at d = 2" in up
    down = conclusion(synthetic(FALLING, RISING, FALLING))
    assert "The smaller d is better: midpoints are more plausible at d = 2" in down
    assert "closer to mere cross-dissolve, which is the price" in down
    assert "its end points are less faithful" in down
    assert "most plausible midpoints are those of d = 2" in down
    assert "Both digits are seen at once less at d = 30 than at d = 2" in down


def test_conclusions_can_be_undecided() -> None:
    found = conclusions(synthetic(FLAT, FLAT, FLAT, noise=0.05))
    assert found[0].startswith("Whether d = 2 or d = 30 interpolates better is undecided")
    assert "not told apart from it" in found[1]
    assert sum("ndecided" in sentence for sentence in found) >= 4
    # One replicate has no interval, however large the difference.
    single = conclusion(synthetic(RISING, FALLING, RISING, replicates=1))
    assert "Whether d = 2 or d = 30 interpolates better is undecided" in single


def test_the_pixel_blend_is_the_control() -> None:
    def against(blend: float) -> str:
        table = synthetic(RISING, FALLING, FLAT)
        table.loc[table["control"] == PIXEL_BLEND, "confidence"] = blend
        return conclusions(table)[1]

    assert "more than in a blend of pixels (0.600)" in against(0.6)
    assert "less than in a blend of pixels (0.950)" in against(0.95)


def test_too_little_to_conclude() -> None:
    assert "only d = 8 is finished" in conclusion(synthetic({8: 0.5}, {8: 0.5}, {8: 0.1}))
    nothing = synthetic({}, {}, {})
    assert "no autoencoder is finished" in conclusion(nothing)
    with pytest.raises(ValueError, match="no autoencoder is finished"):
        draw_scorecard(nothing)


def test_models_without_a_number_are_left_out_and_counted() -> None:
    table = synthetic(RISING, FALLING, RISING, noise=0)
    one = (table["latent_dim"] == 30) & (table["replicate"] == 0)
    table.loc[one, ["cross_dissolve", "cycle"]] = [np.nan, np.inf]
    # The d that is left is another at d = 2: means and their difference are of the same models.
    table.loc[(table["latent_dim"] == 2) & (table["replicate"] == 0), "cross_dissolve"] = 5.0
    found = conclusions(table)
    assert "0.500 against 0.800, difference -0.300 [-0.300, -0.300]" in found[4]
    assert "n = 3)" in found[4]
    assert "1 of 8 models of d = 2 and 30" in found[-1]
    draw_scorecard(table)
    draw_trade_off(table)
    table.loc[table["latent_dim"] == 30, "cross_dissolve"] = np.nan
    nothing = conclusions(table)
    assert "no value against no value, difference no value (n = 0)" in nothing[4]
    assert "4 of 8 models" in nothing[-1]
    draw_trade_off(table)


def test_one_replicate_has_no_interval_that_could_include_0() -> None:
    found = conclusions(synthetic(RISING, FALLING, RISING, replicates=1, noise=0))
    assert found[0].endswith(
        "undecided: the difference in the plausibility of midpoints is +0.300 (n = 1, no interval)."
    )
    assert not any("nan" in sentence for sentence in found)
