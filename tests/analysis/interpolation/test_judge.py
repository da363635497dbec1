"""The judges know the training split and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.interpolation.judge import RealImages, evenly_spaced, train_judges
from analysis.results import Results
from tests.trainables.helpers import noise_dataset
from trainables.data import Dataset


def test_training_images_are_nearest_to_themselves() -> None:
    data = noise_dataset(1, 28, 28, classes=10, images=6)
    real = RealImages(data)
    known = torch.from_numpy(data.train.images[:5]) / 255
    distances, cosine_distances, nearest = real.nearest(known)
    assert distances.tolist() == [0] * 5
    assert cosine_distances.tolist() == pytest.approx([0] * 5, abs=1e-6)
    assert torch.equal(nearest, known)
    assert real.nearest(3 * known)[1].tolist() == pytest.approx([0] * 5, abs=1e-6)
    assert real.nearest(0 * known)[1].tolist() == [1] * 5


def test_nearest_distances_match_those_by_hand() -> None:
    data = noise_dataset(1, 28, 28, classes=10, images=6)
    real = RealImages(data)
    distances, cosine_distances, _ = real.nearest(torch.from_numpy(data.test.images) / 255)
    assert float(distances.quantile(0.5, interpolation="lower")) == pytest.approx(1)
    known, unseen = (part.images.reshape(-1, 784) / 255 for part in (data.train, data.test))
    by_hand = np.linalg.norm(known[None] - unseen[:, None], axis=2).min(axis=1)
    assert distances.numpy() * real.typical == pytest.approx(by_hand, rel=1e-5)
    lengths = [np.linalg.norm(part, axis=1) for part in (unseen, known)]
    cosines = unseen @ known.T / np.outer(*lengths)
    assert cosine_distances.numpy() == pytest.approx(1 - cosines.max(axis=1), abs=1e-6)


def test_judges_learn_from_the_training_split_alone(small_results: Results) -> None:
    judges = train_judges(small_results.dataset, count=2, steps=60)
    assert min(judges.accuracies) > 0.85
    # Other test images and labels, the same judges.
    data = small_results.dataset
    swapped = Dataset("swapped", data.train, data.test, data.validation)
    again = train_judges(swapped, count=2, steps=60)
    for network, other in zip(judges.networks, again.networks, strict=True):
        for one, same in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, same)
    least, most = sorted(100 * accuracy for accuracy in judges.accuracies)
    assert f"{least:.1f} to {most:.1f} % of the 1,000 test images" in judges.description()


def test_judges_differ_and_predict_their_mean(
    small_results: Results,
) -> None:
    judges = train_judges(small_results.dataset, count=3, steps=5)
    pictures = torch.rand(4, 1, 28, 28)
    by_judge = judges.by_judge(pictures)
    assert by_judge.shape == (3, 4, 10)
    assert by_judge.sum(axis=2) == pytest.approx(np.ones((3, 4)))
    assert np.abs(by_judge[0] - by_judge[1]).max() > 1e-3
    assert judges(pictures) == pytest.approx(by_judge.mean(axis=0))


def test_ordered_images_are_sampled_from_every_class() -> None:
    images = torch.arange(10_000)
    chosen = evenly_spaced(images, 2000)
    assert len(set(chosen.tolist())) == 2000
    assert torch.bincount(chosen // 1000).tolist() == pytest.approx([200] * 10, abs=1)
    assert torch.equal(evenly_spaced(images[:2000], 2000), images[:2000])
    assert torch.equal(evenly_spaced(images[:7], 2000), images[:7])
