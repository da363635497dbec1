"""Question 1: the composition of linear maps is linear, of affine maps affine."""

import torch
from torch import Tensor

from analysis.theory.common import Answer, Check, Map, at_least, at_most, compose, normal

ROUNDING = 1e-12
"""Allowed relative error of an identity in float64: rounding through a few matrix products."""


_TEXTS = [
    r"""<b>Linear.</b> $L: \mathbb{R}^n \to \mathbb{R}^m$ is linear if, for <em>all</em>
    $x, y \in \mathbb{R}^n$ and all $\alpha, \beta \in \mathbb{R}$,
    $$L(\alpha x + \beta y) = \alpha L(x) + \beta L(y).$$
    Let $M: \mathbb{R}^m \to \mathbb{R}^k$ be linear too. Use the property of $L$ inside, then
    that of $M$ at the points $L(x)$ and $L(y)$:
    $$M(L(\alpha x + \beta y)) = M(\alpha L(x) + \beta L(y)) = \alpha M(L(x)) + \beta M(L(y)).$$
    So $M \circ L$ is linear. With matrices, $L(x) = Ax$ and $M(u) = Bu$, it is
    $x \mapsto (BA)\,x$.""",
    r"""<b>Affine.</b> $F$ is affine if $F(x) = Ax + b$ for a matrix $A$ and a vector $b$. With
    $G(u) = Cu + d$,
    $$G(F(x)) = C(Ax + b) + d = (CA)\,x + (Cb + d),$$
    which has the same form, so $G \circ F$ is affine. Without coordinates: affine maps are those
    that preserve affine combinations,
    $F(\sum_i t_i x_i) = \sum_i t_i F(x_i)$ whenever $\sum_i t_i = 1$,
    and applying first $F$ and then $G$ preserves them too.""",
    r"""<b>By induction</b> both hold for any number of maps. Hence a network of linear layers
    without activations is one affine map, however deep, and a linear autoencoder cannot have a
    lower squared error on its training data than principal component analysis.""",
]

_ORIGINAL = r"""It shows the scalar case only, $n = m = k = 1$, and uses one $x$ for both arguments.
That is not enough: $\phi(x) = \max(0, x)$ satisfies $\phi(x + x) = \phi(x) + \phi(x)$ for every
$x$ and is not linear: $\phi(1 + (-1)) = 0$, but $\phi(1) + \phi(-1) = 1$."""

ANSWERS = [
    Answer(
        "1",
        "The composition of linear functions is linear, of affine functions affine",
        _TEXTS,
        _ORIGINAL,
    )
]


def checks(seed: int) -> list[Check]:
    """Check both claims on random maps R^5 -> R^7 -> R^4 -> R^6 -> R^3.

    ReLU, which is not linear, is the counterexample.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [5, 7, 4, 6, 3]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    matrices = [normal(*shape, generator=generator) for shape in shapes]
    offsets = [normal(shape[0], generator=generator) for shape in shapes]

    linear = compose([affine_map(matrix) for matrix in matrices])
    affine = compose([affine_map(*pair) for pair in zip(matrices, offsets, strict=True)])
    x, y = normal(64, 5, generator=generator), normal(64, 5, generator=generator)
    scale = normal(64, 1, generator=generator)
    points = normal(64, 4, 5, generator=generator)
    weights = normal(64, 4, generator=generator)
    weights_to_one = weights + (1 - weights.sum(dim=1, keepdim=True)) / 4

    at_zero = affine(torch.zeros(5, dtype=torch.float64))

    def affine_minus_value_at_zero(point: Tensor) -> Tensor:
        return affine(point) - at_zero

    def identity(claim: str, error: float) -> Check:
        return at_most("1", claim, error, ROUNDING)

    def counterexample(claim: str, error: float) -> Check:
        return at_least("1", claim, error, 0.01)

    return [
        identity(
            "four random linear maps composed, error of L(x + y) = L(x) + L(y), y other than x",
            additivity_error(linear, x, y),
        ),
        identity(
            "four random linear maps composed, error of L(a x) = a L(x)",
            relative_error(linear(scale * x), scale * linear(x)),
        ),
        identity(
            "four random linear maps composed, error against the product of their matrices",
            relative_error(linear(x), x @ torch.linalg.multi_dot(matrices[::-1]).T),
        ),
        identity(
            "four random affine maps composed, error on affine combinations (weights sum to 1)",
            combination_error(affine, weights_to_one, points),
        ),
        identity(
            "four random affine maps composed minus their value at 0, error of additivity",
            additivity_error(affine_minus_value_at_zero, x, y),
        ),
        counterexample(
            "the same affine map on combinations whose weights do not sum to 1: error",
            combination_error(affine, weights, points),
        ),
        identity(
            "ReLU, which is not linear, seems additive with one x for both arguments: error",
            additivity_error(torch.relu, x, x),
        ),
        counterexample(
            "ReLU with two different arguments is found out: error of additivity",
            additivity_error(torch.relu, x, y),
        ),
    ]


def affine_map(matrix: Tensor, offset: Tensor | float = 0.0) -> Map:
    """The affine map of a matrix (m, n) and an offset (m,), from (..., n) to (..., m).

    Without an offset it is linear.
    """
    return lambda points: points @ matrix.T + offset


def additivity_error(function: Map, x: Tensor, y: Tensor) -> float:
    """The relative error of f(x + y) = f(x) + f(y) over points x, y of shape (N, n)."""
    return relative_error(function(x + y), function(x) + function(y))


def combination_error(function: Map, weights: Tensor, points: Tensor) -> float:
    """The relative error of f(sum t_i x_i) = sum t_i f(x_i), weights (N, k), points (N, k, n)."""
    combined = (weights[:, :, None] * points).sum(dim=1)
    return relative_error(function(combined), (weights[:, :, None] * function(points)).sum(dim=1))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference over the largest absolute expected value."""
    return float((found - expected).abs().max() / expected.abs().max())
