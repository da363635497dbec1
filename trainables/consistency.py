"""A network that learns from all training images by labels of its own making.

The labels of a few images spread to all others along a graph of an encoder's codes, as in
`propagation`. A network without a bottleneck learns them from augmented views, and before every
further pass it labels the images anew, as they are: what it says of an image has to hold of all
views of it. That is the consistency of FixMatch (Sohn et al. 2020, NeurIPS), with labels renewed
once a pass instead of at every step; classes are balanced as there by distribution alignment, here
exactly (`propagation.balanced`), and an image counts by how certain its label is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from trainables import propagation
from trainables.augment import views
from trainables.data import pixels
from trainables.propagation import PseudoLabels
from trainables.replicates import Replicates
from trainables.seeds import generators, initialise
from trainables.settings.fewshot import Config
from trainables.stages import Training
from trainables.supervised import Network, class_scores


def networks_on_labels_of_their_own(
    config: Config,
    replicates: Sequence[int],
    images: Tensor,
    labels: PseudoLabels,
) -> Training:
    """A network a replicate trains on uint8 training `images` (N, 1, 28, 28), whose `labels` it
    renews before every pass but the first."""
    members = initialise(lambda: Network(config.width), config.seed, replicates, "consistency")
    models = Replicates(members, images.device, "loop", replicates)
    draws = generators(config.seed, replicates, "views")

    def before_pass(number: int) -> None:
        if number > 1:
            scores = class_scores(models, images).double().softmax(dim=2).cpu().numpy()
            labels.renew(np.stack([propagation.balanced(own) for own in scores]))

    return Training(
        models,
        images.expand(len(members), *images.shape),
        labels.classes,
        {"": config.rate_factor * config.learning_rate},
        config.pseudo_epochs,
        config.pseudo_batch_size,
        lambda images: class_scores(models, images).argmax(dim=2),
        certainty=labels.certainty,
        see=lambda seen: views(pixels(seen), config.view_strength, 0.0, draws),
        draws=draws,
        before_pass=before_pass,
    )
