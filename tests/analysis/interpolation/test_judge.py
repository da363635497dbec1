"""The judges know the training split and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.interpolation.judge import RealImages, train_judge
from analysis.results import Results
from trainables.data import Dataset, Split


def dataset(train: int = 60, test: int = 30) -> Dataset:
    """Noise with every digit in every split."""
    draw = np.random.default_rng(0)
    parts = [
        Split(
            draw.integers(0, 256, (size, 28, 28), dtype=np.uint8),
            np.arange(size, dtype=np.uint8) % 10,
        )
        for size in (train, 10, test)
    ]
    return Dataset("noise", *parts)


def test_training_images_are_nearest_to_themselves() -> None:
    data = dataset()
    real = RealImages(data)
    known = torch.from_numpy(data.train.images[:5]).unsqueeze(1) / 255
    assert real.distances(known).tolist() == [0] * 5
    assert real.cosine_distances(known).tolist() == pytest.approx([0] * 5, abs=1e-6)
    unseen = torch.from_numpy(data.test.images).unsqueeze(1) / 255
    assert float(real.distances(unseen).quantile(0.5, interpolation="lower")) == pytest.approx(1)
    # Euclid by hand.
    flat = data.train.images.reshape(60, -1) / 255
    by_hand = np.linalg.norm(flat - data.test.images[0].reshape(-1) / 255, axis=1).min()
    assert real.distances(unseen[:1]).item() * real.typical == pytest.approx(by_hand, rel=1e-5)
    assert real.cosine_distances(3 * known).tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_the_judge_learns_from_the_training_split_alone(small_results: Results) -> None:
    judge = train_judge(small_results.dataset, steps=60)
    assert judge.accuracy > 0.85
    # Other test images and labels, the same judge.
    data = small_results.dataset
    swapped = Dataset("swapped", data.train, data.test, data.validation)
    again = train_judge(swapped, steps=60)
    for one, other in zip(judge.network.parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert f"{100 * judge.accuracy:.1f} % of the 1,000 test images" in judge.description()
    read = judge(torch.rand(3, 1, 28, 28))
    assert read.sum(axis=1) == pytest.approx([1, 1, 1])
