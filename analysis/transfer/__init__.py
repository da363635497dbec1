"""Question 4: a fixed pretrained encoder against training everything, on few labels.

- `arms`: what an arm is, and its name
- `accuracies`: means, intervals and paired differences of the arms
- `baselines`: accuracies of classifiers without a network on the same labels
- `decided`: intervals after each replicate, for comparisons that ran until they were decided
- `sensitivity`: whether steps and rates decide which arm is better
- `targets`: all arms in one table, with their target accuracies
- `original`: the original solution's numbers next to these
- `figures`: plots of all of these
- `conclusions`: the sentences that follow from the accuracies
"""

from analysis.transfer.accuracies import (
    against,
    best_classifier,
    confusion,
    differences,
    summary,
)
from analysis.transfer.arms import (
    at_one_setting,
    chance_of,
    name_of,
    place_of,
    rows_of,
    setting_words,
    with_arms,
)
from analysis.transfer.baselines import baseline_summary, baselines
from analysis.transfer.conclusions import conclusions, gain_of_unlabelled, pair_table
from analysis.transfer.decided import decision_paths, decision_table, draw_decisions
from analysis.transfer.figures import (
    draw_against,
    draw_by_dimension,
    draw_by_labels,
    draw_confusion,
    draw_differences,
    draw_original,
)
from analysis.transfer.original import beside_original, original, original_conclusion
from analysis.transfer.sensitivity import (
    draw_sensitivity,
    sensitivity,
    sensitivity_conclusions,
)
from analysis.transfer.targets import TARGETS, arms_table, target_sentence

__all__ = [
    "TARGETS",
    "against",
    "arms_table",
    "at_one_setting",
    "baseline_summary",
    "baselines",
    "beside_original",
    "best_classifier",
    "chance_of",
    "conclusions",
    "confusion",
    "decision_paths",
    "decision_table",
    "differences",
    "draw_against",
    "draw_by_dimension",
    "draw_by_labels",
    "draw_confusion",
    "draw_decisions",
    "draw_differences",
    "draw_original",
    "draw_sensitivity",
    "gain_of_unlabelled",
    "name_of",
    "original",
    "original_conclusion",
    "pair_table",
    "place_of",
    "rows_of",
    "sensitivity",
    "sensitivity_conclusions",
    "setting_words",
    "summary",
    "target_sentence",
    "with_arms",
]
