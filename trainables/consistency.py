"""A network that learns from all training images, by labels that it may doubt.

The labels of a few images spread to all others along a graph of an encoder's codes, as in
`propagation`. A network without a bottleneck learns them from augmented views: what holds of an
image has to hold of all views of it, the consistency of FixMatch (Sohn et al. 2020, NeurIPS). An
image counts by how certain the graph is of its class, and from the second pass on also by how
probable the network finds it, as neither learns from its own mistakes alone then.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from trainables.augment import views
from trainables.data import pixels
from trainables.propagation import PseudoLabels
from trainables.replicates import Replicates
from trainables.seeds import generators, initialise
from trainables.settings.fewshot import Config
from trainables.stages import Training
from trainables.supervised import Network, class_scores


def networks_that_doubt(
    config: Config,
    replicates: Sequence[int],
    images: Tensor,
    labels: PseudoLabels,
) -> Training:
    """A network a replicate trains on uint8 training `images` (N, 1, 28, 28), whose `labels` it
    doubts before every pass but the first."""
    members = initialise(lambda: Network(config.width), config.seed, replicates, "consistency")
    models = Replicates(members, images.device, "loop", replicates)
    draws = generators(config.seed, replicates, "views")

    def before_pass(number: int) -> None:
        if number > 1:
            labels.doubt(class_scores(models, images).softmax(dim=2))

    return Training(
        models,
        images.expand(len(members), *images.shape),
        labels.classes,
        {"": config.rate_factor * config.learning_rate},
        config.pseudo_epochs,
        config.pseudo_batch_size,
        lambda images: class_scores(models, images).argmax(dim=2),
        certainty=labels.weights,
        see=lambda seen: views(pixels(seen), config.view_strength, 0.0, draws),
        draws=draws,
        before_pass=before_pass,
    )
