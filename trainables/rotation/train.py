"""Networks that predict the angle by which a digit was turned, and differ only in their loss.

Every network outputs a vector (sin, cos), decoded by atan2, so the prediction can pass from 360° to
0° as easily as between any other angles. If the naive loss does worse, the reason is how the loss
treats that step. The von Mises loss uses the vector's length as its concentration, sine-cosine
regression uses the vector itself, and the other losses use only the angle.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment import draw, rotate
from trainables.contract import Checkpoint, Outcome, Parent, Report, lines, record, require_finite
from trainables.data import Dataset, pixels
from trainables.networks import Encoder, count_parameters
from trainables.replicates import LossFunction, Replicates, fastest_strategy, pick_device
from trainables.rotation.losses import (
    LOSSES,
    decode_direction,
    signed_difference,
    sine_cosine_loss,
    von_mises_loss,
)
from trainables.rotation.settings import VERSION as VERSION
from trainables.rotation.settings import Config as Config
from trainables.seeds import generators, initialise
from trainables.training import Minibatches, Recipe, Resumable, fit

SPLITS = ("validation", "test")


def held_out_angles(seed: int, images: int, split: str) -> np.ndarray:
    """Degrees (N,) in [0, 360) by which the images of `validation` or `test` are turned.

    They are the same for every loss and replicate.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    return generator.uniform(0.0, 360.0, images)


def loss_function(name: str) -> LossFunction:
    """Return the loss with this name, averaged over a minibatch.

    Its arguments are a network, images (B, C, H, W) and the degrees (B,) by which they were turned.
    """

    def loss(model: Any, images: Tensor, degrees: Tensor) -> Tensor:
        vectors = model(images)
        if name == "sine_cosine":
            return sine_cosine_loss(vectors, degrees).mean()
        predicted = decode_direction(vectors)
        if name == "von_mises":
            concentration = vectors.square().sum(dim=-1).sqrt()
            return von_mises_loss(predicted, degrees, concentration).mean()
        return LOSSES[name](predicted, degrees).mean()

    return loss


def train(
    config: Config,
    replicates: range,
    data: Dataset,
    report: Report,
    parent: Parent | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Train these `replicates` of a cell on turned images of `data`.

    Rows have mean and median errors on both held-out splits: the length of the shortest turn from
    the predicted to the true angle, in degrees. Raises `Diverged`.
    """
    started = time.perf_counter()
    device = pick_device()
    shape = config.shape.of_images(data.image_shape)
    members = initialise(lambda: Encoder(shape), config.seed, replicates)
    strategy = fastest_strategy(members[0], device)
    models = Replicates(members, device, strategy, replicates, config.precision)
    images, _ = data.train.on(device)
    held_out = {}
    for name, split in (("validation", data.validation), ("test", data.test)):
        upright = pixels(split.on(device)[0])
        angles = torch.from_numpy(held_out_angles(config.seed, len(split), name)).to(upright)
        held_out[name] = (rotate(upright, angles), angles)
    history: list[dict[str, Any]] = []

    def predictions(name: str) -> tuple[Tensor, Tensor]:
        """Predicted angles and errors in degrees on a held-out split, (R, N) each."""
        rotated, angles = held_out[name]
        predicted = models.evaluate(lambda model, part: decode_direction(model(part)), rotated)
        return predicted, signed_difference(predicted, angles).abs()

    def after_epoch(epoch: int, losses: Tensor) -> None:
        errors = predictions("validation")[1].mean(dim=1)
        require_finite(errors, replicates, f"the validation error after epoch {epoch}")
        record(history, report, replicates, epoch, {"train_loss": losses, "val_error": errors})

    # These generators don't depend on the loss, so every loss sees the same turns.
    draws = generators(config.seed, replicates, "angles", device)

    def gather(indices: Tensor) -> tuple[Tensor, Tensor]:
        upright = pixels(images[indices])  # (R, B, C, H, W)
        degrees = 360 * draw(torch.rand, (indices.shape[1],), draws, upright)
        rotated = rotate(upright.flatten(0, 1), degrees).view_as(upright)
        return rotated, degrees.view(indices.shape)

    orders = generators(config.seed, replicates, "order")
    earlier = fit(
        models,
        loss_function(config.loss),
        Minibatches(len(images), config.batch_size, orders, gather, draws),
        Recipe(config.epochs, {"": config.learning_rate}, config.weight_decay),
        after_epoch,
        Resumable(checkpoint, history),
    )
    columns: dict[str, list[float]] = {}
    for prefix, name in (("val", "validation"), ("test", "test")):
        predicted, errors = predictions(name)
        require_finite(errors.mean(dim=1), replicates, f"the {name} error")
        columns[f"{prefix}_error"] = errors.mean(dim=1).tolist()
        columns[f"{prefix}_median_error"] = errors.median(dim=1).values.tolist()
    seconds = earlier + time.perf_counter() - started
    common = {
        "parameters": count_parameters(members[0]),
        "train_seconds": seconds / len(replicates),
    }
    rows = lines(replicates, common, columns)
    # The test split came last, so `predicted` holds its angles.
    return Outcome(rows, history, predictions=predicted.float().cpu().numpy())
