"""Losses for an angle: values, symmetry, period, gradients, and the von Mises likelihood."""

import math

import pytest
import torch
from scipy.stats import vonmises

from tests.phrases import phrase
from trainables.rotation.losses import (
    LOSSES,
    absolute_loss,
    cosine_loss,
    decode_direction,
    encode_direction,
    signed_difference,
    sine_cosine_loss,
    von_mises_loss,
    wrapped_loss,
)

CIRCULAR = ["wrapped", "cosine", "von_mises"]


def degrees(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss.sum(), inputs, retain_graph=True)[0]


@pytest.fixture
def angles() -> tuple[torch.Tensor, torch.Tensor]:
    """500 predictions and targets between -720 and 720, none within 0.1 of a kink."""
    generator = torch.Generator().manual_seed(1)
    prediction, target = 1440 * torch.rand(2, 500, generator=generator, dtype=torch.float64) - 720
    smooth = torch.sin(torch.deg2rad(prediction - target)).abs() > math.sin(math.radians(0.1))
    return prediction[smooth], target[smooth]


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (2, 360, 2),
        (360, 2, -2),
        (0, 360, 0),
        (90, 0, 90),
        (270, 0, -90),
        (179, 0, 179),
        (180, 0, -180),
        (181, 0, -179),
        (-725, 0, -5),
    ],
)
def test_signed_difference(prediction: float, target: float, expected: float) -> None:
    assert signed_difference(degrees(prediction), degrees(target)).item() == expected


def test_signed_difference_matches_the_formula(angles: tuple[torch.Tensor, torch.Tensor]) -> None:
    prediction, target = angles
    formula = torch.remainder(prediction - target + 180, 360) - 180
    torch.testing.assert_close(signed_difference(prediction, target), formula, rtol=0, atol=1e-10)


def test_signed_difference_keeps_small_float32_values() -> None:
    small = torch.tensor([1e-7])
    assert signed_difference(small, torch.zeros(1)).item() == small.item()


def test_losses_of_two_degrees_against_360() -> None:
    two, full = degrees(2), degrees(360)
    assert wrapped_loss(two, full).item() == 2
    assert absolute_loss(two, full).item() == 358
    assert cosine_loss(two, full).item() == pytest.approx(1 - math.cos(math.radians(2)), abs=1e-15)


@pytest.mark.parametrize("name", CIRCULAR)
def test_loss_is_symmetric_and_periodic(
    name: str, angles: tuple[torch.Tensor, torch.Tensor]
) -> None:
    loss = LOSSES[name]
    prediction, target = angles
    value = loss(prediction, target)
    for same in (
        loss(target, prediction),
        loss(prediction + 360, target),
        loss(prediction, target - 720),
    ):
        torch.testing.assert_close(same, value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_least_at_the_target(name: str) -> None:
    around = torch.arange(0, 360, 0.5, dtype=torch.float64)
    assert LOSSES[name](around, degrees(123.5)).argmin().item() == 247


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_matches_finite_differences(
    name: str, angles: tuple[torch.Tensor, torch.Tensor]
) -> None:
    prediction, target = angles
    loss, step = LOSSES[name], 1e-3
    expected = (loss(prediction + step, target) - loss(prediction - step, target)) / (2 * step)
    inputs = prediction.clone().requires_grad_()
    found = gradient(loss(inputs, target), inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_finite_at_possible_kinks(name: str, dtype: torch.dtype) -> None:
    inputs = torch.tensor([-540, -360, -180, 0, 180, 360, 540], dtype=dtype, requires_grad=True)
    loss = LOSSES[name](inputs, torch.zeros(7, dtype=dtype))
    assert torch.isfinite(loss).all()
    assert (gradient(loss, inputs).abs() <= 1).all()  # NaN is not


def test_wrapped_gradients_at_the_kinks() -> None:
    inputs = degrees(0, 180).requires_grad_()
    loss = wrapped_loss(inputs, torch.zeros_like(inputs))
    assert gradient(loss, inputs).tolist() == [0, -1]


def test_arccos_of_cosine_has_no_gradient_at_zero() -> None:
    inputs = degrees(0).requires_grad_()
    assert not torch.isfinite(gradient(torch.arccos(torch.cos(inputs)), inputs)).any()


def test_cosine_resolves_small_differences_in_float32() -> None:
    small = torch.tensor([0.001])
    expected = math.radians(0.001) ** 2 / 2
    assert cosine_loss(small, torch.zeros(1)).item() == pytest.approx(expected, rel=1e-5)


def test_losses_broadcast_over_any_shape() -> None:
    for loss in LOSSES.values():
        assert loss(torch.zeros(4, 3, 1), torch.zeros(5)).shape == (4, 3, 5)
        assert loss(torch.tensor(1.0), torch.tensor(2.0)).shape == ()


@pytest.mark.parametrize("concentration", [0.1, 1.0, 7.5, 300.0])
def test_von_mises_is_the_likelihood(concentration: float) -> None:
    observed = torch.linspace(-180, 179, 200, dtype=torch.float64)
    loss = von_mises_loss(degrees(40), observed, concentration)
    expected = -vonmises.logpdf(torch.deg2rad(observed - 40).numpy(), concentration)
    torch.testing.assert_close(loss, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("concentration", [0.0, 0.5, 3.0, 100.0, 1e4])
def test_von_mises_density_integrates_to_one(concentration: float) -> None:
    circle = torch.arange(0, 360, 0.01, dtype=torch.float64)
    density = torch.exp(-von_mises_loss(degrees(200), circle, concentration))
    assert density.sum().item() * math.radians(0.01) == pytest.approx(1, abs=1e-10)


def test_von_mises_is_stable_for_large_concentration() -> None:
    concentration = torch.tensor([0.0, 1.0, 1e2, 1e4, 1e6], requires_grad=True)
    prediction = torch.full((5,), 10.0, requires_grad=True)
    loss = von_mises_loss(prediction, torch.full((5,), 10.01), concentration)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient(loss, concentration)).all()
    assert torch.isfinite(gradient(loss, prediction)).all()
    # A narrow von Mises distribution is a normal one of variance 1 / kappa.
    difference = math.radians(float(torch.tensor(10.01) - torch.tensor(10.0)))
    normal = 1e6 * difference**2 / 2 + math.log(2 * math.pi / 1e6) / 2
    assert loss[-1].item() == pytest.approx(normal, rel=1e-4)


def test_von_mises_gradient_by_the_concentration() -> None:
    concentration = degrees(0.3, 2, 40).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda kappa: von_mises_loss(degrees(30, 60, 5), degrees(0, 0, 0), kappa), concentration
    )


@pytest.mark.parametrize("concentration", [-1.0, math.nan, math.inf])
def test_von_mises_names_a_bad_concentration(concentration: float) -> None:
    with pytest.raises(ValueError, match=rf"concentration is {concentration}; allowed"):
        von_mises_loss(degrees(0), degrees(0), concentration)


def test_directions_decode_to_their_angles() -> None:
    angle = torch.arange(0, 360, 1, dtype=torch.float64)
    decoded = decode_direction(2.5 * encode_direction(angle))
    torch.testing.assert_close(decoded, angle, rtol=0, atol=1e-10)
    assert decode_direction(torch.tensor([1.0, 0.0])).item() == 90
    assert decode_direction(torch.tensor([-1e-12, 1.0])).item() == 0  # in float32 not 360


def test_decoding_the_zero_vector_is_finite() -> None:
    vector = torch.zeros(2, requires_grad=True)
    angle = decode_direction(vector)
    assert angle.item() == 0
    assert gradient(angle, vector).tolist() == [0, 0]


def test_sine_cosine_loss_matches_the_cosine() -> None:
    angle, target = degrees(10, 200, 359), degrees(350, 20, 1)
    loss = sine_cosine_loss(encode_direction(angle), target)
    torch.testing.assert_close(loss, 2 * cosine_loss(angle, target), rtol=0, atol=1e-14)
    # The zero vector is at distance 1 from every direction.
    assert sine_cosine_loss(torch.zeros(3, 2, dtype=torch.float64), target).tolist() == (
        pytest.approx([1, 1, 1])
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 1)])
def test_vectors_of_a_wrong_shape_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=phrase("vector has shape … allowed: (..., 2)")):
        decode_direction(torch.zeros(shape))
    with pytest.raises(ValueError, match="vector has shape"):
        sine_cosine_loss(torch.zeros(shape), torch.zeros(1))
