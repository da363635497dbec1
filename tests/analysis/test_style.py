"""Figures look the same whatever is configured, and leave a user's settings alone."""

import io
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from inspect import get_annotations, getmembers, isfunction
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG

import analysis
from analysis import theory
from analysis.style import figure, figure_as_svg, from_zero

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "text.usetex": True,
    "font.size": 30,
    "font.family": "monospace",
    "axes.grid": False,
    "axes.formatter.use_locale": True,
    "lines.linewidth": 9,
    "svg.fonttype": "none",
    "path.sketch": (1, 100, 2),
    "savefig.transparent": True,
    "figure.facecolor": "black",
}


def figure_svg():
    file = io.StringIO()
    theory.draw_stationary_points().savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_figure_starts_from_the_defaults():
    expected = figure_svg()
    with matplotlib.rc_context(SETTINGS):
        before = dict(matplotlib.rcParams)
        assert figure_svg() == expected
        assert dict(matplotlib.rcParams) == before


def test_figure_can_be_shown_under_other_settings():
    figure = theory.draw_stationary_points()
    before = figure.canvas.print_figure(io.BytesIO(), format="png")
    with matplotlib.rc_context({"text.usetex": True}):  # would need LaTeX
        assert figure.canvas.print_figure(io.BytesIO(), format="png") == before


def test_svg_leaves_canvas_and_resolution_of_the_figure(monkeypatch):
    figure = theory.draw_stationary_points()
    figure.set_dpi(123)
    canvas = figure.canvas
    figure_as_svg(figure)
    assert (figure.canvas, figure.dpi) == (canvas, 123)

    def fail(self, *given, **options):
        self.figure.set_dpi(72)
        raise OSError("the disk is full")

    monkeypatch.setattr(FigureCanvasSVG, "print_svg", fail)
    with pytest.raises(OSError, match="full"):
        figure_as_svg(figure)
    assert (figure.canvas, figure.dpi) == (canvas, 123)


def test_every_function_that_draws_a_figure_is_styled():
    found = set()
    for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
        for name, function in getmembers(import_module(module.name), isfunction):
            returned = get_annotations(function).get("return")
            if getattr(returned, "__name__", returned) == "Figure":
                assert hasattr(function, "__wrapped__"), f"{function.__module__}.{name}"
                found.add(function)
    assert len(found) > 20


def test_import_leaves_the_settings_of_a_notebook_alone():
    code = """
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams["font.size"] = 30
before = dict(matplotlib.rcParams)
from analysis import style
style.figure()
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_axis_from_zero_has_room_above_its_highest_mark():
    _, axes = figure()
    axes.plot([1, 2], [0.95, 1.0], marker="x")
    from_zero(axes)
    from_zero(axes)  # as for panels that share the axis
    low, high = axes.get_ylim()
    assert low == 0
    assert pytest.approx(high, abs=0.003) == 1.05
