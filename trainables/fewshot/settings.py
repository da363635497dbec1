"""The complete configuration of a few-shot cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.contract import NetworkSettings, added_field, require
from trainables.data import Dataset
from trainables.labels import CODES_COST, STEP_COST, check_labels, require_labels
from trainables.shape import Shape, shape_of

VERSION = 3

HEADS = ("logistic", "svm", "neighbours")
"""Values of `freeze` whose head isn't a network: see `Config.freeze`."""

ON_ALL_IMAGES = ("propagation", "consistency")
"""Values of `freeze` that learn from all training images: see `Config.freeze`."""

WHOLE_NETWORKS = ("full", "scratch")
"""Values of `freeze` whose encoder learns with the head from the first step."""

FREEZE = ("fixed", *WHOLE_NETWORKS, "lp-ft", *ON_ALL_IMAGES, *HEADS)
"""Ways to use the encoder and the labels: see `Config.freeze`."""

PRETRAINING: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "augmented": {"augment": 1.0, "noise": 0.2, "target": "clean"},
    "variational": {"objective": "variational", "beta": 0.1},
    "contrastive": {
        "objective": "contrastive", "augment": 1.5, "batch_size": 512,
        "optimiser": "adamw", "learning_rate": 0.01,
    },
}  # fmt: skip
"""Settings of the autoencoder whose encoder a classifier starts from, by value of `pretraining`."""

WITH_VIEWS = ("augmented", "contrastive")
"""Kinds of pretraining whose classifiers learn from augmented views of the labelled images."""


@dataclass(frozen=True)
class Config(NetworkSettings):
    """The complete configuration of a few-shot cell."""

    latent_dim: int
    """d, the length of the code."""
    labels: int
    """Labelled training images, class-balanced."""
    freeze: str
    """How the encoder and the labels are used:

    - `fixed`: the head trains on the pretrained encoder, which doesn't change
    - `full`: the pretrained encoder and the head train
    - `scratch`: encoder and head train without pretraining (the control)
    - `lp-ft`: the head trains on the fixed encoder, then both train, at a lower rate (Kumar et al.
      2022, "Fine-tuning can distort pretrained features", ICLR)
    - `propagation`: the labels spread along a graph of the codes of all training images; the head
      on the fixed encoder learns the spread labels
    - `consistency`: a network without a bottleneck learns the spread labels, from new views of all
      training images in every pass
    - `logistic`, `svm`, `neighbours`: the head is a logistic regression, a support vector machine
      or the nearest neighbour on the codes of the fixed encoder
    """
    pretraining: str = "plain"
    """Source of the encoder: `plain`: an autoencoder; `augmented`: an autoencoder that saw noisy,
    augmented images; `variational`: a β-VAE; `contrastive`: an encoder that learnt to tell images
    apart. With `augmented` and `contrastive`, the classifier learns from augmented views of the
    labelled images, in `scratch` too, except in `ON_ALL_IMAGES`."""
    depth: int = 3
    """Convolutional layers in the encoder."""
    batch_size: int = 0
    """Labelled images per minibatch; 0 is all of them at once."""
    epochs: int = 200
    """Passes over the labelled images, the same in every arm: arms are compared at equal steps."""
    learning_rate: float = 1e-2
    """Peak of the head's one-cycle schedule."""
    encoder_learning_rate: float = 1e-3
    """Peak of the encoder's one-cycle schedule, if it trains."""
    tuning_learning_rate: float = 1e-3
    """Peak of the second one-cycle schedule of `lp-ft`, for encoder and head."""
    rate_factor: float = added_field(1.0)
    """Factor of every peak rate, to see how much a result depends on them."""
    views: int = 50
    """Views of every labelled image, if `pretraining` is one of `WITH_VIEWS`. An epoch has as many
    views as there are labels, so all are seen in `views` epochs."""
    view_strength: float = 1.0
    """Strength of views (`trainables.augment`), also of those in `consistency`."""
    neighbours: int = 10
    """Nearest codes that each code is joined with, in `propagation` and `consistency`."""
    alpha: float = 0.99
    """How far labels spread, in `propagation` and `consistency`, between 0 (nowhere) and 1 (without
    end)."""
    rounds: int = 10
    """Largest number of times that the predicted classes spread again, in `propagation` and
    `consistency`."""
    pseudo_epochs: int = 8
    """Passes over all training images, in `propagation` and `consistency`."""
    pseudo_batch_size: int = 256
    """Images per minibatch of these passes."""
    hidden: int = 32
    """Units in the head's hidden layer."""
    width: int = 16
    """Channels after the encoder's first convolution."""
    kernel: int = 3
    """Side of the encoder's convolution kernels, in pixels."""
    activation: str = "gelu"
    """The encoder's nonlinearity."""
    network: str = added_field("convolutional")
    """Kind of the encoder: one of `trainables.shape.NETWORKS`, or `FILE.py:FUNCTION`."""
    encoders: int = 0
    """Pretrained encoders that the classifiers share; 0: one for each classifier."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_of(FREEZE, "freeze")
        require_labels(self.labels, self.batch_size)
        self.require_one_of(PRETRAINING, "pretraining")
        self.require_at_least(
            1, "hidden", "views", "neighbours", "pseudo_epochs", "pseudo_batch_size"
        )
        require(0 < self.alpha < 1, "alpha", self.alpha, "a number above 0 and below 1")
        self.require_between(0, 4, "view_strength")
        self.require_above_0("encoder_learning_rate", "tuning_learning_rate", "rate_factor")
        self.require_at_least(0, "encoders", "rounds")
        _ = self.shape  # checks the fields of `Shape`

    def parent_replicate(self, replicate: int) -> int:
        """Number of the autoencoder whose encoder classifier `replicate` starts from.

        In `scratch`, the classifier's own number.
        """
        shared = self.encoders and self.freeze != "scratch"
        return replicate % self.encoders if shared else replicate

    def work(self, images: int) -> float:
        """Images learned from, plus `STEP_COST` per epoch of labelled images.

        In `fixed` and `HEADS`, which compute codes once, an image counts as `CODES_COST` images.
        """
        if self.freeze in ON_ALL_IMAGES:
            return float(self.pseudo_epochs * images)
        if self.freeze in HEADS:
            return CODES_COST * images
        if self.freeze == "fixed":
            return CODES_COST * (images + self.epochs * (self.labels + STEP_COST))
        return float(self.epochs * (self.labels + STEP_COST))

    @property
    def shape(self) -> Shape:
        """The part of the configuration that makes the encoder."""
        return shape_of(
            self.latent_dim, self.depth, self.width, self.kernel, self.activation, self.network
        )

    @property
    def stages(self) -> tuple[int, int]:
        """Epochs of the probe (half of all in `lp-ft`, else 0) and of the last stage."""
        probe = -(-self.epochs // 2) if self.freeze == "lp-ft" else 0
        return probe, max(1, self.epochs - probe)

    @property
    def scored_epochs(self) -> range:
        """Epochs at the ends of the last stage's passes.

        A pass over `views` views of each labelled image counts as `views` epochs.
        """
        if self.freeze in HEADS:
            return range(1, 2)
        if self.freeze in ON_ALL_IMAGES:
            return range(1, self.pseudo_epochs + 1)
        views = self.views if self.sees_views else 1
        probe, last = (-(-epochs // views) * views for epochs in self.stages)
        return range(probe + views, probe + last + 1, views)

    @property
    def sees_views(self) -> bool:
        """True if the classifier learns from augmented views of the labelled images."""
        return self.pretraining in WITH_VIEWS and self.freeze not in ON_ALL_IMAGES

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` unless `data` has these labels, class-balanced, and fits the
        encoder."""
        check_labels(self.labels, data)
        self.shape.check_data(data)
