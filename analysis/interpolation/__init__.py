"""Question 2: what lies on the straight line between the codes of two classes.

D(α·E(I₁) + (1 − α)·E(I₂)) for α from 0, which is I₂, to 1, which is I₁. A picture that shows
both classes at once is the known failure of this, cross-dissolve: it is what averaging the pixels
gives, without any model. So a midpoint is measured in three ways: does it pass for one class (to
judges that learnt from real images alone), how far is it from a mere cross-dissolve, and are the
ends of the line still the two images?

- `lines`: which images and which models, and the lines between their codes
- `judge`: who says what a picture shows
- `measures`: the numbers that a line gets
- `scorecard`: the table of all measures of all models
- `figures`: the scorecard, drawn
- `strips`: the pictures along one line, drawn
- `conclusions`: the sentences that follow from the scorecard
- `explorer`: the part of the report in which a reader moves along the lines
"""

from analysis.interpolation.conclusions import (
    Comparison,
    after_longer_training,
    at_a_glance,
    conclusion,
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
    "conclusion",
    "conclusions",
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
