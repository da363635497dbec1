"""The stages of a few-shot arm: what trains, on what, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Generator, Tensor, arange, from_numpy, nn, no_grad, stack, uint8
from torch.nn import functional

from trainables.augment import views
from trainables.contract import Checkpoint, Outcome, Report, lines, record, require_finite
from trainables.data import Dataset, label_subset, pixels
from trainables.fewshot import settings as fewshot
from trainables.networks import count_parameters
from trainables.replicates import Replicates, pick_device
from trainables.seeds import generators
from trainables.supervised import settings as supervised
from trainables.training import Minibatches, Recipe, Resumable, fit

REPORT_EVERY = 20
"""Epochs between two points of the history: an epoch of 20 images is too little to plot."""


def cross_entropy(
    model: Any, inputs: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy, in nats, of the model's class scores for `inputs` against `labels`.

    `inputs` are (B, …), `labels` (B,), and the result is a scalar. `weights` (B,), if given,
    multiply each input's cross-entropy before the mean. With R replicates, inputs (R, B, …), labels
    and weights (R, B) give (R,).
    """
    scores = model(inputs)
    losses = functional.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="none")
    losses = losses.view(labels.shape)
    return (losses if weights is None else weights * losses).mean(dim=-1)


@dataclass(frozen=True)
class Examples:
    """Training data of the classifiers: M inputs for each, and their classes."""

    inputs: Tensor
    """Images (R, M, C, H, W), bytes or pixels in [0, 1]; or codes (R, M, d)."""
    targets: Tensor
    """(R, M) int64, classes."""
    views: int = 1
    """Inputs per labelled image: a pass over all M is this many epochs."""
    certainty: Tensor | None = None
    """Weight of each input, (R, M); None if all count the same."""


FewLabels = fewshot.Config | supervised.Config
"""Settings of models that learn from few labels."""


def label_subsets(data: Dataset, config: FewLabels, replicates: Sequence[int]) -> Tensor:
    """Indices (R, labels) of the training images whose labels each of `replicates` sees."""
    labels, classes = data.train.labels, len(data.classes)
    subsets = [label_subset(labels, config.labels, config.seed, r, classes) for r in replicates]
    return from_numpy(np.stack(subsets))


def labelled_examples(
    config: FewLabels, replicates: Sequence[int], images: Tensor, targets: Tensor
) -> Examples:
    """The labelled uint8 `images` (R, labels, C, H, W), or augmented views of them.

    Views are drawn once, each replicate's from its own generator.
    """
    if not config.sees_views:
        return Examples(images, targets)
    draws = generators(config.seed, replicates, "views")
    repeated = pixels(images).repeat(1, config.views, 1, 1, 1)
    augmented = views(repeated, config.view_strength, 0.0, draws)
    return Examples(augmented, targets.repeat(1, config.views), config.views)


@dataclass(frozen=True)
class Training:
    """The part of the classifiers that trains, and its inputs."""

    models: Replicates
    """The parts that train."""
    examples: Examples
    learning_rates: dict[str, float]
    """Peak rates by the prefix of a parameter's name."""
    epochs: int
    """Passes over the labelled images (in `propagation` and `consistency`, over all images)."""
    batch_size: int
    """Inputs per minibatch."""
    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, C, H, W) to predicted classes (R, N)."""
    transform: Callable[[Tensor], Tensor] | None = None
    """Maps a minibatch of inputs (R, B, …) to the model's inputs; None: no change."""
    draws: Sequence[Generator] = ()
    """The generators that `transform` draws from."""

    @property
    def passes(self) -> int:
        """Passes over all inputs: `epochs` divided by the views of an image, rounded up.

        A pass counts as that many epochs, so the last one may end after `epochs`.
        """
        return -(-self.epochs // self.examples.views)


@dataclass(frozen=True)
class TrainingResult:
    """The trained classifiers, and the cost of training them."""

    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, C, H, W) to predicted classes (R, N)."""
    epochs: int
    """Passes over the labelled images (in `propagation` and `consistency`, over all images)."""
    batch_size: int
    """Images per minibatch."""
    trained_parameters: int
    """Number of parameters per replicate that training changes."""
    earlier_seconds: float = 0.0
    """Seconds that interrupted attempts took."""


class Scoring:
    """The history and the scores of a cell's replicates, during training and at the end."""

    def __init__(
        self,
        replicates: Sequence[int],
        data: Dataset,
        report: Report,
        parameters: int,
    ) -> None:
        device = pick_device()
        self.replicates = replicates
        self.validation = data.validation.on(device)
        self.test = data.test.on(device)
        self.report = report
        self.parameters = parameters
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        """Seconds that scores during training took; not counted as training."""

    def validation_scores(self, epoch: int, training: Training) -> Mapping[str, float]:
        """Mean validation accuracy and number of parameters; empty unless a search compares
        trials after this epoch."""
        if epoch not in self.report.score_after:
            return {}
        started = time.perf_counter()
        _, accuracy = predict_and_score(training.predict, *self.validation)
        self.seconds += time.perf_counter() - started
        return {"val_accuracy": accuracy.mean().item(), "parameters": self.parameters}

    def outcome(
        self,
        result: TrainingResult,
        started: float,
        columns: Mapping[str, list[Any]],
        networks: Sequence[nn.Module] = (),
    ) -> Outcome:
        """Rows, history and predictions of a training.

        `started` is the `time.perf_counter` at its start. `columns` are further columns of R
        values. `networks` are the R classifiers, if they are networks.
        """
        _, val_accuracy = predict_and_score(result.predict, *self.validation)
        predictions, test_accuracy = predict_and_score(result.predict, *self.test)
        seconds = result.earlier_seconds + time.perf_counter() - started - self.seconds
        common = {
            "batch_size": result.batch_size,
            "epochs": result.epochs,
            "parameters": self.parameters,
            "trained_parameters": result.trained_parameters,
            "train_seconds": seconds / len(self.replicates),
        }
        accuracies = {
            "val_accuracy": val_accuracy.tolist(),
            "test_accuracy": test_accuracy.tolist(),
        }
        rows = lines(self.replicates, common, {**columns, **accuracies})
        predicted = predictions.to(uint8).cpu().numpy()
        return Outcome(rows, self.history, predictions=predicted, networks=networks)


@no_grad()
def predict_and_score(
    predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Predicted classes (R, N) and accuracies (R,) on uint8 `images` (N, C, H, W).

    The accuracy is the fraction of predictions that equal `labels` (N,).
    """
    predicted = predict(images)
    return predicted, (predicted == labels).double().mean(dim=1)


def predictor(models: Replicates) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 images (N, C, H, W) to their predicted classes (R, N)."""

    def predict(images: Tensor) -> Tensor:
        scores = models.evaluate(lambda model, part: model(pixels(part)), images)
        return scores.argmax(dim=2)

    return predict


def train_stage(
    config: FewLabels,
    training: Training,
    scoring: Scoring,
    earlier_epochs: int = 0,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train one stage of an arm, after `earlier_epochs` of other stages.

    Scores during training are reported, but not added to the history. Raises `Diverged` if a loss
    or a weight isn't finite.
    """
    models, examples = training.models, training.examples

    def after_epoch(number: int, losses: Tensor) -> None:
        trained = number * examples.views
        epoch = earlier_epochs + trained
        scores = scoring.validation_scores(epoch, training)
        if trained % REPORT_EVERY == 0 or number == training.passes:
            loss = {"train_loss": losses}
            record(scoring.history, scoring.report, models.numbers, epoch, loss, **scores)
        elif scores:
            scoring.report({"epoch": epoch, **scores})

    replicate = arange(len(models), device=models.device).unsqueeze(1)
    arrays: tuple[Tensor, ...] = (examples.inputs, examples.targets)
    if examples.certainty is not None:
        arrays += (examples.certainty,)

    def gather(indices: Tensor) -> tuple[Tensor, ...]:
        if indices.shape == examples.targets.shape:
            inputs, *rest = arrays  # all inputs: their order doesn't matter
        else:
            inputs, *rest = (array[replicate, indices] for array in arrays)
        return training.transform(inputs) if training.transform else inputs, *rest

    earlier_seconds = fit(
        models,
        cross_entropy,
        Minibatches(
            examples.targets.shape[1],
            training.batch_size,
            generators(config.seed, models.numbers, "order"),
            gather,
            training.draws,
        ),
        Recipe(training.passes, training.learning_rates, config.weight_decay),
        after_epoch,
        Resumable(checkpoint, scoring.history),
    )
    sums = [value.detach().flatten(1).sum(dim=1) for value in models.parameters.values()]
    require_finite(stack(sums).sum(dim=0), models.numbers, "a weight")
    return TrainingResult(
        training.predict,
        earlier_epochs + training.passes * examples.views,
        training.batch_size,
        count_parameters(models.members[0]),
        earlier_seconds,
    )
