"""Losses for angles in degrees that treat 0 and 360 as the same direction.

Every loss takes predictions and targets in degrees, of any size and sign, and returns one loss per
element; the caller averages or sums. All but :func:`absolute_loss` have period 360 in both
arguments. With delta, the signed difference in [-180, 180), the losses are

==================== ======================== ==================== =============================
name in ``LOSSES``   loss                     unit                 not differentiable at
==================== ======================== ==================== =============================
absolute             abs(prediction - target) degree               difference 0 (not circular)
wrapped              abs(delta)               degree               delta 0 and 180
cosine               1 - cos(delta)           none                 nowhere
von_mises            -log density of delta    nat                  nowhere
==================== ======================== ==================== =============================

At the points in the last column, autograd returns a subgradient or a one-sided derivative. So no
gradient is ever NaN or infinite for finite angles. This is why no loss is written as
arccos(cos(delta)), whose gradient is NaN or infinite at 0 and 180 degrees.

:func:`sine_cosine_loss` is the fifth: its network predicts a vector instead of an angle, so it is
not in ``LOSSES``; :func:`decode_direction` turns the vector into an angle.

Source: K. V. Mardia and P. E. Jupp, *Directional Statistics*, Wiley 2000, sections 2.3 and 3.5.4.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

AngleLoss = Callable[[Tensor, Tensor], Tensor]
"""(predictions, targets), both in degrees and of shapes that broadcast -> losses per element."""


def signed_difference(prediction: Tensor, target: Tensor) -> Tensor:
    """The shortest turn from target to prediction, ((prediction - target + 180) mod 360) - 180.

    Args:
        prediction: degrees, any shape.
        target: degrees, a shape that broadcasts with the prediction's.

    Returns:
        Degrees in [-180, 180), up to rounding. The derivative is 1 with respect to the prediction.
        At a difference of 180 the value jumps; autograd returns the one-sided derivative 1.
    """
    difference = prediction - target
    # The same number as the formula with mod, but small differences are not rounded by adding 180.
    turns = torch.floor((difference + 180.0) / 360.0)
    return difference - 360.0 * turns


def absolute_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The naive loss, abs(prediction - target): 2 against 360 degrees costs 358.

    Degrees in, degrees out, any broadcasting shapes. For comparison with the circular losses.
    Not differentiable at difference 0, where autograd returns 0.
    """
    return torch.abs(prediction - target)


def wrapped_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The length of the shortest turn, abs(delta): 2 against 360 degrees costs 2.

    Degrees in, degrees out, any broadcasting shapes, values in [0, 180].
    Not differentiable at delta 0 (autograd returns 0) and at delta 180 (autograd returns -1).
    """
    return torch.abs(signed_difference(prediction, target))


def cosine_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - cos(delta): smooth everywhere, and delta^2 / 2 (delta in radians) for small differences.

    Degrees in, a number without unit in [0, 2] out, any broadcasting shapes. The gradient with
    respect to the prediction in degrees is (pi / 180) sin(delta). It is also 0 at delta 180, the
    worst prediction.
    """
    half_turn = torch.deg2rad(signed_difference(prediction, target)) / 2.0
    # 1 - cos(delta) would round to 0 in float32 below 0.02 degrees; 2 sin^2(delta / 2) does not.
    return 2.0 * torch.sin(half_turn) ** 2


def von_mises_loss(
    prediction: Tensor, target: Tensor, concentration: Tensor | float = 1.0
) -> Tensor:
    """Negative log likelihood of the target under a von Mises distribution about the prediction.

    -log p = log(2 pi I0(kappa)) - kappa cos(delta), with I0 the modified Bessel function of order
    zero. I0 overflows float32 near kappa = 90; written with the scaled i0e(kappa) =
    exp(-kappa) I0(kappa), as kappa (1 - cos(delta)) + log(2 pi i0e(kappa)), it never does.

    Args:
        prediction: the mean direction, degrees, any shape.
        target: the observed angle, degrees, a shape that broadcasts with the prediction's.
        concentration: kappa >= 0, without unit; a number, or a tensor that broadcasts (a network
            may predict it). 0 is the uniform distribution; for large kappa the standard deviation
            is 1 / sqrt(kappa) radians.

    Returns:
        Nats, of the density per radian; negative if the density exceeds 1. Differentiable in
        all three arguments.

    Raises:
        ValueError: a concentration given as a number is negative or not finite. A tensor is not
            checked, as that would stall an accelerator.
    """
    if isinstance(concentration, (int, float)):
        if not (math.isfinite(concentration) and concentration >= 0):
            raise ValueError(f"concentration is {concentration}; allowed: finite numbers >= 0")
        concentration = torch.as_tensor(
            concentration, dtype=prediction.dtype, device=prediction.device
        )
    log_normaliser = math.log(2.0 * math.pi) + torch.log(torch.special.i0e(concentration))
    return concentration * cosine_loss(prediction, target) + log_normaliser


def encode_direction(angle: Tensor) -> Tensor:
    """Degrees of any shape (...) -> the unit vectors (sin, cos), shape (..., 2)."""
    radians = torch.deg2rad(angle)
    return torch.stack((torch.sin(radians), torch.cos(radians)), dim=-1)


def decode_direction(vector: Tensor) -> Tensor:
    """The angle of each vector (sin, cos), by atan2: the inverse of :func:`encode_direction`.

    Args:
        vector: shape (..., 2), of any positive length.

    Returns:
        Degrees in [0, 360), shape (...). The zero vector has no direction: its angle is 0 and its
        gradient 0, by the convention of ``torch.atan2``.

    Raises:
        ValueError: the last dimension is not 2.
    """
    _require_vectors(vector)
    degrees = torch.rad2deg(torch.atan2(vector[..., 0], vector[..., 1]))
    positive = torch.where(degrees < 0, degrees + 360.0, degrees)
    # -1e-9 + 360 rounds to 360, which is 0.
    return torch.where(positive >= 360.0, positive - 360.0, positive)


def sine_cosine_loss(vector: Tensor, target: Tensor) -> Tensor:
    """Squared distance of a predicted vector from the target's unit vector (sin, cos).

    For a prediction of length 1 it equals 2 (1 - cos(delta)). The length is free, so a network
    needs no constraint, and the loss is convex in the vector.

    Args:
        vector: predictions, shape (..., 2), in the order (sin, cos), without unit.
        target: degrees, shape (...).

    Returns:
        Losses without unit, shape (...). Differentiable everywhere.

    Raises:
        ValueError: the vector's last dimension is not 2.
    """
    _require_vectors(vector)
    return ((vector - encode_direction(target)) ** 2).sum(dim=-1)


def _require_vectors(vector: Tensor) -> None:
    if vector.ndim == 0 or vector.shape[-1] != 2:
        raise ValueError(f"vector has shape {tuple(vector.shape)}; allowed: (..., 2), (sin, cos)")


LOSSES: dict[str, AngleLoss] = {
    "absolute": absolute_loss,
    "wrapped": wrapped_loss,
    "cosine": cosine_loss,
    "von_mises": von_mises_loss,
}
"""Losses by name. Each compares predicted with true angles, in degrees, element by element."""
