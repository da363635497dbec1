"""What is interpolated: pairs of test images, the models, and the lines between their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.correlation import deepest
from analysis.results import Results
from trainables.data import pixels
from trainables.networks import Autoencoder

PAIRS = ((4, 7), (8, 9), (3, 4), (5, 1))
"""The assignment's pairs of digits (of I₁ and of I₂)."""
IMAGES_PER_PAIR = 40
"""Pairs of test images that a scorecard takes of each pair of digits."""
ALPHAS = tuple(step / 10 for step in range(11))
"""Weights of I₁'s code: 0, 0.1 … 1."""


@dataclass(frozen=True)
class ImagePairs:
    """Test images of two digits, the same ones for every model."""

    pair: tuple[int, int]
    """The digits of `first` and `second`."""
    first: Tensor
    """I₁, (P, 1, 28, 28) in [0, 1]."""
    second: Tensor
    """I₂, the same."""

    @property
    def name(self) -> str:
        """As the column `pair` has it: "4-7"."""
        return "-".join(map(str, self.pair))


def image_pairs(
    results: Results, pair: tuple[int, int], count: int = IMAGES_PER_PAIR, seed: int = 0
) -> ImagePairs:
    """`count` random pairs of test images of two digits, or as many as the rarer digit allows.

    No image occurs twice. Raises ValueError where the test split has none of a digit.
    """
    labels = results.test_labels.numpy()
    draw = np.random.default_rng([seed, *pair])
    chosen = []
    for digit in pair:
        images = np.flatnonzero(labels == digit)
        if not len(images):
            raise ValueError(f"the test split of {results.dataset.name} has no {digit}")
        chosen.append(draw.permutation(images))
    count = min(count, *map(len, chosen))
    first, second = (pixels(results.test_images[indices[:count]]) for indices in chosen)
    return ImagePairs(pair, first, second)


def cells_by_dimension(results: Results) -> dict[int, str]:
    """The cell that stands for each latent dimension, in the order of these: the one with the
    most layers at the first batch size."""
    rows = results.of("autoencoder")
    if rows.empty:
        return {}
    cells = deepest(rows).drop_duplicates("latent_dim").sort_values("latent_dim")
    return {int(d): str(cell) for d, cell in zip(cells["latent_dim"], cells["cell"], strict=True)}


@torch.no_grad()
def interpolate(
    model: Autoencoder, first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS
) -> tuple[Tensor, Tensor]:
    """Codes (P, A, d) on the lines from E(second), α = 0, to E(first), α = 1, and what they
    decode to, (P, A, 1, 28, 28)."""
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1)
    ends = [model.encoder(images).unsqueeze(1) for images in (first, second)]
    codes = weights * ends[0] + (1 - weights) * ends[1]
    decoded = torch.cat([model.decoder(part) for part in codes.flatten(0, 1).split(250)])
    return codes, decoded.unflatten(0, codes.shape[:2])


def pixel_blend(first: Tensor, second: Tensor, alphas: Sequence[float] = ALPHAS) -> Tensor:
    """α·first + (1 − α)·second, pixel by pixel: (P, A, 1, 28, 28)."""
    weights = torch.tensor(alphas, dtype=first.dtype).view(1, -1, 1, 1, 1)
    return weights * first.unsqueeze(1) + (1 - weights) * second.unsqueeze(1)
