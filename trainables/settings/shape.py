"""What an encoder and its mirrored decoder look like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trainables.contract import require

SIDES = (28, 14, 7, 4, 2)
"""Side of the feature maps before the first and after each stride-2 convolution, in pixels."""

NETWORKS = ("convolutional", "mlp")
"""Kinds of networks, which `trainables.networks` has."""

ACTIVATIONS = ("gelu", "relu", "silu", "none")
"""Names of nonlinearities, which `trainables.networks` has."""


@dataclass(frozen=True)
class Shape:
    """What an encoder and its mirrored decoder look like."""

    latent_dim: int
    """d, the length of the code."""
    depth: int
    """Convolutional layers in the encoder, each halving the side of the image; of an MLP, hidden
    layers, each with half as many units as the one before."""
    width: int
    """Channels after the first convolution; each further one doubles them. An MLP has 32 times as
    many units in its first hidden layer: 512, 256 and 128 for 16."""
    kernel: int = 3
    """Side of the convolution kernels, in pixels; odd."""
    activation: str = "gelu"
    """Nonlinearity after every layer but the last; `none` makes the network affine."""
    network: str = "convolutional"
    """`convolutional` or `mlp`, which reconstructs better at d = 2."""

    def __post_init__(self) -> None:
        require(self.latent_dim >= 1, "latent_dim", self.latent_dim, "an integer of at least 1")
        require(
            1 <= self.depth < len(SIDES), "depth", self.depth, f"an integer 1 … {len(SIDES) - 1}"
        )
        require(self.width >= 1, "width", self.width, "an integer of at least 1")
        require(self.kernel in (3, 5, 7), "kernel", self.kernel, "3, 5 or 7")
        require(self.network in NETWORKS, "network", self.network, " or ".join(NETWORKS))
        require(
            self.activation in ACTIVATIONS, "activation", self.activation, " or ".join(ACTIVATIONS)
        )

    @property
    def channels(self) -> list[int]:
        """Channels of the image and after each convolution."""
        return [1] + [self.width * 2**layer for layer in range(self.depth)]

    @property
    def units(self) -> list[int]:
        """Pixels of the image, then units of each hidden layer of an MLP."""
        return [SIDES[0] ** 2] + [max(1, 32 * self.width >> layer) for layer in range(self.depth)]

    @property
    def features(self) -> int:
        """Numbers in the last feature map."""
        return self.channels[-1] * SIDES[self.depth] ** 2


@lru_cache
def shape_of(
    latent_dim: int,
    depth: int,
    width: int,
    kernel: int,
    activation: str,
    network: str = "convolutional",
) -> Shape:
    """`Shape` of the same arguments, made once for the many cells that share it."""
    return Shape(latent_dim, depth, width, kernel, activation, network)
