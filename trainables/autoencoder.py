"""Convolutional autoencoders, R replicates of a cell trained as one."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from trainables.augment import views
from trainables.contract import (
    Checkpoint,
    Outcome,
    Parent,
    Report,
    require_finite,
)
from trainables.data import Dataset, pixels
from trainables.metrics import lines, record
from trainables.networks import Autoencoder, count_parameters
from trainables.replicates import Replicates, Strategy, fastest_strategy, pick_device
from trainables.seeds import generators, initialise
from trainables.settings.autoencoder import VERSION as VERSION
from trainables.settings.autoencoder import Config
from trainables.training import MinibatchOrder, fit

# An encoder under Muon reconstructs as well, but makes codes from which few labels tell less:
# accuracy of logistic regression on 160 labels at d = 14 and 30 (mnist-5k, 4 encoders, 12 subsets
# each) 0.807 and 0.785 after 3 epochs, 0.829 and 0.812 after 4 of this, 0.828 and 0.812 after 5
# epochs of AdamW alone.
MUON = {"adamw": None, "muon": "decoder."}
"""By the setting `optimiser`: whose matrices Muon moves."""


def restoration_error(model: Any, seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error per pixel of what is made of `seen` (B, 1, 28, 28) against `wanted`."""
    return (model(seen) - wanted).square().mean()


def squared_errors(model: Any, images: Tensor) -> Tensor:
    """Mean squared error per pixel of each of uint8 `images` (B, 1, 28, 28): (B,)."""
    wanted = pixels(images)
    return (model(wanted) - wanted).square().mean(dim=(1, 2, 3))


def train(
    config: Config,
    replicates: range,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    strategy: Strategy | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train these `replicates` of a cell on `data`; mean squared errors are per pixel in [0, 1]."""
    started = time.perf_counter()
    device = pick_device()
    members = initialise(lambda: Autoencoder(config.shape), config.seed, replicates)
    strategy = strategy or fastest_strategy(members[0], device)
    models = Replicates(members, device, strategy, replicates)
    images, _ = data.train.on(device)
    validation, _ = data.validation.on(device)
    test, _ = data.test.on(device)
    parameters = count_parameters(members[0])
    history: list[dict[str, Any]] = []

    def after_epoch(epoch: int, losses: Tensor) -> None:
        errors = models.evaluate(squared_errors, validation).mean(dim=1)
        require_finite(errors, replicates, f"the validation error after epoch {epoch}")
        metrics = {"train_mse": losses, "val_mse": errors}
        record(history, report, replicates, epoch, metrics, parameters=parameters)

    order = MinibatchOrder(
        len(images), config.batch_size, generators(config.seed, replicates, "order")
    )
    draws = generators(config.seed, replicates, "views")

    def gather(indices: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks see, and what they are to make of it."""
        clean = pixels(images[indices])
        moved = views(clean, config.augment, 0.0, draws)
        return views(moved, 0.0, config.noise, draws), clean if config.target == "clean" else moved

    earlier = fit(
        models,
        restoration_error,
        gather,
        order,
        config.epochs,
        {"": config.learning_rate},
        config.weight_decay,
        after_epoch,
        history,
        checkpoint,
        draws,
        warm_up=config.warm_up,
        muon=MUON[config.optimiser],
    )
    test_errors = models.evaluate(squared_errors, test).mean(dim=1)
    require_finite(test_errors, replicates, "the test error")
    seconds = earlier + time.perf_counter() - started
    last_epoch = history[-len(replicates) :]
    rows = lines(
        replicates,
        {"parameters": parameters, "train_seconds": seconds / len(replicates)},
        {
            "train_mse": [line["train_mse"] for line in last_epoch],
            "val_mse": [line["val_mse"] for line in last_epoch],
            "test_mse": test_errors.tolist(),
        },
    )
    return Outcome(rows, history, models.state())
