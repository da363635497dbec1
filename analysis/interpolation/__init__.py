"""Question 2: what lies on the straight line between the codes of two classes.

The line is D(α·E(I₁) + (1 − α)·E(I₂)), from I₂ at α = 0 to I₁ at α = 1. Its known failure is
cross-dissolve, a picture that shows both classes at once: averaging the pixels gives that without
any model. So three things are measured. Does the midpoint pass for one class, to judges that
learnt only from real images? How far is it from a mere cross-dissolve? Are the ends of the line
still the two images?

- `lines`: the images, the models, and the lines between their codes
- `judge`: the classifiers that say what a picture shows
- `measures`: the numbers computed for a line
- `scorecard`: the table of all measures of all models
- `figures`: plots of the scorecard
- `strips`: the pictures along one line
- `conclusions`: the sentences that follow from the scorecard
- `explorer`: the interactive part of the report, in which a reader moves along the lines
"""

from analysis.interpolation.conclusions import (
    Comparison,
    after_longer_training,
    at_a_glance,
    conclusions,
    trends_by_measure,
)
from analysis.interpolation.figures import draw_scorecard, draw_trade_off
from analysis.interpolation.lines import (
    ALPHAS,
    PAIRS,
    cells_by_dimension,
    image_pairs,
    interpolate,
    pairs_of,
    pixel_blend,
)
from analysis.interpolation.scorecard import (
    INTERPOLATION,
    MEASURES,
    PIXEL_BLEND,
    REAL,
    RECONSTRUCTION,
    by_model,
    by_pair,
    by_replicate,
    counted_by_every_model,
    scorecard,
    summary,
)
from analysis.interpolation.strips import draw_strip, strips

__all__ = [
    "ALPHAS",
    "INTERPOLATION",
    "MEASURES",
    "PAIRS",
    "PIXEL_BLEND",
    "REAL",
    "RECONSTRUCTION",
    "Comparison",
    "after_longer_training",
    "at_a_glance",
    "by_model",
    "by_pair",
    "by_replicate",
    "cells_by_dimension",
    "conclusions",
    "counted_by_every_model",
    "draw_scorecard",
    "draw_strip",
    "draw_trade_off",
    "image_pairs",
    "interpolate",
    "pairs_of",
    "pixel_blend",
    "scorecard",
    "strips",
    "summary",
    "trends_by_measure",
]
