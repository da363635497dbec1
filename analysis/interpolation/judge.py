"""Judges: image classifiers that are trained without any autoencoder.

`Judges` are small convolutional networks, each trained on the training split from its own seed. The
report states their accuracy on the test split. `RealImages` measures the distance of a picture from
the nearest training image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from analysis import cache
from analysis.statistics.interval import FloatArray
from trainables.data import Dataset, pixels
from trainables.optimisers import AdamW, Schedule

JUDGES = 5
"""Number of judges, trained from the seeds 0 … 4."""
STEPS = 200
"""Minibatches per judge. The number, and so the time, is the same for every dataset."""
WIDTH = 8
"""Channels of a judge's first convolution. Judges classify 96.9 % of mnist-5k's validation images
correctly and 97.7 % of MNIST's (means of 10). With 16 channels it is 97.6 and 98.2 %, but training
and reading take 2.5 times as long: half of a report's time."""
BATCH_SIZE = 64
"""Images per minibatch."""
MAX_REFERENCE_IMAGES = 2_000
"""Maximum number of training images searched for the nearest real one. The time grows with it: with
3,600 the search took 0.2 of the 0.47 s per model."""
SHIFT = 1 / 14
"""Maximum shift of a minibatch, as a fraction of the smaller side: 2 of 28 pixels. Shifts keep a
judge from relying on exact positions."""


class Network(nn.Sequential):
    """Images (N, C, H, W) to class scores (N, K): three convolutions, each halving the sides."""

    def __init__(self, image: tuple[int, int, int], classes: int) -> None:
        channels, *sides = image
        # The first convolution has the most pixels: stride 2, not pooling, halves a judge's time.
        layers: list[nn.Module] = [nn.Conv2d(channels, WIDTH, 5, stride=2, padding=2, bias=False)]
        height, breadth = (-(-side // 2) for side in sides)
        for channels_in, channels_out in ((WIDTH, 2 * WIDTH), (2 * WIDTH, 4 * WIDTH)):
            halves = min(2, height), min(2, breadth)
            height, breadth = height // halves[0], breadth // halves[1]
            layers += [
                nn.BatchNorm2d(channels_in),
                nn.ReLU(),
                nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
                nn.MaxPool2d(halves),  # before the norm, which then has a quarter of the work
            ]
        layers += [nn.BatchNorm2d(4 * WIDTH), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(4 * WIDTH * height * breadth, classes))

    def forward(self, images: Tensor) -> Tensor:
        # With channels last, a CPU vectorises pooling: 250 images take 14 ms, not 34 (width 16).
        return super().forward(images.to(memory_format=torch.channels_last))


@dataclass(frozen=True)
class Judges:
    """Trained classifiers and their accuracy."""

    networks: Sequence[nn.Module]
    """J networks: images (N, C, H, W) in [0, 1] to class scores (N, K), in evaluation mode."""
    accuracies: Sequence[float]
    """The share of the test split that each judge classifies correctly."""
    confidence: float
    """Mean largest probability on the test split. Judges are overconfident if it exceeds their
    accuracy."""
    test_images: int
    """Number of images in the test split."""

    @cached_property
    def weights_hash(self) -> str:
        """Hash of their weights."""
        return cache.weights_hash(*self.networks)

    def by_judge(self, images: Tensor) -> FloatArray:
        """Each judge's class probabilities (J, N, K) of `images` (N, C, H, W)."""
        return np.stack([_probabilities(network, images) for network in self.networks])

    def __call__(self, images: Tensor) -> FloatArray:
        """The mean probabilities over judges, (N, K)."""
        mean: FloatArray = self.by_judge(images).mean(axis=0)
        return mean

    def description(self) -> str:
        """Sentence on the judges, their accuracy and their confidence."""
        least, most = (100 * bound(self.accuracies) for bound in (min, max))
        return (
            f"The judges are {len(self.networks)} convolutional networks, each trained from its "
            f"own seed on the training split only; they classify {least:.1f} to {most:.1f} % of "
            f"the {self.test_images:,} test images correctly (mean confidence "
            f"{100 * self.confidence:.1f} %)."
        )


def train_judges(data: Dataset, count: int = JUDGES, steps: int = STEPS) -> Judges:
    """Train judges on the training split of `data`, on the CPU; the test split only scores them."""
    new = [_new(data, seed) for seed in range(count)]
    # One after another: a step is so short that two threads, which wait for each other's Python,
    # took 4.0 s for two judges, and one took 2.2.
    with threadpool_limits(1):
        return scored([_trained(net, data, steps, seed) for seed, net in enumerate(new)], data)


def scored(networks: Sequence[nn.Module], data: Dataset) -> Judges:
    """Trained networks as judges, with their accuracy on the test split of `data`."""
    images, labels = data.test.on("cpu")
    read = np.stack([_probabilities(network, images) for network in networks])
    right = read.argmax(axis=2) == labels.numpy()
    return Judges(
        networks, right.mean(axis=1).tolist(), float(read.max(axis=2).mean()), len(images)
    )


def _new(data: Dataset, seed: int) -> Network:
    """An untrained judge. No other thread may run: torch's seed is shared by all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(data.image_shape, len(data.classes)).train()


def _trained(network: Network, data: Dataset, steps: int, seed: int) -> Network:
    """Train one judge: AdamW under a one-cycle schedule (Smith & Topin 2018)."""
    images, labels = data.train.on("cpu")
    generator = torch.Generator().manual_seed(seed)
    schedule = Schedule({"": 1e-2}, steps, warm_up=0.3)
    optimiser = AdamW(dict(network.named_parameters()), schedule, weight_decay=1e-2)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        scores = network(_shifted(pixels(images[chosen]), generator))
        network.zero_grad()
        functional.cross_entropy(scores, labels[chosen]).backward()
        optimiser.step()
    return network.eval()


_JUDGES: dict[str, Judges] = {}


def judges_of(data: Dataset) -> Judges:
    """The judges of a dataset, trained on the first call and cached (`analysis.cache`).

    The scorecard and the explorer of one report share them.
    """
    if data.fingerprint not in _JUDGES:
        key = cache.key("judges", data.fingerprint)
        if (judges := _read(key, data)) is None:
            judges = train_judges(data)
            _keep(key, judges)
        _JUDGES[data.fingerprint] = judges
    return _JUDGES[data.fingerprint]


def _read(key: str, data: Dataset) -> Judges | None:
    """The judges kept under this key; None if there are none."""
    networks = nn.ModuleList(_new(data, seed) for seed in range(JUDGES)).eval()
    try:
        networks.load_state_dict(safetensors.torch.load(cache.read(key) or b""))
    except (SafetensorError, RuntimeError):  # not kept, cut off, or foreign
        return None
    return scored(list(networks), data)


def _keep(key: str, judges: Judges) -> None:
    weights = nn.ModuleList(judges.networks).state_dict()
    cache.write(key, safetensors.torch.save({k: v.contiguous() for k, v in weights.items()}))


@torch.no_grad()
def _probabilities(network: nn.Module, images: Tensor) -> FloatArray:
    """Class probabilities (N, K) of `images` (N, C, H, W), bytes or pixels in [0, 1]."""
    as_bytes = not images.is_floating_point()
    parts = images.split(250)
    scores = torch.cat([network(pixels(part) if as_bytes else part) for part in parts])
    # In double precision, so that the rows sum to 1 and 1 − p is not rounding noise.
    return scores.double().softmax(dim=1).numpy()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift `images` (B, C, H, W), all by the same random whole numbers of pixels."""
    most = int(SHIFT * min(images.shape[2:]))
    down, right = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    padded = functional.pad(images, (most, most, most, most))
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]


def evenly_spaced(images: Tensor, most: int) -> Tensor:
    """Up to `most` of `images` (N, …), evenly spaced: files may be ordered by class."""
    return images[torch.linspace(0, len(images) - 1, min(most, len(images))).long()]


class RealImages:
    """Training images, the reference for distances to real ones."""

    def __init__(self, data: Dataset) -> None:
        known = evenly_spaced(data.train.on("cpu")[0], MAX_REFERENCE_IMAGES)
        self.images = pixels(known).flatten(1)
        self.squares = self.images.square().sum(dim=1)
        self.norms = self.squares.sqrt().clamp_min(1e-12)  # a black image has cosine 0 with all
        self.typical = 1.0
        unseen = pixels(evenly_spaced(data.test.on("cpu")[0], 1000))
        self.typical = float(self.nearest(unseen)[0].median())

    def nearest(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances of `images` (N, C, H, W) to the nearest training image, by two measures.

        Returns:

        - Euclidean distances (N,), relative to their median for up to 1,000 test images; 0 for a
          training image. Blurred images are near to everything, so compare with decoded end points,
          not with 1.
        - Cosine distances (N,): 1 − the largest cosine with a training image, from 0 to 1.
        - The training images (N, C, H, W) with the largest cosine.
        """
        found = [self._nearest(part) for part in images.flatten(1).split(250)]
        distances, cosines, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        similar = self.images[index].unflatten(1, images.shape[1:])
        return distances / self.typical, 1 - cosines, similar

    def _nearest(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Euclidean distance, largest cosine, and the index of the image that has it, (N,) each."""
        products = flat @ self.images.T  # most of the time, so both measures share it
        cosines, index = (products / self.norms).max(dim=1)
        # First the index, then the distance to that image only: the fast sum of squares isn't exact
        # near 0.
        nearest = torch.sub(self.squares, products, alpha=2).argmin(dim=1)
        distances = (flat - self.images[nearest]).norm(dim=1)
        return distances, cosines / flat.norm(dim=1).clamp_min(1e-12), index
