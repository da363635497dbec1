"""The complete configuration of an autoencoder cell."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.contract import ConfigError, NetworkSettings, added_field, require
from trainables.data import Dataset
from trainables.own import is_own
from trainables.shape import Shape, shape_of

VERSION = 1

OPTIMISERS = ("adamw", "muon")
"""Optimisers of the decoder's matrices; AdamW always trains the rest."""

OBJECTIVES = ("reconstruction", "variational", "contrastive")
"""Objectives of an encoder: see `Config.objective`."""

TARGETS = ("clean", "view")
"""Targets of a view's reconstruction: the image before or after it was augmented."""


@dataclass(frozen=True)
class Config(NetworkSettings):
    """The complete configuration of an autoencoder cell."""

    latent_dim: int
    """d, the length of the code."""
    depth: int = 3
    """Convolutional layers in the encoder; the decoder mirrors them."""
    batch_size: int = 32
    """Images per minibatch. `contrastive` takes all images if there are fewer."""
    epochs: int = 8
    """Passes over the training split."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule."""
    width: int = 16
    """Channels after the first convolution; each further one doubles them."""
    kernel: int = 3
    """Side of the convolution kernels, in pixels."""
    activation: str = "gelu"
    """`gelu`, `relu`, `silu`, or `none` for an affine autoencoder, which can at best equal PCA."""
    network: str = added_field("convolutional")
    """`convolutional`, `resnet`, `mlp` (fully connected), or `FILE.py:FUNCTION` (see `Shape`)."""
    augment: float = 0.0
    """Strength of the random views that the network sees in training: 0 is none, 1 turns by up to
    15°, moves by up to 2 pixels, and so on (`trainables.augment`)."""
    noise: float = 0.0
    """Standard deviation of the noise on pixels in training; pixels are in [0, 1]."""
    target: str = "clean"
    """Target of the reconstruction: the `clean` image, or the `view` without its noise."""
    objective: str = added_field("reconstruction")
    """`reconstruction`; `variational`: a β-VAE, whose codes are the means (Higgins et al. 2017,
    ICLR); `contrastive`: two views of an image get codes nearer to each other than to those of
    other images (SimCLR: Chen et al. 2020, ICML), and the decoder learns to reconstruct from these
    codes, without changing the encoder."""
    beta: float = added_field(1.0)
    """Weight of the divergence of codes from the standard normal distribution, in `variational`. At
    1 the loss is the negative evidence bound for pixels with Gaussian noise of variance ½."""
    temperature: float = added_field(0.2)
    """Divisor of similarities, in `contrastive`."""
    contrastive_updates: int = added_field(500)
    """Minibatches that `contrastive` learns from, instead of `epochs`, rounded up to whole passes:
    small and large training splits need equally many."""
    warm_up: float = 0.1
    """Share of the steps during which the learning rate rises to its peak."""
    optimiser: str = "adamw"
    """`adamw`, or `muon`, which uses Muon for the decoder's matrices and AdamW for the rest, and
    needs fewer epochs and a larger learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "batch_size", "contrastive_updates")
        self.require_between(0, 4, "augment", "noise")
        self.require_one_of(TARGETS, "target")
        self.require_one_of(OBJECTIVES, "objective")
        self.require_between(0, 1000, "beta")
        self.require_above_0("temperature")
        self.require_one_of(OPTIMISERS, "optimiser")
        require(0 < self.warm_up < 1, "warm_up", self.warm_up, "a number between 0 and 1")
        _ = self.shape  # checks the fields of `Shape`

    @property
    def shape(self) -> Shape:
        """The part of the configuration that makes the network."""
        return shape_of(
            self.latent_dim, self.depth, self.width, self.kernel, self.activation, self.network
        )

    def passes(self, minibatches: int) -> int:
        """Passes over a training split of this many `minibatches`."""
        if self.objective == "contrastive":
            return -(-self.contrastive_updates // minibatches)
        return self.epochs

    def work(self, images: int) -> float:
        """Images seen in training, for a training split of `images`."""
        return float(self.passes(-(-images // self.batch_size)) * images)

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` if `data`, or a user's network, doesn't fit this configuration."""
        most = len(data.train)
        # Few-shot cells set the batch size of contrastive pretraining themselves, to 512.
        if self.batch_size > most and self.objective != "contrastive":
            raise ConfigError("batch_size", self.batch_size, f"at most {most} images")
        self.shape.check_data(data)
        own = is_own(self.network) and self.objective != "reconstruction"
        allowed = "reconstruction, with a network of your own"
        require(not own, "objective", self.objective, allowed)
