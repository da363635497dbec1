"""Shared by the questions: checks, answers, mathematics as MathML, random functions, colours."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

import torch
from latex2mathml.converter import convert
from markupsafe import Markup
from torch import Tensor

from analysis.document import html
from analysis.style import COLOURS

BLUE, ORANGE, GREEN, VERMILION, SKY, _, BLACK = COLOURS

Map = Callable[[Tensor], Tensor]
"""A function of a tensor."""


def gradient(function: Map, point: Tensor) -> Tensor:
    """The gradient of a function with a value of shape (), in the shape of `point`."""
    # torch.func.grad imports torch._dynamo, which takes 2 s.
    found: Tensor = torch.autograd.functional.jacobian(function, point)
    return found


@dataclass(frozen=True)
class Check:
    """A claim and the number measured for it."""

    question: str
    """Number of the answer that makes the claim, such as "4a"."""
    claim: str
    """Description of the measured number; plain text."""
    measured: float
    allowed: float
    """The bound that the measured number is compared with."""
    comparison: Literal["at most", "at least"]
    """`at most` or `at least`: how the measured number must compare with the allowed one."""

    @property
    def passed(self) -> bool:
        """True if the comparison holds; False if the measured number is NaN."""
        if self.comparison == "at most":
            return self.measured <= self.allowed
        return self.measured >= self.allowed


def at_most(question: str, claim: str, measured: float, allowed: float) -> Check:
    """Check that a number is at most the allowed one."""
    return Check(question, claim, float(measured), float(allowed), "at most")


def at_least(question: str, claim: str, measured: float, allowed: float) -> Check:
    """Check that a number is at least the allowed one."""
    return Check(question, claim, float(measured), float(allowed), "at least")


@dataclass(frozen=True)
class Answer:
    """The answer to one question of the assignment."""

    number: str
    """The assignment's number: "1", "2", "3", "4a" ... "4d"."""
    title: str
    """Plain text."""
    texts: list[str]
    """Statement, then derivation: HTML with LaTeX, see `paragraph`."""
    original_text: str
    """The original solution's answer, and what is wrong with it: HTML with LaTeX."""

    @property
    def paragraphs(self) -> list[Markup]:
        """Statement and derivation as HTML, one ``<p>`` each, with mathematics as MathML."""
        return [paragraph(text) for text in self.texts]

    @property
    def original(self) -> Markup:
        """The part on the original solution as HTML, one ``<p>``, with mathematics as MathML."""
        return paragraph(self.original_text)

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows, the same as in the report."""
        return html("answer", {"answer": self})


def mathml(latex: str, display: bool = True) -> str:
    """Convert LaTeX to MathML, which browsers draw without script, font or network.

    Args:
        latex: without dollar signs. latex2mathml must support it; it does not support ``aligned``
            and ``\\operatorname``.
        display: on a line of its own; otherwise within the text.

    Returns:
        A ``<math>`` element.

    Raises:
        ValueError: latex2mathml leaves a part of the formula untranslated.
    """
    element = convert(latex, display="block" if display else "inline")
    try:
        drawn = "".join(ElementTree.fromstring(element).itertext())
    except ElementTree.ParseError as error:
        raise ValueError(f"no MathML for {latex!r}: {error}") from error
    if "\\" in drawn:
        raise ValueError(f"no MathML for {latex!r}: it has an unknown command")
    return str(element)


def paragraph(text: str) -> Markup:
    """Convert HTML with ``$inline$`` and ``$$displayed$$`` LaTeX to a ``<p>`` with MathML.

    The text is not escaped: use it only for text written in this package.
    """
    text = re.sub(r"\$\$([^$]+)\$\$", lambda match: mathml(match[1]), text)
    text = re.sub(r"\$([^$]+)\$", lambda match: mathml(match[1], display=False), text)
    return Markup("<p>{}</p>").format(Markup(text))


@dataclass(frozen=True)
class RandomFunction:
    """A random smooth function of n numbers, u -> sum over k of a_k sin(w_k . u + b_k).

    It has no symmetries that could hide an error. Its partial derivatives are known in closed form,
    so that a formula made of them can be compared with autograd.
    """

    amplitude: Tensor
    """(K,)"""
    frequency: Tensor
    """(K, n)"""
    phase: Tensor
    """(K,)"""

    @classmethod
    def draw(cls, arguments: int, generator: torch.Generator) -> "RandomFunction":
        """Standard normal amplitudes (over sqrt(K)) and frequencies, uniform phases, float64."""
        terms = 6  # K
        amplitude = normal(terms, generator=generator) / terms**0.5
        frequency = normal(terms, arguments, generator=generator)
        phase = 2 * torch.pi * torch.rand(terms, generator=generator, dtype=torch.float64)
        return cls(amplitude, frequency, phase)

    def __call__(self, *arguments: Tensor) -> Tensor:
        """The value at n scalar arguments, each of shape ()."""
        return (self.amplitude * torch.sin(self._angles(arguments))).sum()

    def at(self, point: Tensor) -> Tensor:
        """The value at a point of shape (n,)."""
        return self(*point.unbind())

    def partial(self, index: int, *arguments: Tensor) -> Tensor:
        """The derivative by argument ``index`` (from 1, as in formulas) at n arguments."""
        slopes = self.amplitude * self.frequency[:, index - 1]
        return (slopes * torch.cos(self._angles(arguments))).sum()

    def _angles(self, arguments: tuple[Tensor, ...]) -> Tensor:
        return self.frequency @ torch.stack(arguments) + self.phase


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers of the given shape, float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def compose(maps: Iterable[Map]) -> Map:
    """Compose the maps; the first one is applied first."""

    def composed(points: Tensor) -> Tensor:
        for function in maps:
            points = function(points)
        return points

    return composed
