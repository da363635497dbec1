"""Few-shot classifiers: a small MLP on an encoder's code, learnt from tens of labelled images."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.contract import Outcome, Parent, Report, require_finite
from trainables.data import Dataset, label_subset, pixels
from trainables.networks import Classifier, Head, count_parameters
from trainables.replicates import (
    MinibatchOrder,
    Replicates,
    Strategy,
    fastest_strategy,
    fit,
    generators,
    initialise,
    pick_device,
)
from trainables.settings.fewshot import FREEZE as FREEZE
from trainables.settings.fewshot import VERSION as VERSION
from trainables.settings.fewshot import Config

STATISTICS_IMAGES = 1000
"""Unlabelled training images that codes are standardised by: they fix a standard deviation to
2 %, and all of them would take as long as training a fixed encoder's head does."""

REPORT_EVERY = 20
"""Epochs between two points of the history: an epoch of 20 images is too little to plot."""


def cross_entropy(model: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of `inputs` (B, …) with `labels` (B,): a scalar."""
    return functional.cross_entropy(model(inputs), labels)


def scores_of_images(model: Any, images: Tensor) -> Tensor:
    """Class scores (B, 10) of uint8 `images` (B, 1, 28, 28)."""
    return model(pixels(images))


def scores_of_codes(model: Any, codes: Tensor) -> Tensor:
    """Class scores (B, 10) of standardised `codes` (B, d)."""
    return model(codes)


def build_classifiers(config: Config, parent: Parent | None) -> tuple[list[Classifier], list[int]]:
    """R classifiers, and the pretrained encoder that each starts from (its own for `scratch`).

    Heads come from seeds of their own, so that `fixed`, `full` and `scratch` start from the same.
    """
    members = initialise(
        lambda: Classifier(config.shape, config.hidden), config.seed, config.replicates
    )
    heads = initialise(
        lambda: Head(config.latent_dim, config.hidden), config.seed, config.replicates, "head"
    )
    for member, head in zip(members, heads, strict=True):
        member.head = head
    if config.freeze == "scratch":
        return members, list(range(config.replicates))
    if parent is None:
        raise ValueError(f"freeze = {config.freeze!r} needs a pretrained encoder")
    pretrained = {
        name.removeprefix("encoder."): value
        for name, value in parent.items()
        if name.startswith("encoder.")
    }
    available = len(next(iter(pretrained.values())))
    sources = [replicate % available for replicate in range(config.replicates)]
    for member, source in zip(members, sources, strict=True):
        member.encoder.load_state_dict({name: v[source] for name, v in pretrained.items()})
    return members, sources


@torch.no_grad()
def encode(member: Classifier, images: Tensor, batch_size: int = 250) -> Tensor:
    """Codes (N, d) of uint8 `images` (N, 1, 28, 28), not standardised."""
    return torch.cat([member.encoder(pixels(part)) for part in images.split(batch_size)])


def train(
    config: Config,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    strategy: Strategy | None = None,
) -> Outcome:
    """Train a cell's classifiers on their label subsets of `data`; accuracies are fractions.

    `parent` holds the stacked weights of the autoencoder cell whose encoders these start from.
    """
    started = time.perf_counter()
    device = pick_device()
    members, sources = build_classifiers(config, parent)
    members = [member.to(device) for member in members]
    images, labels = data.train.on(device)
    splits = {"val": data.validation.on(device), "test": data.test.on(device)}
    # Encoders are shared by replicates, so each is run over the unlabelled images once.
    statistics: dict[int, Classifier] = {}
    for member, source in zip(members, sources, strict=True):
        if source not in statistics:
            member.standardise.fit(encode(member, images[:STATISTICS_IMAGES]))
            statistics[source] = member
        member.standardise.load_state_dict(statistics[source].standardise.state_dict())
    chosen = torch.stack(
        [
            torch.from_numpy(label_subset(data.train.labels, config.labels, config.seed, subset))
            for subset in range(config.replicates)
        ]
    ).to(device)

    if config.freeze == "fixed":
        models = Replicates([member.head for member in members], device)
        # The encoder does not change, so its codes are computed once.
        seen = {
            source: {
                split: member.standardise(encode(member, part[0])) for split, part in splits.items()
            }
            for source, member in statistics.items()
        }
        inputs = torch.stack(
            [
                member.standardise(encode(member, images[indices]))
                for member, indices in zip(members, chosen, strict=True)
            ]
        )
        learning_rates = {"": config.learning_rate}
        epochs = config.epochs
    else:
        batch_size = config.batch_size or config.labels
        chosen_strategy = strategy or fastest_strategy(members[0], device, batch_size)
        models = Replicates(members, device, chosen_strategy)
        inputs = pixels(images[chosen])
        learning_rates = {
            "encoder.": config.encoder_learning_rate,
            "head.": config.learning_rate,
        }
        epochs = config.encoder_epochs
    targets = labels[chosen]

    def predict(split: str) -> Tensor:
        """Predicted classes (R, N) of a split."""
        if config.freeze != "fixed":
            return models.evaluate(scores_of_images, splits[split][0]).argmax(dim=2)
        return torch.stack(
            [
                head(seen[source][split]).argmax(dim=1)
                for head, source in zip(models.members, sources, strict=True)
            ]
        )

    def accuracy(predicted: Tensor, split: str) -> list[float]:
        return (predicted == splits[split][1]).double().mean(dim=1).tolist()

    history: list[dict[str, Any]] = []

    def after_epoch(epoch: int, losses: Tensor) -> None:
        if epoch % REPORT_EVERY and epoch != epochs:
            return
        for replicate, loss in enumerate(losses.tolist()):
            history.append({"replicate": replicate, "epoch": epoch, "train_loss": loss})
        report({"epoch": epoch, "train_loss": losses.mean().item()})

    replicate_index = torch.arange(config.replicates, device=device).unsqueeze(1)
    fit(
        models,
        cross_entropy,
        lambda indices: (inputs[replicate_index, indices], targets[replicate_index, indices]),
        MinibatchOrder(
            config.labels,
            config.batch_size or config.labels,
            generators(config.seed, config.replicates, "order"),
        ),
        epochs,
        learning_rates,
        config.weight_decay,
        after_epoch,
    )
    with torch.no_grad():
        predictions = {split: predict(split) for split in splits}
    accuracies = {split: accuracy(predicted, split) for split, predicted in predictions.items()}
    sums = [value.detach().flatten(1).sum(dim=1) for value in models.parameters.values()]
    require_finite(torch.stack(sums).sum(dim=0), "a weight")
    seconds = time.perf_counter() - started
    rows = [
        {
            "replicate": replicate,
            "batch_size": config.batch_size or config.labels,
            "epochs": epochs,
            "parameters": count_parameters(members[replicate]),
            "trained_parameters": count_parameters(models.members[replicate]),
            "train_seconds": seconds / config.replicates,
            "label_subset": replicate,
            "encoder_replicate": sources[replicate],
            "val_accuracy": accuracies["val"][replicate],
            "test_accuracy": accuracies["test"][replicate],
        }
        for replicate in range(config.replicates)
    ]
    return Outcome(rows, history, predictions=predictions["test"].to(torch.uint8).cpu().numpy())
