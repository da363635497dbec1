"""Functions that several tests of trainables share."""

from trainables.contract import Report
from trainables.networks import Autoencoder
from trainables.seeds import initialise

nothing = Report()


def without_time(rows):
    """The rows of an outcome without the only number that differs from run to run."""
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in rows]


def untrained_parent(shape, replicates):
    """Weights of so many autoencoders by replicate, as a finished cell has them."""
    models = initialise(lambda: Autoencoder(shape), 77, range(replicates))
    return {replicate: model.state_dict() for replicate, model in enumerate(models)}


def state(models):
    """Parameters and buffers of `Replicates`, (R, …) each."""
    return {name: value.detach() for name, value in (models.parameters | models.buffers).items()}
