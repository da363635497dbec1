"""Convolutional autoencoders, the R replicates of a cell trained as one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainables.contract import (
    Checkpoint,
    Outcome,
    Parent,
    Report,
    Settings,
    require,
    require_finite,
)
from trainables.data import Dataset, pixels
from trainables.networks import Autoencoder, Shape, count_parameters
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

VERSION = 1


@dataclass(frozen=True)
class Config(Settings):
    """The complete configuration of an autoencoder cell."""

    latent_dim: int
    """d, the length of the code."""
    depth: int = 3
    """Convolutional layers in the encoder; the decoder mirrors them."""
    batch_size: int = 32
    """Images a minibatch."""
    epochs: int = 8
    """Passes over the training split."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-2
    """AdamW's decoupled weight decay."""
    width: int = 16
    """Channels after the first convolution; each further one doubles them."""
    kernel: int = 3
    """Side of the convolution kernels, in pixels."""
    activation: str = "gelu"
    """`gelu`, `relu`, `silu`, or `none` for an affine autoencoder, which can at best equal PCA."""
    replicates: int = 3
    """R, the models trained as one."""
    seed: int = 0
    """Replicate r's generators are seeded from this and r."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "replicates"):
            value = getattr(self, name)
            require(value >= 1, name, value, "an integer of at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or a number above")
        require(self.seed >= 0, "seed", self.seed, "an integer of at least 0")
        _ = self.shape  # which checks what is its own

    @property
    def shape(self) -> Shape:
        """The part of the configuration that makes the network."""
        return Shape(self.latent_dim, self.depth, self.width, self.kernel, self.activation)

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` where `data` is too small for this configuration."""
        most = len(data.train)
        require(self.batch_size <= most, "batch_size", self.batch_size, f"at most {most} images")


def squared_error(model: Any, images: Tensor) -> Tensor:
    """Mean squared error per pixel of reconstructed `images` (B, 1, 28, 28): a scalar."""
    return (model(images) - images).square().mean()


def squared_errors(model: Any, images: Tensor) -> Tensor:
    """Mean squared error per pixel of each of uint8 `images` (B, 1, 28, 28): (B,)."""
    wanted = pixels(images)
    return (model(wanted) - wanted).square().mean(dim=(1, 2, 3))


def train(
    config: Config,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    strategy: Strategy | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train a cell's autoencoders on `data`; mean squared errors are per pixel in [0, 1]."""
    started = time.perf_counter()
    device = pick_device()
    members = initialise(lambda: Autoencoder(config.shape), config.seed, config.replicates)
    models = Replicates(
        members, device, strategy or fastest_strategy(members[0], device, config.batch_size)
    )
    images, _ = data.train.on(device)
    validation, _ = data.validation.on(device)
    test, _ = data.test.on(device)
    history: list[dict[str, Any]] = []

    def after_epoch(epoch: int, losses: Tensor) -> None:
        errors = models.evaluate(squared_errors, validation).mean(dim=1)
        require_finite(errors, f"the validation error after epoch {epoch}")
        for replicate, (loss, error) in enumerate(
            zip(losses.tolist(), errors.tolist(), strict=True)
        ):
            history.append(
                {"replicate": replicate, "epoch": epoch, "train_mse": loss, "val_mse": error}
            )
        report({"epoch": epoch, "train_mse": losses.mean().item(), "val_mse": errors.mean().item()})

    order = MinibatchOrder(
        len(images), config.batch_size, generators(config.seed, config.replicates, "order")
    )
    earlier = fit(
        models,
        squared_error,
        lambda indices: (pixels(images[indices]),),
        order,
        config.epochs,
        {"": config.learning_rate},
        config.weight_decay,
        after_epoch,
        history,
        checkpoint,
    )
    test_errors = models.evaluate(squared_errors, test).mean(dim=1)
    require_finite(test_errors, "the test error")
    seconds = earlier + time.perf_counter() - started
    parameters = count_parameters(members[0])
    last_epoch = history[-config.replicates :]
    rows = [
        {
            "replicate": replicate,
            "parameters": parameters,
            "train_seconds": seconds / config.replicates,
            "train_mse": last_epoch[replicate]["train_mse"],
            "val_mse": last_epoch[replicate]["val_mse"],
            "test_mse": error,
        }
        for replicate, error in enumerate(test_errors.tolist())
    ]
    return Outcome(rows, history, models.state())
