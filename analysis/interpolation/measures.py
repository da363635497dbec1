"""The measures: of the way that a path of pictures takes, of codes, and of a judge's readings.

How near a picture is to real ones is in `judge.RealImages`; `scorecard` takes means of all these.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.interpolation.judge import FloatArray
from analysis.redundancy import RELATIVE_RESOLUTION
from trainables.networks import Autoencoder

# --- the way that a path takes -------------------------------------------------------------------


def path_over_chord(path: Tensor) -> Tensor:
    """How much longer the way through `path` (P, A, C, H, W) is than the straight line between
    its ends, as Euclidean distances of pixels: (P,), at least 1; NaN where the ends coincide."""
    return _steps(path).sum(dim=1) / _chord(path)


def smoothness(path: Tensor) -> Tensor:
    """How uneven the steps of `path` (P, A, C, H, W) are: (P,), 0 for equal steps along a
    straight line, NaN where the ends coincide.

    The longest step over the distance of the ends, less 1/(A − 1). `path` is that of the *nearest
    real images*, as in ACAI (Berthelot et al. 2018, "Understanding and improving interpolation in
    autoencoders via an adversarial regularizer", section 4.1; lib/eval.py of brain-research/acai):
    by the decoded images themselves a pure cross-dissolve would be perfect. ACAI's images are
    drawn strokes, and its step is the difference of the angles of two strokes; other images have no
    such parameter, so the step is the distance of two images.
    """
    steps = _steps(path)
    return steps.amax(dim=1) / _chord(path) - 1 / steps.shape[1]


def distance_from_cross_dissolve(path: Tensor) -> Tensor:
    """How far the midpoint of `path` (P, A, C, H, W), A odd, is from the pixel blend of its
    ends, over half the distance of these: (P,).

    0 is pure cross-dissolve: both classes at once, as a linear decoder shows them. 1 is as far
    from the blend as the ends are.
    """
    start, end, middle = path[:, 0], path[:, -1], path[:, path.shape[1] // 2]
    return _norm(middle - (start + end) / 2) / (_chord(path) / 2)


def _norm(images: Tensor) -> Tensor:
    return images.flatten(-3).norm(dim=-1)


def _steps(path: Tensor) -> Tensor:
    return _norm(path[:, 1:] - path[:, :-1])


def _chord(path: Tensor) -> Tensor:
    """Distance of the ends of `path` (P, A, C, H, W): (P,), NaN where they coincide."""
    chord = _norm(path[:, -1] - path[:, 0])
    return torch.where(chord > 0, chord, torch.nan)


# --- codes ---------------------------------------------------------------------------------------


def spread(codes: Tensor) -> float:
    """Root mean square distance of `codes` (N, d) from their mean: a model's unit of length."""
    return float((codes - codes.mean(dim=0)).square().sum(dim=1).mean().sqrt())


@torch.no_grad()
def cycle_error(model: Autoencoder, codes: Tensor, images: Tensor, unit: float) -> Tensor:
    """‖E(D(z)) − z‖ of `codes` z (N, d) that decode to `images` (N, C, H, W), (N,), over
    `unit`, the `spread` of the codes of the test images. 1 is as far off as the mean code is; NaN
    where codes do not spread by more than the rounding of float32."""
    varied = unit > RELATIVE_RESOLUTION * codes.norm(dim=1)
    return torch.where(varied, (model.encoder(images) - codes).norm(dim=1) / unit, torch.nan)


# --- readings of a judge -------------------------------------------------------------------------


def judged(probabilities: FloatArray, pair: tuple[int, int]) -> dict[str, FloatArray]:
    """`confidence` (the largest probability), `entropy`, `outside` and `both`, (...) each, of
    probabilities (..., C)."""
    return {
        "confidence": probabilities.max(axis=-1),
        "entropy": entropy(probabilities),
        "outside": outside(probabilities, *pair),
        "both": both(probabilities, *pair),
    }


def seen_by_most(probabilities: FloatArray, number: int) -> NDArray[np.bool_]:
    """Whether more than half of the judges take a picture for the class of this `number`, (N,), by
    their probabilities (J, N, K)."""
    agree: NDArray[np.bool_] = (probabilities.argmax(axis=2) == number).mean(axis=0) > 0.5
    return agree


def entropy(probabilities: FloatArray) -> FloatArray:
    """Shannon entropy −Σ p ln p in nats of each row of (..., C): (...), from 0 to ln C."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))  # 0 ln 0 = 0
    return -(probabilities * logarithms).sum(axis=-1)


def outside(probabilities: FloatArray, first: int, second: int) -> FloatArray:
    """The probability of every class but two, of each row of (..., C): (...), from 0 to 1."""
    return np.clip(1 - probabilities[..., first] - probabilities[..., second], 0, 1)


def both(probabilities: FloatArray, first: int, second: int) -> FloatArray:
    """Twice the probability of the less likely of two classes, of each row of (..., C): (...).

    1 where the judge is torn between exactly these two, as it is when it sees both at once; 0
    where one of them has no probability at all.
    """
    return 2 * np.minimum(probabilities[..., first], probabilities[..., second])
