"""Functions that several tests of trainables share."""

import numpy as np

from trainables.contract import Report
from trainables.data import Dataset, Split
from trainables.networks import Autoencoder
from trainables.seeds import initialise

no_report = Report()


def noise_dataset(channels, height, width, classes, images=3):
    """Noise: so many images of each class in every split."""
    draw = np.random.default_rng([channels, height, width, classes])
    count = images * max(1, classes)

    def split():
        pixels = draw.integers(0, 256, (count, channels, height, width)).astype(np.uint8)
        return Split(pixels, (np.arange(count) % max(1, classes)).astype(np.uint8))

    names = tuple(f"class {number}" for number in range(classes))
    return Dataset("noise", split(), split(), split(), names)


def without_time(rows):
    """The rows of an outcome without the only number that differs from run to run."""
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


def untrained_parent(shape, replicates):
    """Weights of so many autoencoders by replicate, as a finished cell has them."""
    models = initialise(lambda: Autoencoder(shape), 77, range(replicates))
    return {replicate: model.state_dict() for replicate, model in enumerate(models)}


def weights_by_replicate(outcome):
    """The weights of a cell as those that build on it get them."""
    return {
        row["replicate"]: {name: value[i] for name, value in outcome.weights.items()}
        for i, row in enumerate(outcome.rows)
    }


def state(models):
    """Parameters and buffers of `Replicates`, (R, …) each."""
    return {name: value.detach() for name, value in (models.parameters | models.buffers).items()}
