"""Question 3: a loss for an angle that treats 0 and 360 degrees as the same direction."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.style import StyledFigure, styled
from analysis.theory.common import (
    BLACK,
    BLUE,
    ORANGE,
    SKY,
    VERMILION,
    Answer,
    Check,
    at_least,
    at_most,
)
from trainables.rotation.losses import (
    LOSSES,
    AngleLoss,
    absolute_loss,
    cosine_loss,
    decode_direction,
    encode_direction,
    sine_cosine_loss,
    von_mises_loss,
    wrapped_loss,
)

CIRCULAR = {name: loss for name, loss in LOSSES.items() if name != "absolute"}


_TEXTS = [
    r"""Let $\hat{y}$ be the predicted and $y$ the true angle in degrees. The <b>signed
    difference</b> is the shortest turn from $y$ to $\hat{y}$,
    $$\delta = \bigl((\hat{y} - y + 180) \; \text{mod} \; 360\bigr) - 180 \in [-180, 180), \qquad
    \ell_{\text{wrapped}} = |\delta|.$$
    For $\hat{y} = 2$, $y = 360$: $\hat{y} - y = -358$, so
    $\delta = (-178 \; \text{mod} \; 360) - 180 = 182 - 180 = 2$, where
    $|\hat{y} - y| = 358$. It keeps the unit of degrees. Where $\delta$ is neither $0$ nor
    $\pm 180$, $\partial \ell_{\text{wrapped}} / \partial \hat{y} = \text{sign}(\delta)$ at
    $\delta$; at those two points there is no derivative, and one-sided derivatives $\pm 1$.""",
    r"""<b>Differentiable everywhere</b> is any smooth function of period 360. The simplest is
    $$\ell_{\cos} = 1 - \cos \delta, \qquad
    \frac{\partial \ell_{\cos}}{\partial \hat{y}} = \frac{\pi}{180} \sin \delta .$$
    For small $\delta$ (in radians) it is $\delta^2 / 2$, so it behaves like the squared error. Its
    gradient also vanishes at $\delta = \pm 180$, the worst prediction, from which a descent
    starts slowly.""",
    r"""<b>As a likelihood.</b> The von Mises distribution with mean direction $\hat{y}$ and
    concentration $\kappa \ge 0$ has the density
    $p(y) = e^{\kappa \cos \delta} / (2 \pi I_0(\kappa))$ per radian, so
    $$-\log p(y) = \kappa \, (1 - \cos \delta) + \log\bigl(2 \pi \, e^{-\kappa} I_0(\kappa)\bigr).$$
    For fixed $\kappa$ this is $\ell_{\cos}$ scaled and shifted; with $\kappa$ predicted, the
    model also says how sure it is. The scaled Bessel function $e^{-\kappa} I_0(\kappa)$
    stays finite where $I_0(\kappa)$ overflows.""",
    r"""<b>As a regression on a vector.</b> Let the network predict $v \in \mathbb{R}^2$, minimise
    $\ell = \lVert v - (\sin y, \cos y) \rVert^2$, and decode with
    $\hat{y} = \text{atan2}(v_1, v_2) \; \text{mod} \; 360$. For $\lVert v \rVert = 1$ it equals
    $2\,(1 - \cos \delta)$.""",
    r"""<b>Not</b> $\arccos(\cos \delta)$: equal to $|\delta|$ in value, but by the chain rule its
    derivative is $\sin \delta / \sqrt{1 - \cos^2 \delta}$, which at $\delta = 0$ and
    $\pm 180$ is $0/0$; in floating point that gives NaN or infinite gradients.""",
]

_ORIGINAL = r"""It takes both angles modulo 360 and then $\min(|\Delta|, 360 - |\Delta|)$. That is
right: it equals $|\delta|$ everywhere, so 2° against 360° costs 2°. It has the two kinks of
$|\delta|$, at $0$ and $\pm 180$, and the same gradient, of size 1 however small the error, where
that of the smooth losses shrinks with the error."""

ANSWERS = [Answer("3", "A loss for an angle: loss(2°, 360°) = 2°, not 358°", _TEXTS, _ORIGINAL)]


def original_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The original's loss: min(D, 360 - D) with D = abs(prediction mod 360 - target mod 360)."""
    distance = torch.abs(torch.remainder(prediction, 360.0) - torch.remainder(target, 360.0))
    return torch.minimum(distance, 360.0 - distance)


def arccos_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """arccos(cos(delta)) in degrees: right values, but no finite gradient at multiples of 180."""
    return torch.rad2deg(torch.arccos(torch.cos(torch.deg2rad(prediction - target))))


# --- checks ---------------------------------------------------------------------------------

_at_most, _at_least = partial(at_most, "3"), partial(at_least, "3")


def checks(seed: int) -> list[Check]:
    """Measure values, symmetry, period, gradients and the likelihood's normalisation."""
    two, full_turn = _degrees(2.0), _degrees(360.0)
    turn = torch.linspace(-720, 720, 14_401, dtype=torch.float64)
    zero = torch.zeros_like(turn)
    return [
        _at_most(
            "wrapped loss of 2° against 360°, distance from 2°",
            abs(wrapped_loss(two, full_turn).item() - 2),
            1e-12,
        ),
        _at_most(
            "naive loss of 2° against 360°, distance from 358°",
            abs(absolute_loss(two, full_turn).item() - 358),
            1e-12,
        ),
        _at_most(
            "the original's loss against the wrapped loss, −720° to 720°, largest difference in °",
            _largest(original_loss(turn, zero) - wrapped_loss(turn, zero)),
            1e-10,
        ),
        *_property_checks(seed),
        *_smoothness_checks(),
        *_likelihood_checks(),
        *_vector_checks(turn),
    ]


def _property_checks(seed: int) -> list[Check]:
    generator = torch.Generator().manual_seed(seed)
    prediction, target = 720 * torch.rand(2, 1_000, generator=generator, dtype=torch.float64) - 360
    # Central differences need both neighbours on one side of a kink.
    smooth = torch.abs(torch.sin(torch.deg2rad(prediction - target))) > 1e-3
    away, truth = prediction[smooth], target[smooth]
    kinks = torch.arange(-720, 721, 180, dtype=torch.float64)
    found = []
    for name, loss in CIRCULAR.items():
        value = loss(prediction, target)
        step = 1e-4
        slope = (loss(away + step, truth) - loss(away - step, truth)) / (2 * step)
        at_kinks = gradient(loss, kinks)
        found += [
            _at_most(
                f"{name}: loss(a, b) against loss(b, a), largest difference",
                _largest(value - loss(target, prediction)),
                1e-10,
            ),
            _at_most(
                f"{name}: change when 360° is added to the prediction, at most",
                _largest(value - loss(prediction + 360, target)),
                1e-10,
            ),
            _at_most(
                f"{name}: gradient against finite differences away from 0° and 180°",
                _largest(slope - gradient(loss, away, truth)),
                1e-7,
            ),
            _at_most(
                f"{name}: gradients that are not finite at multiples of 180°",
                int((~torch.isfinite(at_kinks)).sum()),
                0,
            ),
        ]
    lost = int((~torch.isfinite(gradient(arccos_loss, kinks))).sum())
    return [
        *found,
        _at_least("arccos(cos δ): gradients that are not finite at multiples of 180°", lost, 1),
    ]


def _smoothness_checks() -> list[Check]:
    found = []
    for degrees in (0.0, 180.0):
        sides = _degrees(degrees) + torch.tensor([-1e-6, 1e-6], dtype=torch.float64)
        for name, loss in CIRCULAR.items():
            jump = float(gradient(loss, sides).diff().abs())
            claim = f"{name}: jump of the gradient at δ = {degrees:.0f}°"
            if name == "wrapped":
                found.append(_at_least(f"{claim} (a kink)", jump, 1.999))
            else:
                found.append(_at_most(f"{claim} (smooth)", jump, 1e-6))
    return found


def _likelihood_checks() -> list[Check]:
    angle = torch.arange(0, 360, 0.01, dtype=torch.float64)
    width = torch.deg2rad(_degrees(0.01))
    concentrations = torch.tensor([0.0, 0.5, 1, 10, 100, 10_000], dtype=torch.float64)
    loss = von_mises_loss(angle, _degrees(123.4), concentrations[:, None])
    mass = torch.exp(-loss).sum(dim=1) * width
    large = torch.tensor([1e2, 1e4, 1e6])
    return [
        _at_most(
            "von Mises density, κ = 0 to 10,000: largest distance of its integral from 1",
            _largest(mass - 1),
            1e-9,
        ),
        _at_most(
            "von Mises loss in float32, κ to 1,000,000: values that are not finite",
            int((~torch.isfinite(von_mises_loss(large, torch.zeros(3), large))).sum()),
            0,
        ),
        _at_least(
            "I₀ without scaling in float32, κ to 1,000,000: values that are not finite",
            int((~torch.isfinite(torch.special.i0(large))).sum()),
            1,
        ),
    ]


def _vector_checks(turn: Tensor) -> list[Check]:
    vector = encode_direction(turn)
    target = _degrees(77.0)
    return [
        _at_most(
            "(sin, cos) decoded by atan2 against the angle, largest wrapped difference in °",
            _largest(wrapped_loss(decode_direction(3 * vector), turn)),
            1e-10,
        ),
        _at_most(
            "(sin, cos) regression of unit vectors against 2 (1 − cos δ), largest difference",
            _largest(sine_cosine_loss(vector, target) - 2 * cosine_loss(turn, target)),
            1e-12,
        ),
    ]


def gradient(loss: AngleLoss, prediction: Tensor, target: Tensor | None = None) -> Tensor:
    """The derivative by the prediction, per degree, (N,); the target defaults to 0."""
    inputs = prediction.detach().clone().requires_grad_()
    truth = torch.zeros_like(prediction) if target is None else target
    return torch.autograd.grad(loss(inputs, truth).sum(), inputs)[0]


def _degrees(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _largest(error: Tensor) -> float:
    return float(error.abs().max())


# --- figure ---------------------------------------------------------------------------------


@styled()
def draw_circular_losses() -> Figure:
    """Draw the losses and their gradients against the difference, -390 to 390 degrees.

    Left: the losses in degrees, naive and wrapped. Right: the smooth losses. Open circles mark
    values and one-sided gradients at points without a derivative. The filled squares are the
    losses of 2 against 360 degrees.
    """
    figure = StyledFigure(figsize=(9, 6.8), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    in_degrees: list[_Curve] = [
        ("naive $|\\hat{y} - y|$", absolute_loss, ORANGE, "-", 5),
        ("wrapped $|\\delta|$", wrapped_loss, BLUE, "--", 2),
    ]
    smooth: list[_Curve] = [
        ("$1 - \\cos\\delta$", cosine_loss, SKY, "-", 5),
        ("von Mises $\\kappa = 1$", von_mises_loss, VERMILION, "--", 2),
        ("$\\kappa = 2$", _sharper_von_mises, BLACK, ":", 2),
    ]
    for (upper, lower), curves in zip(panels.T, (in_degrees, smooth), strict=True):
        _draw_curves(upper, curves, _against_zero)
        _draw_curves(lower, curves, gradient)
        upper.legend(loc="upper center", fontsize=9, ncols=len(curves), columnspacing=1.5)
    _mark_kinks(*panels[:, 0])
    _mark_two_degrees(panels[0, 0])

    panels[0, 0].set(title="In degrees: kinks", ylabel="loss (degrees)", ylim=(-25, 560))
    panels[0, 1].set(title="Smooth", ylabel="loss (no unit; von Mises: nats)", ylim=(-0.25, 5.6))
    panels[1, 0].set(ylabel="gradient (degrees per degree)", ylim=(-1.5, 1.5))
    panels[1, 1].set(ylabel="gradient (per degree)")
    for axes in panels[1]:
        axes.set_xlabel("difference $\\hat{y} - y$ (degrees)")
    for axes in panels.flat:
        axes.set_xticks(range(-360, 361, 180))
        axes.grid(alpha=0.3)
    return figure


_Curve = tuple[str, AngleLoss, str, str, float]
"""Label, loss, colour, line style, line width in points; a thin line is visible on a wide one."""


def _against_zero(loss: AngleLoss, turn: Tensor) -> Tensor:
    return loss(turn, torch.zeros_like(turn))


def _sharper_von_mises(prediction: Tensor, target: Tensor) -> Tensor:
    return von_mises_loss(prediction, target, 2.0)


def _draw_curves(
    axes: Axes, curves: list[_Curve], quantity: Callable[[AngleLoss, Tensor], Tensor]
) -> None:
    # Separate pieces between multiples of 180, so that no line crosses a jump of a gradient.
    ends = [-390, -360, -180, 0, 180, 360, 390]
    for label, loss, colour, style, width in curves:
        for piece, (start, end) in enumerate(pairwise(ends)):
            turn = torch.linspace(start + 1e-3, end - 1e-3, 91, dtype=torch.float64)
            values = quantity(loss, turn)
            (line,) = axes.plot(turn, values, style, color=colour, linewidth=width)
            if piece == 0:
                line.set_label(label)


def _mark_kinks(losses: Axes, gradients: Axes) -> None:
    """Draw open circles on the losses' kinks, and at both ends of each jump of the gradients."""
    at = torch.arange(-360, 361, 180, dtype=torch.float64)
    _draw_rings(losses, at, _against_zero(wrapped_loss, at))
    for side in (-1e-6, 1e-6):
        _draw_rings(gradients, at, gradient(wrapped_loss, at + side))
    losses.annotate(
        "○ no derivative:\nnaive at 0° only,\nwrapped at multiples of 180°",
        (0, 0),
        xytext=(0, 330),
        ha="center",
        fontsize=9,
    )


def _draw_rings(axes: Axes, turn: Tensor, value: Tensor) -> None:
    axes.plot(turn, value, "o", color=BLACK, markerfacecolor="white", markersize=7, zorder=3)


def _mark_two_degrees(losses: Axes) -> None:
    arrow = {"arrowstyle": "->", "color": BLACK}
    for value, text, place in [
        (358, "2° against 360°,\nnaive: 358°", (-375, 425)),
        (2, "wrapped: 2°", (-300, 18)),
    ]:
        losses.plot(-358, value, "s", color=BLACK, markersize=5, zorder=4)
        losses.annotate(text, (-358, value), xytext=place, arrowprops=arrow, fontsize=9)
