"""Lines between codes, and their measures, against known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.interpolation.lines import ALPHAS, interpolate, pixel_blend
from analysis.interpolation.measures import (
    both,
    code_spread,
    cycle_error,
    distance_from_cross_dissolve,
    entropy,
    judge_readings,
    outside,
    path_over_chord,
    seen_by_most,
    smoothness,
)
from trainables.networks import Autoencoder, Shape


def model(activation: str, latent_dim: int = 3) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Shape(latent_dim, depth=2, width=3, activation=activation)).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_codes_are_interpolated_between_reconstructions() -> None:
    network, first, second = model("gelu"), images(4), images(4, seed=1)
    codes, path = interpolate(network, first, second)
    assert path.shape == (4, 11, 1, 28, 28)
    assert codes.shape == (4, 11, 3)
    torch.testing.assert_close(path[:, -1], network(first))
    torch.testing.assert_close(path[:, 0], network(second))
    weighted = 0.3 * network.encoder(first) + 0.7 * network.encoder(second)
    torch.testing.assert_close(codes[:, 3], weighted)


def test_affine_decoder_only_cross_dissolves() -> None:
    _, path = interpolate(model("none"), images(4), images(4, seed=1))
    middle = len(ALPHAS) // 2
    torch.testing.assert_close(path[:, middle], (path[:, 0] + path[:, -1]) / 2)
    assert distance_from_cross_dissolve(path).tolist() == pytest.approx([0] * 4, abs=1e-4)
    assert path_over_chord(path).tolist() == pytest.approx([1] * 4, abs=1e-4)
    assert smoothness(path).tolist() == pytest.approx([0] * 4, abs=1e-4)


def test_nonlinear_decoder_differs_from_cross_dissolve() -> None:
    _, path = interpolate(model("gelu"), images(4), images(4, seed=1))
    assert (distance_from_cross_dissolve(path) > 1e-4).all()
    assert (path_over_chord(path) >= 1).all()


def test_measures_of_a_path_with_known_lengths() -> None:
    """Two pixels: from (0, 0) up to (0, 1), then across to (1, 1)."""
    path = torch.zeros(1, 3, 1, 28, 28)
    path[0, 1:, 0, 0, 0] = 1
    path[0, 2, 0, 0, 1] = 1
    assert path_over_chord(path).item() == pytest.approx(math.sqrt(2))
    assert smoothness(path).item() == pytest.approx(1 / math.sqrt(2) - 1 / 2)
    # The corner is as far from the middle of the chord as its ends are.
    assert distance_from_cross_dissolve(path).item() == pytest.approx(1)


def test_path_of_zero_length_has_no_measure() -> None:
    path = torch.ones(1, 3, 1, 28, 28)
    for measure in (path_over_chord, smoothness, distance_from_cross_dissolve):
        assert measure(path).isnan().all()


def test_pixel_blend_is_a_straight_line() -> None:
    path = pixel_blend(images(2), images(2, seed=1))
    torch.testing.assert_close(path[:, 0], images(2, seed=1))
    torch.testing.assert_close(path[:, -1], images(2))
    assert path_over_chord(path).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_spread_and_cycle_error() -> None:
    codes = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    assert code_spread(codes) == pytest.approx(5)
    network = model("gelu", latent_dim=2)
    with torch.no_grad():
        found = network.encoder(images(2))
    wanted = (found + torch.tensor([[0.0, 2.0], [1.5, 0.0]])).detach()
    errors = cycle_error(network, wanted, images(2), unit=0.5)
    assert errors.tolist() == pytest.approx([4, 3], abs=1e-4)
    # Codes equal up to rounding have no unit of length.
    assert cycle_error(network, wanted, images(2), unit=1e-8).isnan().all()


def test_entropy_outside_and_both_of_known_probabilities() -> None:
    probabilities = np.zeros((3, 10))
    probabilities[0, 4] = 1
    probabilities[1, [4, 7]] = 0.5
    probabilities[2] = 0.1
    assert entropy(probabilities) == pytest.approx([0, math.log(2), math.log(10)])
    assert outside(probabilities, 4, 7) == pytest.approx([0, 0, 0.8])
    assert both(probabilities, 4, 7) == pytest.approx([0, 1, 0.2])
    readings = judge_readings(np.stack([probabilities, probabilities[::-1]]), (4, 7))
    assert readings["confidence"] == pytest.approx(np.array([[1, 0.5, 0.1], [0.1, 0.5, 1]]))
    assert readings["outside"].mean(axis=1) == pytest.approx([0.8 / 3] * 2)


def test_most_judges_have_to_see_the_digit() -> None:
    """Of four judges, three, two and none see a 4 in the three pictures."""
    probabilities = np.zeros((4, 3, 10))
    probabilities[:, :, 7] = 0.4
    probabilities[:3, 0, 4] = probabilities[:2, 1, 4] = 0.6
    assert seen_by_most(probabilities, 4).tolist() == [True, False, False]
    assert seen_by_most(probabilities, 7).tolist() == [False, False, True]


def test_cross_dissolve_is_uneven_by_nearest_images() -> None:
    data = images(30, seed=2)
    path = pixel_blend(data[:2], data[2:4])
    assert smoothness(path).tolist() == pytest.approx([0, 0], abs=1e-5)
    # Both halves of the blend are nearest to its ends: one step goes all the way.
    nearest = torch.cat([path[:, :1]] * 5 + [path[:, -1:]] * 6, dim=1)
    assert smoothness(nearest).tolist() == pytest.approx([0.9, 0.9])
