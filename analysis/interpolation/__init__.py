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

from analysis.interpolation.conclusions import Comparison as Comparison
from analysis.interpolation.conclusions import after_longer_training as after_longer_training
from analysis.interpolation.conclusions import at_a_glance as at_a_glance
from analysis.interpolation.conclusions import conclusions as conclusions
from analysis.interpolation.conclusions import trends_by_measure as trends_by_measure
from analysis.interpolation.figures import draw_scorecard as draw_scorecard
from analysis.interpolation.figures import draw_trade_off as draw_trade_off
from analysis.interpolation.lines import cells_by_dimension as cells_by_dimension
from analysis.interpolation.lines import class_pairs as class_pairs
from analysis.interpolation.scorecard import INTERPOLATION as INTERPOLATION
from analysis.interpolation.scorecard import by_model as by_model
from analysis.interpolation.scorecard import by_pair as by_pair
from analysis.interpolation.scorecard import by_replicate as by_replicate
from analysis.interpolation.scorecard import counted_by_every_model as counted_by_every_model
from analysis.interpolation.scorecard import scorecard as scorecard
from analysis.interpolation.scorecard import summary as summary
from analysis.interpolation.strips import draw_strip as draw_strip
from analysis.interpolation.strips import strips as strips
