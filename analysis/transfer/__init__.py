"""Question 4: a fixed pretrained encoder against training everything, on few labels.

- `arms`: what an arm is, and its name
- `accuracies`: means, intervals and paired differences of the arms, and their target accuracies
- `baselines`: accuracies of classifiers without a network on the same labels
- `sensitivity`: whether steps and rates decide which arm is better
- `original`: the original solution's numbers next to these
- `figures`: plots of all of these
- `conclusions`: the sentences that follow from the accuracies, and the tables of comparisons to
  which replicates were added until they were decided
"""

from analysis.transfer.accuracies import against as against
from analysis.transfer.accuracies import arms_table as arms_table
from analysis.transfer.accuracies import best_classifier as best_classifier
from analysis.transfer.accuracies import confusion as confusion
from analysis.transfer.accuracies import differences as differences
from analysis.transfer.accuracies import summary as summary
from analysis.transfer.accuracies import target_sentence as target_sentence
from analysis.transfer.arms import chance_of as chance_of
from analysis.transfer.arms import place_of as place_of
from analysis.transfer.arms import rows_of as rows_of
from analysis.transfer.arms import setting_words as setting_words
from analysis.transfer.baselines import baseline_summary as baseline_summary
from analysis.transfer.baselines import baselines as baselines
from analysis.transfer.conclusions import conclusions as conclusions
from analysis.transfer.conclusions import decision_paths as decision_paths
from analysis.transfer.conclusions import decision_table as decision_table
from analysis.transfer.conclusions import gain_of_unlabelled as gain_of_unlabelled
from analysis.transfer.conclusions import pair_table as pair_table
from analysis.transfer.figures import draw_against as draw_against
from analysis.transfer.figures import draw_by_dimension as draw_by_dimension
from analysis.transfer.figures import draw_by_labels as draw_by_labels
from analysis.transfer.figures import draw_confusion as draw_confusion
from analysis.transfer.figures import draw_decisions as draw_decisions
from analysis.transfer.figures import draw_differences as draw_differences
from analysis.transfer.figures import draw_original as draw_original
from analysis.transfer.original import beside_original as beside_original
from analysis.transfer.original import original as original
from analysis.transfer.original import original_conclusion as original_conclusion
from analysis.transfer.sensitivity import draw_sensitivity as draw_sensitivity
from analysis.transfer.sensitivity import sensitivity as sensitivity
from analysis.transfer.sensitivity import sensitivity_conclusions as sensitivity_conclusions
