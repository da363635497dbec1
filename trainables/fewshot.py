"""Few-shot classifiers: a small MLP on an encoder's code, learnt from tens of labelled images."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.contract import Checkpoint, Outcome, Parent, Report, require_finite
from trainables.data import Dataset, label_subset, pixels
from trainables.networks import Classifier, Encoder, Head, count_parameters
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


KEPT_CODES = 48
"""Sets of codes that a process keeps: those of four encoders are 12, at most 1.2 MB each. A cell
of `fixed` for each number of labels needs the same ones."""

_kept_codes: OrderedDict[bytes, Tensor] = OrderedDict()


def encode(member: Classifier, images: Tensor) -> Tensor:
    """Codes (N, d) of uint8 `images` (N, 1, 28, 28), not standardised.

    On a CPU those of the latest encoders and images are kept, by the hash of every byte of both
    and by all else that the bits depend on. Hashing takes a hundredth of the time of encoding.
    """
    if images.device.type != "cpu" or len(images) < STATISTICS_IMAGES:
        return _encode(member.encoder, images)
    content = hashlib.sha256(f"{member.encoder} {torch.get_num_threads()}".encode())
    for value in (*member.encoder.state_dict().values(), images):
        content.update(f"{value.dtype} {list(value.shape)}".encode())
        content.update(value.contiguous().numpy())
    key = content.digest()
    if key not in _kept_codes:
        _kept_codes[key] = _encode(member.encoder, images)
    _kept_codes.move_to_end(key)
    while len(_kept_codes) > KEPT_CODES:
        _kept_codes.popitem(last=False)
    return _kept_codes[key]


@torch.no_grad()
def _encode(encoder: Encoder, images: Tensor, batch_size: int = 250) -> Tensor:
    return torch.cat([encoder(pixels(part)) for part in images.split(batch_size)])


def standardise(members: list[Classifier], sources: list[int], images: Tensor) -> None:
    """Fit every member's standardisation to its codes of uint8 `images` (N, 1, 28, 28), running
    each encoder once: members with the same source have the same."""
    fitted: dict[int, Classifier] = {}
    for member, source in zip(members, sources, strict=True):
        if source not in fitted:
            member.standardise.fit(encode(member, images))
            fitted[source] = member
        member.standardise.load_state_dict(fitted[source].standardise.state_dict())


@dataclass(frozen=True)
class Training:
    """What of the classifiers trains, and on what."""

    models: Replicates
    """The parts that train."""
    inputs: Tensor
    """What they see of the labelled images: (R, labels, …)."""
    learning_rates: dict[str, float]
    """Peak rates by the prefix of a parameter's name."""
    epochs: int
    """Passes over the labelled images."""
    predict: Callable[[Tensor], Tensor]
    """Uint8 images (N, 1, 28, 28) to predicted classes (R, N)."""


def heads_alone(
    config: Config, members: list[Classifier], sources: list[int], labelled: Tensor
) -> Training:
    """The heads train on codes of uint8 `labelled` (R, labels, 1, 28, 28). The encoders don't
    change, so these are computed once, and those of other images once an encoder."""
    codes = [
        member.standardise(encode(member, images))
        for member, images in zip(members, labelled, strict=True)
    ]
    models = Replicates([member.head for member in members], labelled.device)
    distinct = dict(zip(sources, members, strict=True))

    def predict(images: Tensor) -> Tensor:
        seen = {source: m.standardise(encode(m, images)) for source, m in distinct.items()}
        pairs = zip(models.members, sources, strict=True)
        return torch.stack([head(seen[source]).argmax(dim=1) for head, source in pairs])

    return Training(models, torch.stack(codes), {"": config.learning_rate}, config.epochs, predict)


def whole_networks(
    config: Config, members: list[Classifier], labelled: Tensor, strategy: Strategy | None
) -> Training:
    """Everything trains, on uint8 `labelled` images (R, labels, 1, 28, 28)."""
    device = labelled.device
    batch_size = config.batch_size or config.labels
    models = Replicates(
        members, device, strategy or fastest_strategy(members[0], device, batch_size)
    )
    rates = {"encoder.": config.encoder_learning_rate, "head.": config.learning_rate}

    def predict(images: Tensor) -> Tensor:
        return models.evaluate(scores_of_images, images).argmax(dim=2)

    return Training(models, pixels(labelled), rates, config.encoder_epochs, predict)


def train(
    config: Config,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    strategy: Strategy | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train a cell's classifiers on their label subsets of `data`; accuracies are fractions.

    `parent` holds the stacked weights of the autoencoder cell whose encoders these start from.
    """
    started = time.perf_counter()
    device = pick_device()
    members, sources = build_classifiers(config, parent)
    members = [member.to(device) for member in members]
    images, labels = data.train.on(device)
    standardise(members, sources, images[:STATISTICS_IMAGES])
    subsets = [
        label_subset(data.train.labels, config.labels, config.seed, replicate)
        for replicate in range(config.replicates)
    ]
    chosen = torch.from_numpy(np.stack(subsets)).to(device)
    if config.freeze == "fixed":
        training = heads_alone(config, members, sources, images[chosen])
    else:
        training = whole_networks(config, members, images[chosen], strategy)
    targets = labels[chosen]
    history: list[dict[str, Any]] = []

    def after_epoch(epoch: int, losses: Tensor) -> None:
        if epoch % REPORT_EVERY and epoch != training.epochs:
            return
        for replicate, loss in enumerate(losses.tolist()):
            history.append({"replicate": replicate, "epoch": epoch, "train_loss": loss})
        report({"epoch": epoch, "train_loss": losses.mean().item()})

    each = torch.arange(config.replicates, device=device).unsqueeze(1)
    batch_size = config.batch_size or config.labels
    earlier = fit(
        training.models,
        cross_entropy,
        lambda indices: (training.inputs[each, indices], targets[each, indices]),
        MinibatchOrder(
            config.labels, batch_size, generators(config.seed, config.replicates, "order")
        ),
        training.epochs,
        training.learning_rates,
        config.weight_decay,
        after_epoch,
        history,
        checkpoint,
    )
    sums = [value.detach().flatten(1).sum(dim=1) for value in training.models.parameters.values()]
    require_finite(torch.stack(sums).sum(dim=0), "a weight")
    columns: dict[str, list[float]] = {}
    with torch.no_grad():
        for name, split in (("val_accuracy", data.validation), ("test_accuracy", data.test)):
            split_images, split_labels = split.on(device)
            predicted = training.predict(split_images)
            columns[name] = (predicted == split_labels).double().mean(dim=1).tolist()
    seconds = earlier + time.perf_counter() - started
    rows = [
        {
            "replicate": replicate,
            "batch_size": batch_size,
            "epochs": training.epochs,
            "parameters": count_parameters(members[replicate]),
            "trained_parameters": count_parameters(training.models.members[replicate]),
            "train_seconds": seconds / config.replicates,
            "label_subset": replicate,
            "encoder_replicate": sources[replicate],
            **{name: values[replicate] for name, values in columns.items()},
        }
        for replicate in range(config.replicates)
    ]
    # The test split was the last: its predictions are kept.
    return Outcome(rows, history, predictions=predicted.to(torch.uint8).cpu().numpy())
