"""Question 2: when gradient descent stops, and at what kind of point."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analysis.theory.common import (
    Answer,
    Check,
    RandomFunction,
    at_least,
    at_most,
    gradient,
    normal,
)
from analysis.theory.stationary import (
    CUBIC,
    MINUS_QUARTIC,
    QUARTIC,
    Function,
    bowl,
    double_well,
    hessian,
    hessian_eigenvalues,
    himmelblau,
    stationary_points,
)

_TEXTS = [
    r"""<b>Stopping condition.</b> From a start $x_0$, with step size $\eta > 0$, repeat
    $$x_{t+1} = x_t - \eta \, \nabla f(x_t) \quad \text{until} \quad
    \lVert \nabla f(x_t) \rVert \le \varepsilon,$$
    or until a maximal number of steps, which means: not converged. If $\nabla f$ has
    Lipschitz constant $\Lambda$ and $\eta \le 1/\Lambda$, every step gains
    $f(x_t) - f(x_{t+1}) \ge \tfrac{\eta}{2} \lVert \nabla f(x_t) \rVert^2$, so if $f \ge f_{\min}$
    the rule is met after at most $2\,(f(x_0) - f_{\min}) / (\eta \varepsilon^2)$ steps.""",
    r"""<b>What it promises:</b> an almost stationary point, no more. It may be a saddle (a start on
    its ridge descends to it); a flat function stops early ($x^4$ at
    $|x| \le (\varepsilon / 4)^{1/3}$); $e^{-x}$ meets the rule and has no stationary point at
    all. Where $f$ is strongly convex, $\nabla^2 f \succeq \mu I$ with $\mu > 0$, the minimum
    $x^*$ is near: $\lVert x_t - x^* \rVert \le \varepsilon / \mu$.""",
    r"""<b>Second-order expansion.</b> For $f$ three times continuously differentiable, with the
    gradient and the Hessian $H(x) = \nabla^2 f(x)$ both taken at $x$,
    $$f(x + h) = f(x) + \nabla f(x)^{\top} h + \tfrac{1}{2} \, h^{\top} H(x) \, h
    + O(\lVert h \rVert^3).$$
    The factor is the Taylor coefficient $1/2!$: the second derivative of
    $t \mapsto f(x + t h)$ at $t = 0$ is $h^{\top} H(x) h$. Without it the remainder is only
    $O(\lVert h \rVert^2)$.""",
    r"""<b>At a stationary point</b> $x^*$, $\nabla f(x^*) = 0$. Let $H = H(x^*)$, and let
    $\lambda_{\min}$ be its smallest eigenvalue. For some constant $C$ and all small $h$,
    $$f(x^* + h) - f(x^*) \ge \tfrac{1}{2} \, \lambda_{\min} \lVert h \rVert^2
    - C \lVert h \rVert^3,$$
    which is positive for $0 < \lVert h \rVert < \lambda_{\min} / (2C)$ if
    $\lambda_{\min} > 0$; the same for $-f$ gives the maximum. Along an eigenvector with
    eigenvalue $\lambda \ne 0$ the difference has the sign of $\lambda$ for small $h$. Therefore:
    $$\begin{array}{ll}
    H \succ 0 & \text{strict minimum} \\
    H \prec 0 & \text{strict maximum} \\
    H \; \text{has eigenvalues of both signs} & \text{saddle} \\
    H \; \text{semidefinite and singular} & \text{undecided}
    \end{array}$$""",
    r"""<b>Undecided</b> means that the second order cannot tell: $x^4$, $-x^4$ and $x^3$ all have
    $f'(0) = 0$ and $H = f''(0) = 0$, and at $0$ the first has a strict minimum, the second a strict
    maximum, the third neither. Likewise $x^2 + y^4$ and $x^2 - y^4$ share a singular $H \succeq 0$.
    So $H \succ 0$ is sufficient for a minimum, $H \succeq 0$ only necessary.""",
]

_ORIGINAL = r"""Its expansion lacks the factor $\tfrac{1}{2}$, so it is wrong by
$\tfrac{1}{2} h^{\top} H h$, the whole of the true second-order term; the signs, and so the cases,
stay the same. And it knows only $H > 0$, $H < 0$ and $H = 0$, as if $H$ were a number: a saddle,
with eigenvalues of both signs, is none of the three, nor is a singular $H$ other than $0$."""

ANSWERS = [
    Answer(
        "2",
        "Gradient descent: when it stops, and whether at a minimum or a maximum",
        _TEXTS,
        _ORIGINAL,
    )
]


@dataclass(frozen=True)
class Descent:
    """The end of a gradient descent: its last point, the gradient there, the steps taken."""

    point: Tensor
    """(n,)"""
    gradient_norm: float
    steps: int


def gradient_descent(
    function: Function,
    start: tuple[float, ...],
    step_size: float,
    tolerance: float = 1e-8,
    max_steps: int = 5_000,
) -> Descent:
    """Step against the gradient until its Euclidean norm is at most the tolerance.

    Args:
        function: the function of a point (n,) to minimise.
        start: n numbers.
        step_size: eta, constant.
        tolerance: epsilon, in units of the function over units of the point.
        max_steps: maximum number of steps.

    Returns:
        The last point, in float64. A descent that diverges runs to the last step.
    """
    point = torch.tensor(start, dtype=torch.float64)
    for step in range(max_steps + 1):
        slope = gradient(function, point)
        norm = float(slope.norm())
        if norm <= tolerance:
            return Descent(point, norm, step)
        if step < max_steps:
            point = point - step_size * slope
    return Descent(point, norm, max_steps)


def remainder_order(factor: float, seed: int) -> float:
    """The order in t of the remainder of the second-order expansion of f(x + t h).

    The remainder is r(t) = f(x + t h) - f(x) - t grad f(x) . h - factor t^2 h . H(x) h, root mean
    square over 32 random smooth functions of three numbers at random x and h, for t from 1e-2 to
    1e-3. The order is the slope of log r against log t.

    Args:
        factor: of the second-order term; 1/2 is Taylor's.
        seed: for the functions, points and directions.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-2, -3, 5, dtype=torch.float64)
    remainders = torch.empty(32, len(sizes), dtype=torch.float64)
    for row in remainders:
        f = RandomFunction.draw(3, generator).at
        x, h = normal(2, 3, generator=generator)
        slope = gradient(f, x) @ h
        curvature = h @ hessian(f, x) @ h
        values = torch.func.vmap(f)(x + sizes[:, None] * h)
        row.copy_(values - f(x) - sizes * slope - factor * sizes**2 * curvature)
    size_of_remainder = remainders.square().mean(dim=0).sqrt()
    return float(np.polyfit(sizes.log().numpy(), size_of_remainder.log().numpy(), deg=1)[0])


def checks(seed: int) -> list[Check]:
    """Measure the stopping rule, the classification and the order of the expansion."""
    return _descent_checks() + _classification_checks() + _expansion_checks(seed)


_at_most, _at_least = partial(at_most, "2"), partial(at_least, "2")


HIMMELBLAU_MINIMA = {
    (4.0, 4.0): (3.0, 2.0),
    (-3.0, 3.0): (-2.805118086953, 3.131312518250),
    (-3.0, -3.0): (-3.779310253378, -3.283185991286),
    (3.0, -1.0): (3.584428340330, -1.848126526964),
}
"""Starts of descents, each with the minimum in whose basin it lies."""


def _descent_checks() -> list[Check]:
    on_bowl = gradient_descent(bowl, (5, 5), 0.2)
    misses = [
        _distance(gradient_descent(himmelblau, start, 0.01).point, minimum)
        for start, minimum in HIMMELBLAU_MINIMA.items()
    ]
    on_ridge = gradient_descent(double_well, (0, 1), 0.2)
    ridge_eigenvalues = hessian_eigenvalues(double_well, on_ridge.point)
    on_quartic = gradient_descent(QUARTIC.function, (1,), 0.1, tolerance=1e-3)
    on_exponential = gradient_descent(lambda p: torch.exp(-p[0]), (3,), 50.0, tolerance=1e-4)
    on_line = gradient_descent(lambda p: 3 * p[0], (0,), 0.1, max_steps=100)
    too_large_steps = gradient_descent(bowl, (5, 5), 1.0, max_steps=100)
    return [
        _at_most(
            "(x − 1)² + 2(y + 2)², stopped by ε = 1e-8: gradient norm", on_bowl.gradient_norm, 1e-8
        ),
        _at_most(
            "there, distance from the minimum, ε/μ, μ = 2", _distance(on_bowl.point, (1, -2)), 5e-9
        ),
        _at_most("Himmelblau's four minima, largest distance from them", max(misses), 1e-8),
        _at_most(
            "(x² − 1)² + y² from (0, 1) stops at the saddle: distance from (0, 0)",
            _distance(on_ridge.point, (0, 0)),
            1e-8,
        ),
        _at_most(
            "and only the Hessian shows that it is no minimum: smallest eigenvalue",
            float(ridge_eigenvalues[0]),
            -1.0,
        ),
        _at_most(
            "x⁴, stopped by ε = 1e-3: distance from 0, (ε/4)^(1/3)",
            abs(float(on_quartic.point)),
            (1e-3 / 4) ** (1 / 3),
        ),
        _at_least(
            "so ε says little of the distance: distance / ε",
            abs(float(on_quartic.point)) / 1e-3,
            10.0,
        ),
        _at_most(
            "exp(−x), no stationary point, yet stopped by ε = 1e-4: gradient norm",
            on_exponential.gradient_norm,
            1e-4,
        ),
        _at_least("3x, gradient never small: steps taken of 100 allowed", on_line.steps, 100.0),
        _at_least(
            "step size 1 > 2/Λ = 1/2 on the first function: gradient norm after 100 steps",
            too_large_steps.gradient_norm,
            1e6,
        ),
    ]


def _classification_checks() -> list[Check]:
    table = stationary_points()
    count = len(table)
    is_decided = table["verdict"] != "undecided"
    decided, undecided = table[is_decided], table[~is_decided]
    powers = table[table["function"].isin([QUARTIC.formula, MINUS_QUARTIC.formula, CUBIC.formula])]
    power_eigenvalues = powers[["smallest_eigenvalue", "largest_eigenvalue"]]
    return [
        _at_most(f"{count} known points, largest gradient norm", table["gradient_norm"].max(), 0.0),
        _at_most(
            f"{count} known points, wrong verdicts by the Hessian's eigenvalues",
            (table["verdict"] != table["expected_verdict"]).sum(),
            0.0,
        ),
        _at_most(
            f"{count} known points, wrong natures by looking at points nearby",
            (table["nature_nearby"] != table["nature"]).sum(),
            0.0,
        ),
        _at_most(
            f"{len(decided)} decided points, verdicts that points nearby contradict",
            (decided["verdict"] != decided["nature_nearby"]).sum(),
            0.0,
        ),
        _at_most(
            "x⁴, −x⁴, x³ at 0 have the same H = 0: largest absolute eigenvalue",
            power_eigenvalues.abs().to_numpy().max(),
            0.0,
        ),
        _at_least("and three different natures", powers["nature_nearby"].nunique(), 3.0),
        _at_least(
            f"{len(undecided)} undecided points, different natures among them",
            undecided["nature_nearby"].nunique(),
            4.0,
        ),
    ]


def _expansion_checks(seed: int) -> list[Check]:
    return [
        _at_least("order of the remainder with ½, in theory 3", remainder_order(0.5, seed), 2.9),
        _at_most("order of the remainder without ½, in theory 2", remainder_order(1.0, seed), 2.1),
    ]


def _distance(point: Tensor, other: tuple[float, ...]) -> float:
    return float((point - torch.tensor(other, dtype=torch.float64)).norm())
