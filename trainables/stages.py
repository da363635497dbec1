"""The stages that a few-shot arm is made of: what trains, on what, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, arange
from torch.nn import functional

from trainables.augment import views
from trainables.contract import Checkpoint, Report
from trainables.data import pixels
from trainables.metrics import record
from trainables.replicates import Replicates
from trainables.seeds import generators
from trainables.settings.fewshot import Config
from trainables.training import MinibatchOrder, fit

REPORT_EVERY = 20
"""Epochs between two points of the history: an epoch of 20 images is too little to plot."""


def cross_entropies(model: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of each of `inputs` (…, B, …) with its label (…, B): (…, B)."""
    scores = model(inputs)
    each = functional.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="none")
    return each.view(labels.shape)


def cross_entropy(model: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of `inputs` (B, …) with `labels` (B,): a scalar; of R replicates,
    (R, B, …) with (R, B): (R,)."""
    return cross_entropies(model, inputs, labels).mean(dim=-1)


def weighted_cross_entropy(model: Any, inputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """`cross_entropy`, each of the inputs counted by its weight: (B,), or (R, B)."""
    return (weights * cross_entropies(model, inputs, labels)).mean(dim=-1)


@dataclass(frozen=True)
class Examples:
    """What the classifiers learn from: M images or views of images each."""

    images: Tensor
    """(R, M, 1, 28, 28): bytes, or pixels in [0, 1] where they are augmented views."""
    targets: Tensor
    """(R, M) int64, classes."""
    views: int = 1
    """How many of the M each labelled image makes: so many epochs of labels is one pass."""


def no_scores(epoch: int) -> Mapping[str, float]:
    """What is to be reported after an epoch of what no search compares: nothing more."""
    return {}


def labelled_examples(
    config: Config, replicates: Sequence[int], images: Tensor, targets: Tensor
) -> Examples:
    """The labelled uint8 `images` (R, labels, 1, 28, 28), or augmented views of them, drawn once:
    each replicate's from its own generator."""
    if not config.sees_views:
        return Examples(images, targets)
    draws = generators(config.seed, replicates, "views")
    repeated = pixels(images).repeat(1, config.views, 1, 1, 1)
    seen = views(repeated, config.view_strength, 0.0, draws)
    return Examples(seen, targets.repeat(1, config.views), config.views)


@dataclass(frozen=True)
class Training:
    """What of the classifiers trains, and on what."""

    models: Replicates
    """The parts that train."""
    inputs: Tensor
    """What they see: (R, M, …)."""
    targets: Tensor
    """The classes of that: (R, M) int64."""
    learning_rates: dict[str, float]
    """Peak rates by the prefix of a parameter's name."""
    epochs: int
    """Passes over the labelled images (in `propagation`, over all of them)."""
    batch_size: int
    """Inputs a minibatch."""
    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, 1, 28, 28) to predicted classes (R, N)."""
    views: int = 1
    """Inputs a labelled image: a pass over all inputs is so many epochs."""
    certainty: Tensor | None = None
    """How much each input counts, (R, M); None where all count the same."""

    @property
    def passes(self) -> int:
        """Passes over all inputs: at least one, though it be more epochs than asked for."""
        return -(-self.epochs // self.views)

    @property
    def epochs_trained(self) -> int:
        """Passes over the labelled images that this makes."""
        return self.passes * self.views


def fit_stage(
    config: Config,
    training: Training,
    report: Report,
    history: list[dict[str, Any]],
    earlier_epochs: int = 0,
    checkpoint: Checkpoint | None = None,
    scores: Callable[[int], Mapping[str, float]] = no_scores,
) -> float:
    """Train one stage of an arm, which comes after `earlier_epochs` of others. Returns the
    seconds that earlier tries took; see `trainables.training.fit`.

    What `scores` returns after a pass that ends with an epoch is reported too; the history is
    the same with it and without."""

    def after_epoch(number: int, losses: Tensor) -> None:
        trained = number * training.views
        epoch = earlier_epochs + trained
        also = scores(epoch)
        if trained % REPORT_EVERY == 0 or number == training.passes:
            numbers = training.models.numbers
            record(history, report, numbers, epoch, {"train_loss": losses}, **also)
        elif also:
            report({"epoch": epoch, **also})

    device = training.models.device
    each = arange(len(training.models), device=device).unsqueeze(1)

    everything: tuple[Tensor, ...] = (training.inputs, training.targets)
    if training.certainty is not None:
        everything += (training.certainty,)

    def gather(indices: Tensor) -> tuple[Tensor, ...]:
        if indices.shape == training.targets.shape:
            return everything  # in whatever order
        return tuple(part[each, indices] for part in everything)

    return fit(
        training.models,
        cross_entropy if training.certainty is None else weighted_cross_entropy,
        gather,
        MinibatchOrder(
            training.targets.shape[1],
            training.batch_size,
            generators(config.seed, training.models.numbers, "order"),
        ),
        training.passes,
        training.learning_rates,
        config.weight_decay,
        after_epoch,
        history,
        checkpoint,
    )
