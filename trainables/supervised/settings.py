"""The complete configuration of a cell of the supervised control."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.contract import NetworkSettings
from trainables.data import Dataset
from trainables.labels import STEP_COST, check_labels, require_labels

VERSION = 1


@dataclass(frozen=True)
class Config(NetworkSettings):
    """The complete configuration of a cell of the supervised control."""

    labels: int
    """Labelled training images, class-balanced."""
    augment: float = 1.0
    """Strength of the views that the network learns from (`trainables.augment`); 0: no views, the
    labelled images themselves."""
    views: int = 50
    """Views of every labelled image. An epoch has as many views as there are labels, so all are
    seen in `views` epochs."""
    batch_size: int = 0
    """Labelled images per minibatch; 0 is all of them at once."""
    epochs: int = 200
    """Passes over the labelled images."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule."""
    width: int = 16
    """Channels after the first convolution; each further one doubles them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_labels(self.labels, self.batch_size)
        self.require_between(0, 4, "augment")
        self.require_at_least(1, "views", "width")

    @property
    def sees_views(self) -> bool:
        """True if the network learns from views of the labelled images."""
        return self.augment > 0

    @property
    def view_strength(self) -> float:
        """Strength of the views, under the name that few-shot settings have for it."""
        return self.augment

    def work(self, images: int) -> float:
        """Labelled images, or views of them, learned from, plus `STEP_COST` per epoch."""
        return float(self.epochs * (self.labels + STEP_COST))

    def check_data(self, data: Dataset) -> None:
        """Raise `ConfigError` unless `data` has these labels, class-balanced."""
        check_labels(self.labels, data)
