"""A figure as SVG for a page: text stays text, colours follow the page, marks show their values.

`inline` reads everything from the figure's artists, so drawing functions need no extra code. Three
conventions of `analysis.style` help: the `gid` of an artist without a label is the label of its
series; `attach_notes` adds lines to the text of marks; tick labels name values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Transform
from numpy.typing import NDArray

from analysis.style import COLOURS, figure_as_svg, notes_of

MOST_MARKS = 3000
"""Most marks of a figure that show their values; each takes some 80 bytes of the page."""

MOST_PIXELS = 400
"""Largest matrix drawn as colours, in pixels, whose pixels show their values."""

MOST_IN_WORDS = 12
"""Most series of a figure that its alternative text describes."""

NEAR = 0.03
"""A value this near to a tick, as a fraction of the axis, gets the tick's label: series are shifted
a little so that they can be told apart."""

SMALLEST_LETTERS = 10
"""Smallest font size on a page, in pixels; on pages too narrow for it, figures scroll."""

THEME = {
    colour.lower(): f"c{index}"
    for index, colour in enumerate(
        (*COLOURS, "#ffffff", "#dddddd", "#333333", "#444444", "#555555", "#666666", "#888888")
    )
}
"""CSS variable for each colour of a figure; dark mode sets them in templates/report.css."""


class Mark(NamedTuple):
    """A point of a figure that shows its values."""

    x: float
    """Points from the left."""
    y: float
    """Points from the top."""
    series: int
    """Index in the figure's series; -1 for none."""
    says: str
    """Text with the values, one per line."""
    cell: str = ""
    """Id of the cell it shows, if any."""


@dataclass
class Inline:
    """A figure for a page."""

    file: str
    """The SVG as a file of its own."""
    svg: str
    """The SVG as a part of a page."""
    themed: bool
    """True if its colours follow the page; False if it has images, as numbers may stand on them."""
    least: int
    """Width in pixels at which its smallest font size is `SMALLEST_LETTERS`."""
    marks: list[Mark]
    alt: str
    """The figure in words, computed from its marks."""


@dataclass
class _Drawn:
    """One series in one panel."""

    axes: Axes
    label: str
    artist: Artist
    points: NDArray[np.float64]
    """(n, 2), in the coordinates of `artist`."""
    bars: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Ends of the points' error bars, (n, 2), by axis `x` or `y`."""
    names: Sequence[str] = ()
    """Names of the points, if any, shown with their values."""

    @property
    def transform(self) -> Transform:
        """From `points` to pixels."""
        drawn = self.artist
        return drawn.get_transform() if isinstance(drawn, Line2D) else self.axes.transData

    @property
    def is_level(self) -> bool:
        """True for a line across the whole panel, whose x values are not data."""
        return self.transform != self.axes.transData


def shows_pictures(drawn: Figure) -> bool:
    """True for a figure with RGB images, such as photographs or digits; it stays a picture."""
    return any(len(image.get_shape()) == 3 for axes in drawn.axes for image in axes.images)


def inline(drawn: Figure) -> Inline:
    """The SVG and the marks of a figure that has been laid out."""
    panels = [found for axes in drawn.axes for found in _series_of(axes)]
    labels = list(dict.fromkeys(found.label for found in panels if found.label))
    _name_groups(drawn, labels)
    svg = figure_as_svg(drawn)
    width = 72 * drawn.get_size_inches()[0]
    marks = [mark for found in panels for mark in _marks(found, drawn, labels)]
    sizes = [text.get_fontsize() for text in drawn.findobj(Text) if text.get_text().strip()]
    themed = not any(axes.images for axes in drawn.axes)
    return Inline(
        file=svg,
        svg=_for_page(svg, THEME if themed else {}),
        themed=themed,
        least=round(width * SMALLEST_LETTERS / min(sizes, default=10)),
        marks=marks[:MOST_MARKS],
        alt=_in_words(panels),
    )


# --- what a figure holds ---------------------------------------------------------------------


def _series_of(axes: Axes) -> Iterator[_Drawn]:
    """The series in `axes` whose values are known."""
    if not axes.get_visible():
        return
    within: set[Artist] = set()
    for container in axes.containers:
        within.update(container.get_children())
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            line = container.lines[0]
            kinds = ["x"] * container.has_xerr + ["y"] * container.has_yerr
            bars = {
                which: np.array([_ends(segment, which) for segment in lines.get_segments()])
                for which, lines in zip(kinds, container.lines[2], strict=True)
            }
            label = _label(container, line)
            yield _Drawn(axes, label, line, np.asarray(line.get_xydata(), float), bars)
        elif isinstance(container, BarContainer):
            for patch in container.patches:
                (left, bottom), (right, top) = patch.get_bbox().get_points()
                flat = container.orientation == "horizontal"
                at = (right, (bottom + top) / 2) if flat else ((left + right) / 2, top)
                yield _Drawn(axes, _label(container, patch), patch, np.array([at]))
    for line in axes.lines:
        label = _label(line)
        if line not in within and (label or notes_of(line)):
            yield _Drawn(axes, label, line, np.asarray(line.get_xydata(), float))
    for image in axes.images:
        values = np.asarray(image.get_array())
        if values.ndim == 2 and values.size <= MOST_PIXELS and axes.axison:
            rows, columns = np.indices(values.shape)
            points = np.stack([columns.ravel(), rows.ravel()], 1).astype(float)
            names = [f"{value:.4g}" for value in values.ravel()]
            yield _Drawn(axes, "", image, points, names=names)


def _ends(bar: NDArray[np.float64], which: str) -> NDArray[np.float64]:
    """The ends of a bar, (2,), along an axis; NaN if it isn't drawn."""
    return bar[:, "xy".index(which)] if len(bar) == 2 else np.full(2, np.nan)


def _label(*artists: Any) -> str:
    """The series of the first artist that belongs to one; empty if none does."""
    for artist in artists:
        own = getattr(artist, "get_gid", lambda: None)()
        label = own or str(artist.get_label())
        if label and not label.startswith("_"):
            return str(label)
    return ""


def _name_groups(drawn: Figure, labels: list[str]) -> None:
    """Give artists and legend entries of each series the ids that `_for_page` looks for."""
    legends = [*drawn.legends, *filter(None, (axes.get_legend() for axes in drawn.axes))]
    count = 0

    def name(artist: Artist, kind: str, label: str) -> None:
        nonlocal count
        if label in labels:
            count += 1
            artist.set_gid(f"{kind}-{labels.index(label)}-{count}")

    for axes in drawn.axes:
        for container in axes.containers:
            label = _label(container, *container.get_children())
            for artist in container.get_children():
                name(artist, "series", label)
        for artist in (*axes.lines, *axes.collections):
            name(artist, "series", _label(artist))
    for legend in legends:
        for text in legend.get_texts():
            name(text, "legend", text.get_text())


def _for_page(svg: str, theme: Mapping[str, str]) -> str:
    """The `<svg>` element, ready to be part of a page.

    It has no size and no ids that another figure may share; CSS variables replace the colours of
    `theme`.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for size in ("width", "height"):
        svg = re.sub(rf'<svg ([^>]*?)\b{size}="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'id="(series|legend)-(\d+)-\d+"', r'data-\1="\2"', svg)
    svg = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", svg)

    def themed(found: re.Match[str]) -> str:
        variable = theme.get(found[0])
        return f"var(--{variable},{found[0]})" if variable else found[0]

    def shortened(tag: re.Match[str]) -> str:
        short = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", tag[0])
        short = re.sub(r"(\d\.\d\d)\d+", r"\1", short)
        return re.sub(r"#[0-9a-f]{6}\b", themed, short)

    return re.sub(r"<[^>]+>", shortened, svg)


# --- what its marks say ----------------------------------------------------------------------


def _marks(found: _Drawn, drawn: Figure, labels: list[str]) -> Iterator[Mark]:
    scale, height = 72 / drawn.dpi, 72 * drawn.get_size_inches()[1]
    pixels = found.transform.transform(found.points)
    inside = found.axes.bbox.padded(2)
    series = labels.index(found.label) if found.label else -1
    notes = notes_of(found.artist)
    for index, ((x, y), (across, up)) in enumerate(zip(found.points, pixels, strict=True)):
        if not (np.isfinite((across, up)).all() and inside.contains(across, up)):
            continue
        lines = _says(found, index, x, y)
        extra, cell = notes[index] if index < len(notes) else ("", "")
        says = "\n".join(filter(None, (*lines, extra)))
        yield Mark(round(across * scale, 1), round(height - up * scale, 1), series, says, cell)


def _says(found: _Drawn, index: int, x: float, y: float) -> list[str]:
    axes = found.axes
    title = " ".join(axes.get_title().split())
    up, across = _name(axes, "y"), _name(axes, "x")
    lines = [found.label, title if up else ""]

    def interval(which: str) -> str:
        low, high = found.bars[which][index] if which in found.bars else (np.nan, np.nan)
        return f" [{low:.4g}, {high:.4g}]" if np.isfinite((low, high)).all() else ""

    lines.append(f"{up or title or 'value'}: {_value(axes.yaxis, y)}{interval('y')}")
    if not found.is_level:
        lines.append(f"{across or 'at'}: {_value(axes.xaxis, x)}{interval('x')}")
    return [*lines, found.names[index] if found.names else ""]


def _name(axes: Axes, which: str) -> str:
    """The label of an axis, or of a panel that shares it."""
    shared = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    for one in (axes, *shared.get_siblings(axes)):
        axis: Axis = one.xaxis if which == "x" else one.yaxis
        if text := axis.get_label_text():
            return " ".join(text.split())
    return ""


def _value(axis: Axis, value: float) -> str:
    """A value in words: the label of the nearest tick if that is near, else four digits."""
    ticks, names, reach = _ticks(axis)
    if len(ticks):
        away = np.abs(ticks - float(axis.get_transform().transform(np.array([value]))[0]))
        nearest = int(away.argmin())
        if away[nearest] <= reach:
            return names[nearest]
    return f"{value:.4g}"


@lru_cache(8)
def _ticks(axis: Axis) -> tuple[NDArray[np.float64], list[str], float]:
    """Places of an axis' fixed ticks on its own scale, their labels, and how near a value must be
    to get one.

    Empty for an axis with automatic ticks.
    """
    places = np.asarray(axis.get_majorticklocs(), float)
    if not isinstance(axis.get_major_locator(), FixedLocator) or not len(places):
        return np.array([]), [], 0.0
    label = axis.get_major_formatter()
    names = [label(place, index) or f"{place:.4g}" for index, place in enumerate(places)]
    transform = axis.get_transform()
    low, high = transform.transform(np.asarray(axis.get_view_interval(), float))
    return transform.transform(places), names, NEAR * abs(high - low)


def _in_words(panels: list[_Drawn]) -> str:
    """The course of up to `MOST_IN_WORDS` series, from first mark to last, in words."""
    phrases = []
    for found in panels:
        points = found.points[np.isfinite(found.points).all(axis=1)]
        dots = isinstance(found.artist, Line2D) and found.artist.get_marker() == "."
        if found.names or dots or not len(points) or not found.label:
            continue
        (x0, y0), (x1, y1) = points[0], points[-1]
        axes = found.axes
        if found.is_level:
            course = f"{y0:.4g}"
        elif len(points) == 1:
            course = f"{_value(axes.yaxis, y0)} at {_value(axes.xaxis, x0)}"
        else:
            course = (
                f"from {_value(axes.yaxis, y0)} at {_value(axes.xaxis, x0)} "
                f"to {_value(axes.yaxis, y1)} at {_value(axes.xaxis, x1)}"
            )
        title = axes.get_title().replace("\n", " ")
        phrases.append(f"{title + ', ' if title else ''}{found.label}: {course}")
    if not phrases:
        return ""
    left = len(phrases) - MOST_IN_WORDS
    more = f"; and {left} more" if left > 0 else ""
    axes = panels[0].axes
    about = f"{_name(axes, 'y') or 'Values'} by {_name(axes, 'x') or 'setting'}. "
    return about + "; ".join(phrases[:MOST_IN_WORDS]) + more + "."
