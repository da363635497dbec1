"""Intervals and comparisons for a study whose results vary over encoders and label subsets.

A few-shot accuracy depends on two random draws: the pretrained encoder that it starts from, and
the labelled images. Rows that share an encoder or a subset are not independent, so a t interval
over all rows is too narrow. `crossed_bootstrap` resamples both factors at once.

`python tests/analysis/test_statistics.py` measures the coverages that the docstring of
`crossed_bootstrap` quotes.
"""

from analysis.statistics.crossed import crossed_bootstrap as crossed_bootstrap
from analysis.statistics.interval import CONFIDENCE as CONFIDENCE
from analysis.statistics.interval import LEVEL as LEVEL
from analysis.statistics.interval import PERCENT as PERCENT
from analysis.statistics.interval import Interval as Interval
from analysis.statistics.interval import finite_mean as finite_mean
from analysis.statistics.interval import holm as holm
from analysis.statistics.interval import holm_table as holm_table
from analysis.statistics.interval import independent_difference as independent_difference
from analysis.statistics.interval import mean_interval as mean_interval
from analysis.statistics.interval import trend as trend
from analysis.statistics.interval import unadjusted as unadjusted
from analysis.statistics.interval import verdict as verdict
from analysis.statistics.sequential import confidence_sequence as confidence_sequence
from analysis.statistics.sequential import negligible as negligible
from analysis.statistics.sequential import sequential_interval as sequential_interval
from analysis.statistics.sequential import sequential_p_value as sequential_p_value
