"""The complete configuration of a rotation cell."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.contract import NetworkSettings, require
from trainables.data import Dataset
from trainables.shape import Shape, shape_of

VERSION = 2

LOSSES = ("absolute", "wrapped", "cosine", "von_mises", "sine_cosine")
"""Names of the losses in `trainables.rotation.losses`; all but the first treat 0° and 360° as
equal."""

OUTPUTS = 2
"""Outputs of the network: a vector, whose direction is the angle."""


@dataclass(frozen=True)
class Config(NetworkSettings):
    """The complete configuration of a rotation cell.

    The angles of the validation and test images come from `seed` alone, whatever the replicate.
    """

    loss: str
    """Training loss: `absolute` (naive: 2° against 360° costs 358), `wrapped`, `cosine`,
    `von_mises` or `sine_cosine`."""
    depth: int = 3
    """Convolutional layers."""
    batch_size: int = 32
    """Images per minibatch."""
    epochs: int = 12
    """Passes over the training split; in each, every image is turned by a new angle."""
    learning_rate: float = 5e-3
    """Peak of the one-cycle schedule."""
    width: int = 16
    """Channels after the first convolution; each further one doubles them."""
    kernel: int = 3
    """Side of the convolution kernels, in pixels."""
    activation: str = "gelu"
    """`gelu`, `relu` or `silu`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_of(LOSSES, "loss")
        self.require_at_least(1, "batch_size")
        _ = self.shape  # checks the fields of `Shape`

    @property
    def shape(self) -> Shape:
        """The part of the configuration that makes the network."""
        return shape_of(OUTPUTS, self.depth, self.width, self.kernel, self.activation)

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` if `data` is too small for this configuration."""
        most = len(data.train)
        require(self.batch_size <= most, "batch_size", self.batch_size, f"at most {most} images")
        self.shape.check_data(data)
