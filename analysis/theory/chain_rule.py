"""Question 4: four derivatives by the chain rule, each function with its point of evaluation."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from analysis.theory.common import (
    Answer,
    Check,
    Map,
    RandomFunction,
    at_least,
    at_most,
    compose,
    gradient,
    normal,
)

DRAWS = 20
"""Number of random functions and points per formula."""
AUTOGRAD_ERROR = 1e-10
"""Allowed error against autograd: float64 rounding through up to six nested functions."""


ANSWERS = [
    Answer(
        "4a",
        "Derivative by x of f(x + y, 2x, z)",
        [
            r"""Write $f_i$ for the partial derivative of $f$ by its $i$-th argument. Then
            $$\frac{\partial}{\partial x} f(x + y,\, 2x,\, z)
            = f_1(x + y,\, 2x,\, z) + 2 \, f_2(x + y,\, 2x,\, z).$$""",
            r"""<b>Derivation.</b> Let $u = x + y$, $v = 2x$, $w = z$. By the chain rule,
            $$\frac{\partial f}{\partial x}
            = f_1(u, v, w) \, \frac{\partial u}{\partial x}
            + f_2(u, v, w) \, \frac{\partial v}{\partial x}
            + f_3(u, v, w) \, \frac{\partial w}{\partial x},$$
            and at every $(x, y, z)$ the inner derivatives are $1$, $2$ and $0$.""",
        ],
        r"""It answered $(1, 2, 0)$. Those are the inner derivatives
        $\partial(u, v, w) / \partial x$; the answer is their product with
        $\nabla f(x + y, 2x, z)$, a number that depends on $f$. No answer without $f$ can be
        right: two functions $f$ have different derivatives at the same point.""",
    ),
    Answer(
        "4b",
        "Derivative of f₁(f₂(… fₙ(x)))",
        [
            r"""Let $u_{n+1} = x$ and $u_i = f_i(u_{i+1})$ for $i = n, \ldots, 1$. Then
            $$\frac{d}{dx} f_1(f_2(\cdots f_n(x))) = \prod_{i=1}^{n} f_i'(u_{i+1}).$$""",
            r"""<b>Derivation.</b> $u_1$ is the whole. From $u_i = f_i(u_{i+1})$, the chain rule
            for one variable gives
            $$\frac{d u_i}{dx} = f_i'(u_{i+1}) \, \frac{d u_{i+1}}{dx}, \qquad
            \frac{d u_{n+1}}{dx} = 1,$$
            and inserting these for $i = 1, 2, \ldots, n$ gives the product. So $f_n'$ is taken at
            $x$, and $f_1'$ at $f_2(\cdots f_n(x))$.""",
        ],
        r"""Right: it has the same product in Leibniz's notation, with the points of evaluation. A
        product $\prod_i f_i'(x)$, with every factor at $x$, would be wrong.""",
    ),
    Answer(
        "4c",
        "Derivative of f₁(x, f₂(x, … fₙ₋₁(x, fₙ(x))))",
        [
            r"""Let $u_n = f_n(x)$ and $u_j = f_j(x, u_{j+1})$ for $j = n - 1, \ldots, 1$, and write
            $\partial_1, \partial_2$ for the derivatives by the first and the second argument. Then
            $$\frac{d u_1}{dx} = \sum_{i=1}^{n-1}
            \left( \prod_{j=1}^{i-1} \partial_2 f_j(x, u_{j+1}) \right)
            \partial_1 f_i(x, u_{i+1})
            + \left( \prod_{j=1}^{n-1} \partial_2 f_j(x, u_{j+1}) \right) f_n'(x).$$""",
            r"""<b>Derivation.</b> $u_j$ depends on $x$ directly and through $u_{j+1}$:
            $$\frac{d u_j}{dx} = \partial_1 f_j(x, u_{j+1})
            + \partial_2 f_j(x, u_{j+1}) \, \frac{d u_{j+1}}{dx}, \qquad
            \frac{d u_n}{dx} = f_n'(x).$$
            Insert the equation for $j = 2$ into that for $j = 1$, then $j = 3$, and so on: each
            step adds one term to the sum and one factor $\partial_2 f_j$ to the product, an empty
            product being $1$.""",
        ],
        r"""Right, as nested brackets that give the same sum, but without the points of evaluation.
        Leaving out the direct dependence on $x$, that is all terms but the last, would be
        wrong.""",
    ),
    Answer(
        "4d",
        "Derivative of f(x + g(x + h(x)))",
        [
            r"""$$\frac{d}{dx} f(x + g(x + h(x))) = f'(x + g(x + h(x))) \,
            \bigl[\, 1 + g'(x + h(x)) \, \bigl(1 + h'(x)\bigr) \bigr].$$""",
            r"""<b>Derivation.</b> Let $v = x + h(x)$ and $u = x + g(v)$. Then, with $h'$ taken at
            $x$, $g'$ at $v = x + h(x)$ and $f'$ at $u = x + g(x + h(x))$,
            $$\frac{dv}{dx} = 1 + h'(x), \qquad
            \frac{du}{dx} = 1 + g'(v) \, \frac{dv}{dx}, \qquad
            \frac{d}{dx} f(u) = f'(u) \, \frac{du}{dx}.$$""",
        ],
        r"""It gave $f'(u)\,[1 + g'(v)]\,[1 + h'(x)]$, with $u$ and $v$ as above. The outer $1$, the
        direct dependence on $x$, must not be multiplied by $1 + h'(x)$: the formula is too large
        by $f'(u)\,h'(x)$, which the checks measure.""",
    ),
]


# --- the answers as code --------------------------------------------------------------------


def answer_a(f: RandomFunction, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """f_1 + 2 f_2, both at (x + y, 2x, z)."""
    point = (x + y, 2 * x, z)
    return f.partial(1, *point) + 2 * f.partial(2, *point)


def answer_b(functions: Sequence[RandomFunction], x: Tensor) -> Tensor:
    """The product of f_i'(u_{i+1}); functions f_1 ... f_n of one argument."""
    product, inner = torch.ones_like(x), x
    for f in reversed(functions):
        product = product * f.partial(1, inner)
        inner = f(inner)
    return product


def answer_c(functions: Sequence[RandomFunction], x: Tensor) -> Tensor:
    """The sum over i of (product of d2 f_j, j < i) d1 f_i, and (product of all d2 f_j) f_n'.

    Functions f_1 ... f_{n-1} of two arguments, f_n of one.
    """
    *outer, last = functions
    inner = [last(x)]  # u_n, then u_{n-1} ... u_2 in front of it
    for f in reversed(outer[1:]):
        inner.insert(0, f(x, inner[0]))
    total, product = torch.zeros_like(x), torch.ones_like(x)
    for f, u in zip(outer, inner, strict=bool(outer)):
        total = total + product * f.partial(1, x, u)
        product = product * f.partial(2, x, u)
    return total + product * last.partial(1, x)


def answer_d(f: RandomFunction, g: RandomFunction, h: RandomFunction, x: Tensor) -> Tensor:
    """f'(x + g(x + h(x))) [1 + g'(x + h(x)) (1 + h'(x))]."""
    v = x + h(x)
    u = x + g(v)
    return f.partial(1, u) * (1 + g.partial(1, v) * (1 + h.partial(1, x)))


# --- the differentiated functions -----------------------------------------------------------


def sum_and_double(f: RandomFunction, y: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """f(x + y, 2x, z)."""
    return f(x + y, 2 * x, z)


def nested_with_x(functions: Sequence[RandomFunction], x: Tensor) -> Tensor:
    """f_1(x, f_2(x, ... f_{n-1}(x, f_n(x))))."""
    *outer, last = functions
    value = last(x)
    for f in reversed(outer):
        value = f(x, value)
    return value


def nested_sums(f: RandomFunction, g: RandomFunction, h: RandomFunction, x: Tensor) -> Tensor:
    """f(x + g(x + h(x)))."""
    return f(x + g(x + h(x)))


# --- checks ---------------------------------------------------------------------------------


def checks(seed: int) -> list[Check]:
    """Check the four answers by autograd, and that wrong formulas differ."""
    generator = torch.Generator().manual_seed(seed)
    return [
        *_checks_a(generator),
        *_checks_b(generator),
        *_checks_c(generator),
        *_checks_d(generator),
    ]


def _checks_a(generator: torch.Generator) -> list[Check]:
    errors, sums, gaps = _Errors(), [], []
    for _ in range(DRAWS):
        f, other = (RandomFunction.draw(3, generator) for _ in range(2))
        x, y, z = normal(3, generator=generator)
        answer = answer_a(f, x, y, z)
        errors.add(answer, partial(sum_and_double, f, y, z), x)
        sums.append(abs(float(answer) - (1 + 2 + 0)))
        gaps.append(abs(float(answer - answer_a(other, x, y, z))))
    return [
        errors.check("4a", "f₁ + 2 f₂"),
        _differs("4a", "the original's (1, 2, 0), summed to a number", sums),
        _differs("4a", "the derivatives of two functions f at one point", gaps),
    ]


def _checks_b(generator: torch.Generator) -> list[Check]:
    found, at_x = [], []
    for n in (1, 2, 3, 6):
        errors = _Errors()
        for _ in range(DRAWS):
            functions = [RandomFunction.draw(1, generator) for _ in range(n)]
            x = normal(1, generator=generator)[0]
            answer = answer_b(functions, x)
            errors.add(answer, compose(functions[::-1]), x)
            if n == 2:
                all_at_x = functions[0].partial(1, x) * functions[1].partial(1, x)
                at_x.append(abs(float(all_at_x - answer)))
        found.append(errors.check("4b", f"the product, n = {n}"))
    return [*found, _differs("4b", "the product with every factor at x, n = 2", at_x)]


def _checks_c(generator: torch.Generator) -> list[Check]:
    found, last_only = [], []
    for n in (1, 2, 3, 6):
        errors = _Errors()
        for _ in range(DRAWS):
            functions = [RandomFunction.draw(2, generator) for _ in range(n - 1)]
            functions.append(RandomFunction.draw(1, generator))
            x = normal(1, generator=generator)[0]
            answer = answer_c(functions, x)
            errors.add(answer, partial(nested_with_x, functions), x)
            if n == 2:
                outer, last = functions
                last_term = outer.partial(2, x, last(x)) * last.partial(1, x)
                last_only.append(abs(float(last_term - answer)))
        found.append(errors.check("4c", f"the sum, n = {n}"))
    return [*found, _differs("4c", "the last term only, n = 2", last_only)]


def _checks_d(generator: torch.Generator) -> list[Check]:
    errors = _Errors()
    originals, excess = [], []
    for _ in range(DRAWS):
        f, g, h = (RandomFunction.draw(1, generator) for _ in range(3))
        x = normal(1, generator=generator)[0]
        answer = answer_d(f, g, h, x)
        errors.add(answer, partial(nested_sums, f, g, h), x)
        v = x + h(x)
        df, dg, dh = f.partial(1, x + g(v)), g.partial(1, v), h.partial(1, x)
        original = df * (1 + dg) * (1 + dh)
        originals.append(abs(float(original - answer)))
        excess.append(abs(float(original - answer - df * dh)))
    return [
        errors.check("4d", "f′ [1 + g′ (1 + h′)]"),
        _differs("4d", "the original's f′ [1 + g′] [1 + h′]", originals),
        at_most("4d", "the original − the answer − f′ h′: largest", max(excess), 1e-12),
    ]


class _Errors:
    """Errors of a formula against autograd, over the draws."""

    def __init__(self) -> None:
        self.exact: list[float] = []
        self.errors: list[float] = []

    def add(self, answer: Tensor, function: Map, x: Tensor) -> None:
        """Compare the answer at x with the function's derivative there."""
        exact = gradient(function, x)
        self.exact.append(float(exact))
        self.errors.append(abs(float(answer - exact)))

    def check(self, question: str, formula: str) -> Check:
        """Check the largest error, relative to the root mean square of the derivative."""
        error = max(self.errors) / _root_mean_square(self.exact)
        claim = f"{formula}: largest relative error against autograd"
        return at_most(question, claim, error, AUTOGRAD_ERROR)


def _differs(question: str, formula: str, gaps: list[float]) -> Check:
    """Check that a wrong formula is visibly off: by 0.1 in root mean square over the draws."""
    claim = f"{formula}: root mean square difference"
    return at_least(question, claim, _root_mean_square(gaps), 0.1)


def _root_mean_square(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
