"""Question 4: a fixed pretrained encoder against training everything, on few labels.

- `accuracies`: means, intervals and paired differences of the arms
- `baselines`: what classifiers without a network reach on the same labels
- `original`: the original solution's numbers beside these
- `figures`: all of it, drawn
- `conclusions`: the sentences that follow
"""

from analysis.transfer.accuracies import (
    ARMS,
    CHANCE,
    best_classifier,
    confusion,
    differences,
    overall_difference,
    summary,
)
from analysis.transfer.baselines import baseline_summary, baselines, code_baselines
from analysis.transfer.conclusions import conclusions
from analysis.transfer.figures import (
    draw_by_dimension,
    draw_by_labels,
    draw_confusion,
    draw_differences,
    draw_original,
)
from analysis.transfer.original import beside_original, original, original_conclusion

__all__ = [
    "ARMS",
    "CHANCE",
    "baseline_summary",
    "baselines",
    "beside_original",
    "best_classifier",
    "code_baselines",
    "conclusions",
    "confusion",
    "differences",
    "draw_by_dimension",
    "draw_by_labels",
    "draw_confusion",
    "draw_differences",
    "draw_original",
    "original",
    "original_conclusion",
    "overall_difference",
    "summary",
]
