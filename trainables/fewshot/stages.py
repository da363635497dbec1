"""The stages that a few-shot arm is made of: what trains, on what, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Generator, Tensor, arange, from_numpy, nn, no_grad, stack, uint8
from torch.nn import functional

from trainables.augment import views
from trainables.contract import Checkpoint, Outcome, Report, require_finite
from trainables.data import Dataset, label_subset, pixels
from trainables.metrics import lines, record
from trainables.networks import count_parameters
from trainables.replicates import Replicates, pick_device
from trainables.seeds import generators
from trainables.training import Minibatches, Recipe, Resumable, fit

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
    """Inputs and targets of the classifiers: M images or views of images each."""

    images: Tensor
    """(R, M, C, H, W): bytes, or pixels in [0, 1] where they are augmented views."""
    targets: Tensor
    """(R, M) int64, classes."""
    views: int = 1
    """How many of the M each labelled image makes: so many epochs of labels is one pass."""


class FewLabels(Protocol):
    """The settings that everything which learns from few labels has."""

    @property
    def labels(self) -> int:
        """Labelled training images, class-balanced."""

    @property
    def views(self) -> int:
        """Augmented views of every labelled image."""

    @property
    def view_strength(self) -> float:
        """How far the views are from the image."""

    @property
    def sees_views(self) -> bool:
        """Whether it learns from views instead of the images."""

    @property
    def weight_decay(self) -> float:
        """AdamW's decoupled weight decay."""

    @property
    def seed(self) -> int:
        """Of label subsets, views and data order."""


def label_subsets(data: Dataset, config: FewLabels, replicates: Sequence[int]) -> Tensor:
    """Indices (R, labels) of the training images whose labels each of `replicates` sees."""
    labels, classes = data.train.labels, len(data.classes)
    subsets = [label_subset(labels, config.labels, config.seed, r, classes) for r in replicates]
    return from_numpy(np.stack(subsets))


def labelled_examples(
    config: FewLabels, replicates: Sequence[int], images: Tensor, targets: Tensor
) -> Examples:
    """The labelled uint8 `images` (R, labels, C, H, W), or augmented views of them, drawn once:
    each replicate's from its own generator."""
    if not config.sees_views:
        return Examples(images, targets)
    draws = generators(config.seed, replicates, "views")
    repeated = pixels(images).repeat(1, config.views, 1, 1, 1)
    seen = views(repeated, config.view_strength, 0.0, draws)
    return Examples(seen, targets.repeat(1, config.views), config.views)


@dataclass(frozen=True)
class Training:
    """The trained part of the classifiers, and its inputs."""

    models: Replicates
    """The parts that train."""
    inputs: Tensor
    """Inputs, (R, M, …)."""
    targets: Tensor
    """Classes of the inputs: (R, M) int64."""
    learning_rates: dict[str, float]
    """Peak rates by the prefix of a parameter's name."""
    epochs: int
    """Passes over the labelled images (in `propagation`, over all of them)."""
    batch_size: int
    """Inputs a minibatch."""
    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, C, H, W) to predicted classes (R, N)."""
    views: int = 1
    """Inputs a labelled image: a pass over all inputs is so many epochs."""
    certainty: Tensor | None = None
    """How much each input counts, (R, M); None where all count the same."""
    see: Callable[[Tensor], Tensor] | None = None
    """From a minibatch of inputs (R, B, …) to what is learnt from; None: these themselves."""
    draws: Sequence[Generator] = ()
    """The generators that `see` draws from."""

    @property
    def passes(self) -> int:
        """Passes over all inputs: at least one, though it be more epochs than asked for."""
        return -(-self.epochs // self.views)

    @property
    def epochs_trained(self) -> int:
        """Passes over the labelled images that this makes."""
        return self.passes * self.views


@dataclass(frozen=True)
class Learnt:
    """The result of a training, and its cost."""

    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, C, H, W) to predicted classes (R, N)."""
    epochs: int
    """Passes over the labelled images (in `propagation`, over all training images)."""
    batch_size: int
    """Images a minibatch."""
    trained_parameters: int
    """Numbers of a replicate that gradients move."""
    earlier_seconds: float = 0.0
    """Seconds that interrupted tries took."""


class Scoring:
    """The history and the scores of a cell's replicates, along the way and in the end."""

    def __init__(
        self,
        replicates: Sequence[int],
        data: Dataset,
        report: Report,
        parameters: int,
        score_after: Collection[int] = (),
    ) -> None:
        device = pick_device()
        self.replicates = replicates
        self.validation = data.validation.on(device)
        self.test = data.test.on(device)
        self.report = report
        self.parameters = parameters
        self.score_after = score_after
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        """Seconds of the scores along the way: no part of training."""

    def after(self, epoch: int, training: Training) -> Mapping[str, float]:
        """The validation accuracy after this epoch, if a search asks for it."""
        if epoch not in self.score_after:
            return {}
        began = time.perf_counter()
        _, accuracy = judge(training.predict, *self.validation)
        self.seconds += time.perf_counter() - began
        return {"val_accuracy": accuracy.mean().item(), "parameters": self.parameters}

    def outcome(
        self,
        learnt: Learnt,
        started: float,
        columns: Mapping[str, list[Any]],
        networks: Sequence[nn.Module] = (),
    ) -> Outcome:
        """Rows and predictions of what has been learnt since `started` (`time.perf_counter`), with
        these further `columns` of R values, and the R classifiers where they are `networks`."""
        _, on_validation = judge(learnt.predict, *self.validation)
        predictions, on_test = judge(learnt.predict, *self.test)
        seconds = learnt.earlier_seconds + time.perf_counter() - started - self.seconds
        common = {
            "batch_size": learnt.batch_size,
            "epochs": learnt.epochs,
            "parameters": self.parameters,
            "trained_parameters": learnt.trained_parameters,
            "train_seconds": seconds / len(self.replicates),
        }
        accuracies = {"val_accuracy": on_validation.tolist(), "test_accuracy": on_test.tolist()}
        rows = lines(self.replicates, common, {**columns, **accuracies})
        predicted = predictions.to(uint8).cpu().numpy()
        return Outcome(rows, self.history, predictions=predicted, networks=networks)


@no_grad()
def judge(
    predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Predicted classes (R, N) of uint8 `images` (N, C, H, W), and the fractions (R,) of them
    that are `labels` (N,)."""
    predicted = predict(images)
    return predicted, (predicted == labels).double().mean(dim=1)


def predictor(models: Replicates) -> Callable[[Tensor], Tensor]:
    """From uint8 images (N, C, H, W) to the classes (R, N) that networks predict for them."""

    def predict(images: Tensor) -> Tensor:
        scores = models.evaluate(lambda model, part: model(pixels(part)), images)
        return scores.argmax(dim=2)

    return predict


def learn(
    config: FewLabels,
    training: Training,
    scoring: Scoring,
    earlier_epochs: int = 0,
    checkpoint: Checkpoint | None = None,
) -> Learnt:
    """Train the stage that makes the classifiers, which comes after `earlier_epochs` of others."""
    earlier_seconds = fit_stage(config, training, scoring, earlier_epochs, checkpoint)
    models = training.models
    sums = [value.detach().flatten(1).sum(dim=1) for value in models.parameters.values()]
    require_finite(stack(sums).sum(dim=0), models.numbers, "a weight")
    return Learnt(
        training.predict,
        earlier_epochs + training.epochs_trained,
        training.batch_size,
        count_parameters(models.members[0]),
        earlier_seconds,
    )


def fit_stage(
    config: FewLabels,
    training: Training,
    scoring: Scoring,
    earlier_epochs: int = 0,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Train one stage of an arm, which comes after `earlier_epochs` of others. Returns the
    seconds that earlier tries took; see `trainables.training.fit`.

    Scores along the way are reported; the history is the same with them and without."""

    def after_epoch(number: int, losses: Tensor) -> None:
        trained = number * training.views
        epoch = earlier_epochs + trained
        also = scoring.after(epoch, training)
        if trained % REPORT_EVERY == 0 or number == training.passes:
            numbers = training.models.numbers
            loss = {"train_loss": losses}
            record(scoring.history, scoring.report, numbers, epoch, loss, **also)
        elif also:
            scoring.report({"epoch": epoch, **also})

    device = training.models.device
    each = arange(len(training.models), device=device).unsqueeze(1)

    everything: tuple[Tensor, ...] = (training.inputs, training.targets)
    if training.certainty is not None:
        everything += (training.certainty,)

    def gather(indices: Tensor) -> tuple[Tensor, ...]:
        if indices.shape == training.targets.shape:
            inputs, *rest = everything  # in whatever order
        else:
            inputs, *rest = (part[each, indices] for part in everything)
        return training.see(inputs) if training.see else inputs, *rest

    return fit(
        training.models,
        cross_entropy if training.certainty is None else weighted_cross_entropy,
        Minibatches(
            training.targets.shape[1],
            training.batch_size,
            generators(config.seed, training.models.numbers, "order"),
            gather,
        ),
        Recipe(training.passes, training.learning_rates, config.weight_decay),
        after_epoch,
        Resumable(checkpoint, scoring.history, training.draws),
    )
