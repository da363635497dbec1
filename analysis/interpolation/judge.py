"""Who says whether a picture is a digit: two judges that no autoencoder has had any part in.

`Judge` is a small convolutional network that learnt from the training split only, in a few
seconds of one core; its accuracy on the test split is stated wherever its word is used.
`RealImages` are the training images themselves, to which a picture is near or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.data import CLASSES, Dataset, pixels

FloatArray = NDArray[np.float64]
Reader = Callable[[Tensor], FloatArray]
"""Images (N, 1, 28, 28) in [0, 1] to probabilities (N, 10): all that is asked of a judge."""

STEPS = 450
"""Minibatches that the judge learns from, whatever the dataset: the time is the same on all."""
BATCH_SIZE = 64
"""Images a minibatch."""
REFERENCE = 10_000
"""Most training images among which the nearest real one is sought (all, where there are fewer)."""
SHIFT = 2
"""Most pixels by which a minibatch is moved, so that the judge doesn't rely on exact places."""


class Network(nn.Sequential):
    """Images (N, 1, 28, 28) to class scores (N, 10): three convolutions, each halving the side."""

    def __init__(self, width: int = 16) -> None:
        layers: list[nn.Module] = []
        for taken, given in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(taken, given, 3, padding=1, bias=False),
                nn.MaxPool2d(2),  # first, so that the norm has a quarter of the work
                nn.BatchNorm2d(given),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4 * width * 3 * 3, CLASSES))


@dataclass(frozen=True)
class Judge:
    """A trained classifier and how far to trust it."""

    network: nn.Module
    """Images (N, 1, 28, 28) in [0, 1] to class scores (N, 10), in evaluation mode."""
    accuracy: float
    """The share of the test split that it classifies rightly."""
    confidence: float
    """Its mean largest probability on the test split; above `accuracy`, it is overconfident."""
    test_images: int
    """Images in that split."""
    steps: int
    """Minibatches that it learnt from."""
    seconds: float
    """Wall-clock time of its training."""

    def __call__(self, images: Tensor) -> FloatArray:
        """Probabilities (N, 10) of the classes of `images` (N, 1, 28, 28) in [0, 1]."""
        return _probabilities(self.network, images)

    def description(self) -> str:
        """A sentence for captions: what the judge is and how good."""
        return (
            f"The judge is a convolutional network trained on the training split only; it "
            f"classifies {100 * self.accuracy:.1f} % of the {self.test_images:,} test images "
            f"rightly (mean confidence {100 * self.confidence:.1f} %)."
        )


def train_judge(data: Dataset, steps: int = STEPS, seed: int = 0) -> Judge:
    """Train a judge on the training split of `data`, on the CPU; the test split only scores it.

    AdamW under a one-cycle schedule (Smith & Topin 2018).
    """
    started = time.perf_counter()
    images, labels = data.train.on("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network().train()
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=draw)
        scores = network(_moved(pixels(images[chosen]), draw))
        optimiser.zero_grad()
        functional.cross_entropy(scores, labels[chosen]).backward()
        optimiser.step()
        schedule.step()
    seconds = time.perf_counter() - started
    network.eval()
    test_images, test_labels = data.test.on("cpu")
    read = _probabilities(network, test_images)
    accuracy = float((read.argmax(axis=1) == test_labels.numpy()).mean())
    return Judge(network, accuracy, float(read.max(axis=1).mean()), len(read), steps, seconds)


_JUDGES: dict[tuple[str, int], Judge] = {}


def judge_of(data: Dataset, steps: int = STEPS) -> Judge:
    """The judge of a dataset, trained when it is first asked for: the scorecard and the explorer
    of one report have the same one."""
    key = (data.fingerprint, steps)
    if key not in _JUDGES:
        _JUDGES[key] = train_judge(data, steps)
    return _JUDGES[key]


@torch.no_grad()
def _probabilities(network: nn.Module, images: Tensor, batch_size: int = 250) -> FloatArray:
    """Of `images` (N, 1, 28, 28): bytes, or pixels in [0, 1]."""
    as_bytes = not images.is_floating_point()
    parts = images.split(batch_size)
    scores = torch.cat([network(pixels(part) if as_bytes else part) for part in parts])
    # In double precision, so that the rows sum to 1 and 1 − p is not rounding noise.
    return scores.double().softmax(dim=1).numpy()


def _moved(images: Tensor, draw: torch.Generator) -> Tensor:
    """`images` (B, 1, 28, 28), all moved by the same random whole number of pixels."""
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=draw).tolist()
    padded = functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]


class RealImages:
    """Training images to be near to."""

    def __init__(self, data: Dataset) -> None:
        self.images = pixels(data.train.on("cpu")[0][:REFERENCE]).flatten(1)
        self.squares = self.images.square().sum(dim=1)
        unseen = pixels(data.test.on("cpu")[0][:1000])
        self.typical = float(self._nearest(unseen).median())

    def _nearest(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        # The argument first, then its distance alone: the fast sum of squares isn't exact near 0.
        # In parts, as all distances at once would take 40 MB for 1,000 images.
        nearest = torch.cat(
            [
                torch.addmm(self.squares, part, self.images.T, alpha=-2).argmin(dim=1)
                for part in flat.split(250)
            ]
        )
        return (flat - self.images[nearest]).norm(dim=1)

    def distances(self, images: Tensor) -> Tensor:
        """Euclidean distance of each of `images` (N, 1, 28, 28) to the nearest training image,
        over the median of that of up to 1,000 test images: (N,). 0 for a training image.

        Blurred images are near to everything: compare with decoded end points, not with 1.
        """
        return self._nearest(images) / self.typical

    def cosine_distances(self, images: Tensor) -> Tensor:
        """1 − the largest cosine between each of `images` (N, 1, 28, 28) and a training image:
        (N,), from 0 to 1."""
        lengths = self.squares.sqrt().clamp(min=1e-12)
        directions = functional.normalize(images.flatten(1), dim=1)
        parts = [(part @ self.images.T / lengths).amax(dim=1) for part in directions.split(250)]
        return 1 - torch.cat(parts)
