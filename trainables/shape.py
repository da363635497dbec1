"""The shape of an encoder and its mirrored decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from trainables.contract import ConfigError, require
from trainables.data import Dataset
from trainables.own import OwnCodeError, is_own, require_fitting

MAX_DEPTH = 8
"""Largest number of layers; images of at most 2^7 pixels a side allow fewer."""

NETWORKS = ("convolutional", "resnet", "mlp")
"""Kinds of networks in `trainables.networks`."""

ACTIVATIONS = ("gelu", "relu", "silu", "none")
"""Names of nonlinearities in `trainables.networks`."""


@dataclass(frozen=True)
class Shape:
    """The shape of an encoder and its mirrored decoder."""

    latent_dim: int
    """d, the length of the code."""
    depth: int
    """Convolutional layers in the encoder; each halves the side of the image. In an MLP: hidden
    layers; each has half as many units as the one before."""
    width: int
    """Channels after the first convolution; each further one doubles them. An MLP has 32 times as
    many units in its first hidden layer: a width of 16 gives 512, 256 and 128."""
    kernel: int = 3
    """Side of the convolution kernels, in pixels; odd."""
    activation: str = "gelu"
    """Nonlinearity after every layer but the last; `none` makes the network affine."""
    network: str = "convolutional"
    """`convolutional`; `resnet`, with a residual block at every size; `mlp`, which reconstructs
    better at d = 2; or a user's own, see `trainables.own`."""
    image: tuple[int, int, int] = (1, 28, 28)
    """Channels, height and width of the images."""

    def __post_init__(self) -> None:
        require(self.latent_dim >= 1, "latent_dim", self.latent_dim, "an integer of at least 1")
        require(1 <= self.depth <= MAX_DEPTH, "depth", self.depth, f"an integer 1 … {MAX_DEPTH}")
        require(self.width >= 1, "width", self.width, "an integer of at least 1")
        require(self.kernel in (3, 5, 7), "kernel", self.kernel, "3, 5 or 7")
        known = self.network in NETWORKS or is_own(self.network)
        allowed = f"{', '.join(NETWORKS)} or FILE.py:FUNCTION"
        require(known, "network", self.network, allowed)
        require(
            self.activation in ACTIVATIONS, "activation", self.activation, " or ".join(ACTIVATIONS)
        )

    def of_images(self, image: tuple[int, int, int]) -> Shape:
        """Return this shape for images with these channels, height and width."""
        return replace(self, image=image)

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` if the network doesn't fit the images of `data`.

        Each convolution halves the images, so small images allow fewer layers.
        """
        side = min(data.image_shape[1:])
        most = max(1, math.ceil(math.log2(side)))
        allowed = f"at most {most}: each layer halves the images, of {side} pixels a side"
        if is_own(self.network):
            try:
                require_fitting(self.network, data.image_shape, self.latent_dim)
            except OwnCodeError as error:
                raise ConfigError(
                    "network", self.network, f"a network that fits the images: {error}"
                ) from error
        elif self.network != "mlp":
            require(self.depth <= most, "depth", self.depth, allowed)

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Height and width of the image and of the feature map after each convolution."""
        sides = [self.image[1:]]
        for _ in range(self.depth):
            height, width = sides[-1]
            sides.append((-(-height // 2), -(-width // 2)))
        return sides

    @property
    def channels(self) -> list[int]:
        """Channels of the image, then after each convolution."""
        return [self.image[0]] + [self.width * 2**layer for layer in range(self.depth)]

    @property
    def units(self) -> list[int]:
        """Pixels of the image, then units of each hidden layer of an MLP."""
        return [math.prod(self.image)] + [
            max(1, 32 * self.width >> layer) for layer in range(self.depth)
        ]

    @property
    def features(self) -> int:
        """Number of elements in the last feature map."""
        return self.channels[-1] * math.prod(self.sides[-1])


shape_of = lru_cache(Shape)
"""`Shape(…)`, made once for the many cells that share it."""
