"""Objectives of autoencoders: their losses, and the losses' inputs from a minibatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainables.augment import draw, restroked, views
from trainables.autoencoder.settings import Config
from trainables.networks import Autoencoder, Contrastive, Variational
from trainables.replicates import LossFunction

Batch = tuple[Tensor, ...]
Draws = Sequence[torch.Generator]


@dataclass(frozen=True)
class Objective:
    """A kind of autoencoder and how it learns."""

    network: type[Autoencoder]
    """Made from a `Shape`."""
    loss: Callable[[Config], LossFunction]
    """Makes the loss from the settings."""
    make_batch: Callable[[Config, Tensor, Draws], Batch]
    """Maps (settings, pixels (R, B, C, H, W), R generators) to the loss's arguments after the
    model, each (R, B, …)."""
    loss_name: str = "train_loss"
    """The loss's name in the history."""


def restoration_error(model: Any, seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error per pixel of the output for `seen` (B, C, H, W) against `wanted`."""
    return (model(seen) - wanted).square().mean()


def evidence_bound(
    model: Any, seen: Tensor, wanted: Tensor, noise: Tensor, *, beta: float
) -> Tensor:
    """`restoration_error` from noisy codes, plus beta times their divergence in nats per pixel."""
    restored, divergence = model(seen, noise)
    per_pixel = divergence.mean() / wanted[0].numel()
    return (restored - wanted).square().mean() + beta * per_pixel


def contrast(model: Any, first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Contrastive cross-entropy in nats, plus the decoder's squared error per pixel.

    The cross-entropy is the mean, over views, of finding the image's other view among all of the
    minibatch. The decoder's gradients don't reach the encoder.
    """
    directions, restored = model(first, second)
    count = len(first)
    similarities = directions @ directions.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=first.device)
    others = torch.arange(2 * count, device=first.device).roll(count)
    entropy = functional.cross_entropy(similarities.masked_fill(itself, -torch.inf), others)
    return entropy + (restored - first).square().mean()


def see_view(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """A noisy view of each image, and the target of its reconstruction."""
    moved = views(clean, config.augment, 0.0, draws)
    return views(moved, 0.0, config.noise, draws), clean if config.target == "clean" else moved


def see_view_and_noise(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """`see_view`, and the noise of the codes (R, B, d)."""
    seen, wanted = see_view(config, clean, draws)
    noise = draw(torch.randn, (clean.shape[1], config.latent_dim), draws, clean)
    return seen, wanted, noise.unflatten(0, clean.shape[:2])


def see_two_views(config: Config, clean: Tensor, draws: Draws) -> Batch:
    """Two views of each image, with different stroke widths."""
    first, second = (
        restroked(views(clean, config.augment, config.noise, draws), config.augment, draws)
        for _ in range(2)
    )
    return first, second


OBJECTIVES = {
    "reconstruction": Objective(Autoencoder, lambda _: restoration_error, see_view, "train_mse"),
    "variational": Objective(
        Variational, lambda config: partial(evidence_bound, beta=config.beta), see_view_and_noise
    ),
    "contrastive": Objective(
        Contrastive, lambda config: partial(contrast, temperature=config.temperature), see_two_views
    ),
}
"""Objectives by value of the setting `objective`."""
