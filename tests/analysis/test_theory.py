"""The theory's checks pass, measure what they say, and the mathematics renders offline."""

import io
import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import theory
from analysis.style import STYLE
from analysis.theory import chain_rule, circular, composition
from analysis.theory.common import Check, RandomFunction, compose, mathml
from analysis.theory.descent import gradient_descent, remainder_order
from analysis.theory.stationary import bowl, classify, double_well, stationary_points


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def checks() -> pd.DataFrame:
    return theory.checks(seed=0)


# --- the table of checks --------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_check_passes(seed: int) -> None:
    table = theory.checks(seed)
    assert table[~table["passed"]].to_dict("records") == []


def test_checks_are_tidy_and_cover_every_answer(checks: pd.DataFrame) -> None:
    columns = ["question", "claim", "measured", "comparison", "allowed", "passed"]
    assert list(checks.columns) == columns
    assert not checks.duplicated(["question", "claim"]).any()
    assert set(checks["question"]) == {answer.number for answer in theory.answers()}
    assert checks["measured"].dtype == checks["allowed"].dtype == float


def test_checks_repeat_with_their_seed(checks: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(checks, theory.checks(seed=0))


def test_check_compares() -> None:
    assert Check("1", "", 1.0, 1.0, "at most").passed
    assert not Check("1", "", 1.1, 1.0, "at most").passed
    assert Check("1", "", 1.0, 1.0, "at least").passed
    assert not Check("1", "", 0.9, 1.0, "at least").passed
    assert not Check("1", "", math.nan, 1.0, "at most").passed
    assert not Check("1", "", math.nan, 1.0, "at least").passed


# --- 1: composition -------------------------------------------------------------------------


def test_equal_arguments_do_not_detect_relu() -> None:
    x, y = double(1, -2)[:, None], double(-1, 3)[:, None]
    assert composition.additivity_error(torch.relu, x, x) == 0
    assert composition.additivity_error(torch.relu, x, y) == 2 / 3  # 0, 1, not 1, 3


def test_composition_applies_the_first_map_first() -> None:
    twice = composition.affine_map(double(2)[:, None])
    plus_one = composition.affine_map(double(1)[:, None], double(1))
    assert compose([twice, plus_one])(double(3)).item() == 7
    assert compose([plus_one, twice])(double(3)).item() == 8


# --- 2: gradient descent and stationary points ----------------------------------------------


def test_descent_stops_at_a_small_gradient() -> None:
    end = gradient_descent(bowl, (5, 5), step_size=0.2, tolerance=1e-6)
    assert end.gradient_norm <= 1e-6
    assert end.point.tolist() == pytest.approx([1, -2], abs=1e-6)
    # The slower coordinate has gradient 8 at the start, times 0.6 a step.
    assert end.steps == math.ceil(math.log(1e-6 / 8) / math.log(0.6))


def test_descent_stops_at_the_step_limit() -> None:
    end = gradient_descent(lambda p: 3 * p[0], (0,), step_size=0.1, max_steps=7)
    assert end.steps == 7
    assert end.point.item() == pytest.approx(-2.1)


def test_descent_at_a_stationary_point_takes_no_step() -> None:
    end = gradient_descent(double_well, (0, 0), step_size=0.1)
    assert (end.steps, end.gradient_norm) == (0, 0)


@pytest.mark.parametrize(
    ("eigenvalues", "verdict"),
    [
        ((2, 4), "strict minimum"),
        ((-3, -1), "strict maximum"),
        ((-2, 2), "saddle"),
        ((-2, 0, 2), "saddle"),
        ((0, 2), "undecided"),
        ((-2, 0), "undecided"),
        ((0,), "undecided"),
        ((1e-12, 1), "undecided"),
    ],
)
def test_classification_by_eigenvalues(eigenvalues: tuple[float, ...], verdict: str) -> None:
    assert classify(double(*eigenvalues)) == verdict


def test_table_of_stationary_points() -> None:
    table = stationary_points()
    assert (table["gradient_norm"] == 0).all()
    found = table.set_index(["function", "point"])[["verdict", "nature_nearby"]]
    assert dict(zip(found.index, found.itertuples(index=False, name=None), strict=True)) == {
        ("(x − 1)² + 2(y + 2)²", "(1, -2)"): ("strict minimum", "strict minimum"),
        ("Himmelblau", "(3, 2)"): ("strict minimum", "strict minimum"),
        ("(x² − 1)² + y²", "(1, 0)"): ("strict minimum", "strict minimum"),
        ("(x² − 1)² + y²", "(0, 0)"): ("saddle", "saddle"),
        ("−x² − xy − y²", "(0, 0)"): ("strict maximum", "strict maximum"),
        ("x² − y²", "(0, 0)"): ("saddle", "saddle"),
        ("x⁴", "(0)"): ("undecided", "strict minimum"),
        ("−x⁴", "(0)"): ("undecided", "strict maximum"),
        ("x³", "(0)"): ("undecided", "saddle"),
        ("x² + y⁴", "(0, 0)"): ("undecided", "strict minimum"),
        ("x² − y⁴", "(0, 0)"): ("undecided", "saddle"),
        ("x² in the plane", "(0, 0)"): ("undecided", "not strict"),
        ("x³ − 3xy²", "(0, 0)"): ("undecided", "saddle"),
    }


@pytest.mark.parametrize(("factor", "order"), [(0.5, 3), (1.0, 2), (0.0, 2)])
def test_only_factor_half_leaves_third_order_remainder(factor: float, order: float) -> None:
    assert remainder_order(factor, seed=3) == pytest.approx(order, abs=0.1)


# --- 3: circular losses ---------------------------------------------------------------------


def test_originals_loss_is_right_in_value() -> None:
    assert circular.original_loss(double(2), double(360)).item() == 2
    assert circular.original_loss(double(10), double(300)).item() == 70


def test_arccos_has_no_gradient_where_the_losses_have_one() -> None:
    kinks = double(-180, 0, 180)
    assert not torch.isfinite(circular.gradient(circular.arccos_loss, kinks)).any()
    for loss in circular.CIRCULAR.values():
        assert torch.isfinite(circular.gradient(loss, kinks)).all()


# --- 4: chain rules, on functions whose derivatives are known by hand -----------------------


def sine(*frequency: float) -> RandomFunction:
    """sin(w . u), made of the class that the checks draw at random."""
    return RandomFunction(double(1), double(*frequency)[None], double(0))


def test_partial_derivatives_match_autograd() -> None:
    f = RandomFunction.draw(3, torch.Generator().manual_seed(1))
    point = double(0.3, -1.2, 0.7)
    by_autograd = torch.func.grad(f.at)(point)
    for index in (1, 2, 3):
        assert f.partial(index, *point).item() == pytest.approx(by_autograd[index - 1].item())


def test_answer_a_by_hand() -> None:
    x, y, z = double(0.2, 0.5, 0.9)
    # sin(3(x + y) + 5(2x) + 7z) = sin(13x + 3y + 7z)
    expected = 13 * math.cos(13 * 0.2 + 3 * 0.5 + 7 * 0.9)
    assert chain_rule.answer_a(sine(3, 5, 7), x, y, z).item() == pytest.approx(expected)


def test_answer_b_by_hand() -> None:
    x = double(0.4)[0]
    # sin(2 sin(3x))
    expected = 2 * math.cos(2 * math.sin(1.2)) * 3 * math.cos(1.2)
    assert chain_rule.answer_b([sine(2), sine(3)], x).item() == pytest.approx(expected)


def test_answer_c_by_hand() -> None:
    x = double(0.4)[0]
    # u2 = sin(2x + 3 sin(5x)); u1 = sin(7x + 11 u2)
    inner = 2 * 0.4 + 3 * math.sin(2.0)
    slope = math.cos(inner) * (2 + 3 * 5 * math.cos(2.0))
    expected = math.cos(7 * 0.4 + 11 * math.sin(inner)) * (7 + 11 * slope)
    functions = [sine(7, 11), sine(2, 3), sine(5)]
    assert chain_rule.answer_c(functions, x).item() == pytest.approx(expected)


def test_answer_d_by_hand() -> None:
    x = double(0.4)[0]
    v = 0.4 + math.sin(5 * 0.4)
    u = 0.4 + math.sin(3 * v)
    expected = 2 * math.cos(2 * u) * (1 + 3 * math.cos(3 * v) * (1 + 5 * math.cos(2.0)))
    assert chain_rule.answer_d(sine(2), sine(3), sine(5), x).item() == pytest.approx(expected)


# --- mathematics and figures ----------------------------------------------------------------


def test_answers_are_well_formed_and_need_no_network() -> None:
    answers = theory.answers()
    assert [answer.number for answer in answers] == ["1", "2", "3", "4a", "4b", "4c", "4d"]
    for answer in answers:
        for html in [*answer.paragraphs, answer.original]:
            assert html.startswith("<p>")
            assert html.endswith("</p>")
            ElementTree.fromstring(html)
            assert "$" not in html
            assert "\\" not in html
            assert "src=" not in html
            assert "href=" not in html
        assert any("<math" in html for html in answer.paragraphs)


def test_mathml_is_inline_or_a_block() -> None:
    assert 'display="inline"' in mathml("x^2", display=False)
    displayed = ElementTree.fromstring(mathml(r"\frac{1}{2} h"))
    assert displayed.get("display") == "block"
    assert displayed.tag == "{http://www.w3.org/1998/Math/MathML}math"
    assert [part.tag.split("}")[1] for part in displayed[0]] == ["mfrac", "mi"]


@pytest.mark.parametrize("latex", [r"\begin{aligned} a &= b \end{aligned}", r"\nosuchthing x"])
def test_mathml_refuses_what_it_cannot_translate(latex: str) -> None:
    with pytest.raises(ValueError, match="no MathML for"):
        mathml(latex)


def test_circular_figure_shows_the_numbers() -> None:
    figure = theory.draw_circular_losses()
    in_degrees, smooth, gradients, _ = figure.axes
    assert any("358" in text.get_text() for text in in_degrees.texts)
    assert any("2°" in text.get_text() for text in in_degrees.texts)
    squares = [line for line in in_degrees.lines if line.get_marker() == "s"]
    assert [np.asarray(line.get_xydata()).tolist() for line in squares] == [
        [[-358, 358]],
        [[-358, 2]],
    ]
    rings = [line for line in gradients.lines if line.get_marker() == "o"]
    left, right = (np.asarray(ring.get_ydata()).tolist() for ring in rings)
    assert left == [-1, 1, -1, 1, -1]  # at -360, -180, 0, 180, 360 degrees
    assert right == [1, -1, 1, -1, 1]
    assert len(smooth.get_legend_handles_labels()[1]) == 3
    for axes in figure.axes:
        assert axes.get_ylabel()
    figure.savefig(io.BytesIO())


def test_circular_figure_draws_its_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setitem(STYLE, "svg.fonttype", "none")
    theory.draw_circular_losses().savefig(file, format="svg")
    assert "κ" in file.getvalue()
    texts = "".join(ElementTree.fromstring(file.getvalue()).itertext())
    assert "$" not in texts


def test_figure_of_stationary_points_draws_every_kind() -> None:
    figure = theory.draw_stationary_points()
    verdicts = [axes.get_title().splitlines()[-1] for axes in figure.axes]
    assert verdicts == [
        "strict minimum",
        "strict maximum",
        "saddle",
        "undecided; in fact a strict minimum",
        "undecided; in fact a strict maximum",
        "undecided; in fact neither",
    ]
    figure.savefig(io.BytesIO())
