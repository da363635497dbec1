"""Objectives of autoencoders: their losses, and the losses' inputs from a minibatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augment import draw, vary_strokes, views
from trainables.autoencoder.settings import Config
from trainables.networks import Autoencoder, Contrastive, Variational
from trainables.replicates import LossFunction

Batch = tuple[Tensor, ...]
Draws = Sequence[torch.Generator]


@dataclass(frozen=True)
class Objective:
    """A kind of autoencoder, its loss and the loss's inputs."""

    network: type[Autoencoder]
    """Class of the network, called with a `Shape`."""
    loss: Callable[[Config], LossFunction]
    """Maps settings to the loss."""
    make_batch: Callable[[Config, Tensor, Draws], Batch]
    """Maps (settings, pixels (R, B, C, H, W), R generators) to the loss's arguments after the
    model, each (R, B, …)."""
    loss_name: str = "train_loss"
    """The loss's name in the history."""


def reconstruction_loss(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error per pixel of the outputs for `inputs` (B, C, H, W), a scalar."""
    return (model(inputs) - targets).square().mean()


def variational_loss(
    model: Any, inputs: Tensor, targets: Tensor, noise: Tensor, *, beta: float
) -> Tensor:
    """`reconstruction_loss` of noisy codes, plus beta times their divergence in nats per pixel."""
    outputs, divergence = model(inputs, noise)
    per_pixel = divergence.mean() / targets[0].numel()
    return (outputs - targets).square().mean() + beta * per_pixel


def contrastive_loss(model: Any, first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Contrastive cross-entropy in nats, plus the decoder's squared error per pixel; a scalar.

    `first` and `second` (B, C, H, W) are two views of the same images. The cross-entropy is that of
    finding a view's partner among the minibatch's other views, averaged over the 2 B views. The
    decoder's gradients don't reach the encoder.
    """
    directions, outputs = model(first, second)
    count = len(first)
    similarities = directions @ directions.T / temperature
    diagonal = torch.eye(2 * count, dtype=torch.bool, device=first.device)
    partners = torch.arange(2 * count, device=first.device).roll(count)
    entropy = functional.cross_entropy(similarities.masked_fill(diagonal, -torch.inf), partners)
    return entropy + (outputs - first).square().mean()


def reconstruction_batch(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """A noisy view of each image, and the target of its reconstruction."""
    view = views(clean, config.augment, 0.0, draws)
    return views(view, 0.0, config.noise, draws), clean if config.target == "clean" else view


def variational_batch(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """The `reconstruction_batch`, and the noise of the codes (R, B, d)."""
    inputs, targets = reconstruction_batch(config, clean, draws)
    noise = draw(torch.randn, (clean.shape[1], config.latent_dim), draws, clean)
    return inputs, targets, noise.unflatten(0, clean.shape[:2])


def contrastive_batch(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """Two views of each image, with different stroke widths."""
    first, second = (
        vary_strokes(views(clean, config.augment, config.noise, draws), config.augment, draws)
        for _ in range(2)
    )
    return first, second


OBJECTIVES = {
    "reconstruction": Objective(
        Autoencoder, lambda _: reconstruction_loss, reconstruction_batch, "train_mse"
    ),
    "variational": Objective(
        Variational, lambda config: partial(variational_loss, beta=config.beta), variational_batch
    ),
    "contrastive": Objective(
        Contrastive,
        lambda config: partial(contrastive_loss, temperature=config.temperature),
        contrastive_batch,
    ),
}
"""Objectives by value of the setting `objective`."""
