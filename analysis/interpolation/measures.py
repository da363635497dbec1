"""The measures of paths of pictures, of codes, and of a judge's readings.

`judge.RealImages` measures how near a picture is to real ones; `scorecard` averages all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.redundancy import RELATIVE_RESOLUTION
from analysis.statistics.interval import FloatArray
from trainables.networks import Autoencoder

# --- paths ---------------------------------------------------------------------------------------


def path_over_chord(path: Tensor) -> Tensor:
    """Length of `path` (P, A, C, H, W) over the distance between its ends, (P,).

    Both are Euclidean distances of pixels. At least 1; NaN if the ends coincide.
    """
    return _steps(path).sum(dim=1) / _chord(path)


def smoothness(path: Tensor) -> Tensor:
    """Unevenness of the steps of `path` (P, A, C, H, W), (P,).

    It is the longest step over the distance between the ends, minus 1/(A − 1): 0 for equal steps
    along a straight line, NaN if the ends coincide.

    `path` must be that of the *nearest real images*, as in ACAI (Berthelot et al. 2018,
    "Understanding and improving interpolation in autoencoders via an adversarial regularizer",
    section 4.1; lib/eval.py of brain-research/acai). With the decoded images themselves, a pure
    cross-dissolve would be perfect. ACAI's images are drawn strokes, and its step is the difference
    of the angles of two strokes. Other images have no such parameter, so here the step is the
    distance of two images.
    """
    steps = _steps(path)
    return steps.amax(dim=1) / _chord(path) - 1 / steps.shape[1]


def distance_from_cross_dissolve(path: Tensor) -> Tensor:
    """Distance of the midpoint of `path` from the pixel blend of its ends, (P,).

    `path` is (P, A, C, H, W), A odd. The unit is half the distance between the ends: 0 is pure
    cross-dissolve, both classes at once as a linear decoder shows them; 1 is as far from the blend
    as the ends are. NaN if the ends coincide.
    """
    start, end, middle = path[:, 0], path[:, -1], path[:, path.shape[1] // 2]
    return _norm(middle - (start + end) / 2) / (_chord(path) / 2)


def _norm(images: Tensor) -> Tensor:
    return images.flatten(-3).norm(dim=-1)


def _steps(path: Tensor) -> Tensor:
    return _norm(path[:, 1:] - path[:, :-1])


def _chord(path: Tensor) -> Tensor:
    """Distance between the ends of `path` (P, A, C, H, W), (P,); NaN if they coincide."""
    chord = _norm(path[:, -1] - path[:, 0])
    return torch.where(chord > 0, chord, torch.nan)


# --- codes ---------------------------------------------------------------------------------------


def code_spread(codes: Tensor) -> float:
    """Root mean square distance of `codes` (N, d) from their mean: a model's unit of length."""
    return float((codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def cycle_error(model: Autoencoder, codes: Tensor, images: Tensor, unit: float) -> Tensor:
    """‖E(D(z)) − z‖ / `unit` of `codes` z (N, d) that decode to `images` (N, C, H, W), (N,).

    `unit` is the `code_spread` of the codes of test images: 1 is as far from z as the mean code
    typically is. NaN if the spread is no more than the rounding of float32.
    """
    varied = unit > RELATIVE_RESOLUTION * codes.norm(dim=1)
    return torch.where(varied, (model.encoder(images) - codes).norm(dim=1) / unit, torch.nan)


# --- readings of a judge -------------------------------------------------------------------------


def judge_readings(probabilities: FloatArray, pair: tuple[int, int]) -> dict[str, FloatArray]:
    """Readings of `probabilities` (..., C), each of shape (...).

    These are `confidence` (the largest probability), `entropy`, `outside` and `both`.
    """
    return {
        "confidence": probabilities.max(axis=-1),
        "entropy": entropy(probabilities),
        "outside": outside(probabilities, *pair),
        "both": both(probabilities, *pair),
    }


def seen_by_most(probabilities: FloatArray, number: int) -> NDArray[np.bool_]:
    """True for each picture, (N,), that more than half of the judges assign to class `number`.

    `probabilities` are the judges', (J, N, K).
    """
    agree: NDArray[np.bool_] = (probabilities.argmax(axis=2) == number).mean(axis=0) > 0.5
    return agree


def entropy(probabilities: FloatArray) -> FloatArray:
    """Shannon entropy −Σ p ln p in nats of each row of (..., C): (...), from 0 to ln C."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))  # 0 ln 0 = 0
    return -(probabilities * logarithms).sum(axis=-1)


def outside(probabilities: FloatArray, first: int, second: int) -> FloatArray:
    """Probability of all classes but two, for each row of (..., C), (...), from 0 to 1."""
    return np.clip(1 - probabilities[..., first] - probabilities[..., second], 0, 1)


def both(probabilities: FloatArray, first: int, second: int) -> FloatArray:
    """Twice the probability of the less likely of two classes, for each row of (..., C), (...).

    1 if the judge gives ½ to each, as it does when it sees both at once; 0 if one of them has
    probability 0.
    """
    return 2 * np.minimum(probabilities[..., first], probabilities[..., second])
