"""The style of every figure: colours that survive greyscale and colour blindness, one font size."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from analysis.statistics import finite_mean

# Okabe & Ito (2008), ordered so that neighbours also differ in lightness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), "-")

PIXELS_AN_INCH = 110
"""Resolution of saved pictures."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": PIXELS_AN_INCH,
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "latent-study",  # the same figure gives the same file
}
"""Changes to matplotlib's default settings."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw with matplotlib's defaults and `STYLE` in the block or the decorated function.

    The user's settings have no effect inside, and are restored afterwards.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


class StyledFigure(Figure):
    """A figure that looks the same wherever it is shown or saved."""

    # Styled, because ticks are made when a figure is drawn, with the settings of that moment.
    draw = styled()(Figure.draw)
    savefig = styled()(Figure.savefig)


@styled()
def figure_as_png(drawn: Figure) -> bytes:
    """A figure as PNG. It is drawn only once; `savefig` draws twice."""
    drawn.set_dpi(PIXELS_AN_INCH)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return as_png(np.asarray(canvas.buffer_rgba()))


def as_png(picture: ArrayLike) -> bytes:
    """A picture, (H, W, 3 or 4), as PNG."""
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    return buffer.getvalue()


@styled()
def figure_as_svg(drawn: Figure) -> str:
    """A figure as SVG, drawn once, without a date: the same figure gives the same text."""
    buffer, canvas, dots = io.StringIO(), drawn.canvas, drawn.dpi
    try:
        FigureCanvasSVG(drawn).print_svg(buffer, metadata={"Date": None})
    finally:  # the figure has the new canvas now, and the resolution of `print_svg`
        drawn.set_canvas(canvas)
        drawn.set_dpi(dots)
    return buffer.getvalue()


@styled()
def figure(
    columns: int = 1, rows: int = 1, width: float = 8.0, height: float = 4.2, **kw: Any
) -> tuple[Figure, Any]:
    """A figure of `width` × `height` inches, and its axes (an array if more than one)."""
    made = StyledFigure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, **kw)


def literal(text: object) -> str:
    """Text from a results folder, with `$` escaped: matplotlib would read it as a formula."""
    return str(text).replace("$", r"\$")


def from_zero(axes: Axes) -> None:
    """Let the y axis begin at 0, with a margin above the highest mark even if all are high up."""
    low, high = axes.get_ylim()
    axes.set_ylim(0, high + 0.05 * max(0.0, low))


_TOLD: WeakKeyDictionary[Artist, list[tuple[str, str]]] = WeakKeyDictionary()


def attach_notes(artist: Artist, says: Iterable[object], cells: Iterable[str] = ()) -> None:
    """Attach a text and a cell id to each point of an artist; a page shows both with its values."""
    texts = list(map(str, says))
    ids = list(cells) or [""] * len(texts)
    _TOLD[artist] = list(zip(texts, ids, strict=True))


def notes_of(artist: Artist) -> list[tuple[str, str]]:
    """Texts and cell ids that `attach_notes` attached to an artist, one pair per point."""
    return _TOLD.get(artist, [])


def latent_dim_axis(axes: Axes, dims: Iterable[int], apart: float = 1.1) -> None:
    """Make x a logarithmic axis with a tick at each latent dimension.

    A tick has a label if it is at least `apart` times the last labelled one, so that labels don't
    overlap.
    """
    ticks = sorted({int(d) for d in dims})
    labelled = 0.0
    labels = []
    for tick in ticks:
        fits = tick >= apart * labelled
        labels.append(str(tick) if fits else "")
        labelled = tick if fits else labelled
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("latent dimension d")


def legend_below(made: Figure, panels: Any, columns: int = 3) -> None:
    """Draw one legend of all `panels` below them, each label once."""
    handles: dict[str, Artist] = {}
    for axes in np.ravel(panels):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    made.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def class_axis(axis: Axis, names: Sequence[str]) -> None:
    """Set ticks 0, 1 … with the names of classes, at most 40 of them.

    Long names on an x axis are rotated.
    """
    stride = -(-len(names) // 40)
    ticks = list(range(0, len(names), stride))
    axis.set_ticks(ticks, [literal(names[tick])[:24] for tick in ticks])
    if isinstance(axis, XAxis) and sum(map(len, names)) > 40:
        axis.set_tick_params(rotation=90)
    if len(names) > 12:
        axis.set_tick_params(labelsize=7)


def plain_log_ticks(axis: Axis) -> None:
    """Set ticks at 1, 2 and 5 times powers of ten on a log axis, written out (0.02; 20k)."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    )
    axis.set_minor_locator(NullLocator())


def error_bars(
    estimate: ArrayLike, low: ArrayLike, high: ArrayLike, scale: float = 1.0
) -> NDArray[np.float64] | None:
    """Lengths of bars below and above `estimate`, times `scale`: (2, n), as `yerr` takes it.

    Arguments are (n,) each. A point without an interval has NaN, which draws no bar; a bar of
    length 0 would look like certainty. None if no point has an interval.
    """
    centre, below, above = (scale * np.asarray(v, dtype=float) for v in (estimate, low, high))
    reach = np.stack([centre - below, above - centre])
    # Rounding can leave the mean of equal values outside its interval.
    return np.maximum(reach, 0) if np.isfinite(reach).any() else None


def marks(index: int) -> dict[str, Any]:
    """Colour and marker of series number `index` as keyword arguments of matplotlib.

    No two of the first 49 series share both.
    """
    return {"color": COLOURS[index % 7], "marker": MARKERS[(index + 3 * (index // 7)) % 7]}


@dataclass(frozen=True)
class Series:
    """Label, style and scale of one series of a figure."""

    label: str
    """Name in the legend."""
    index: int
    """Selects colour, marker and line style."""
    offset: float = 0.0
    """Fraction by which x is shifted, to separate series with the same x."""
    scale: float = 1.0
    """Factor for y, such as 100 for per cent."""
    within: tuple[float, float] = (-np.inf, np.inf)
    """Range of possible values, after `scale`; bars are clipped to it."""

    @property
    def marks(self) -> dict[str, Any]:
        """Colour and marker as keyword arguments of matplotlib."""
        return marks(self.index)


def draw_series(axes: Axes, table: pd.DataFrame, x: str, y: str, series: Series) -> None:
    """Draw every replicate as a small dot, and the mean with its Student-t interval.

    One replicate alone has no interval. Values that are not finite are left out.
    """
    table = table[np.isfinite(table[y].to_numpy(float))]
    if table.empty:
        return
    places = table[x].to_numpy(float) * (1 + series.offset)
    (dots,) = axes.plot(
        places,
        table[y] * series.scale,
        ".",
        color=series.marks["color"],
        alpha=0.35,
        markersize=4,
        zorder=2,
        gid=series.label,
    )
    if "replicate" in table:
        attach_notes(dots, "replicate " + table["replicate"].astype(str), cells_of(table))
    groups = [(value, group) for value, group in table.groupby(x)]
    intervals = [finite_mean(group[y].to_numpy(float) * series.scale) for _, group in groups]
    at = np.array([float(value) for value, _ in groups]) * (1 + series.offset)
    means, lows, highs = np.array([(i.estimate, i.low, i.high) for i in intervals]).T
    lows, highs = np.clip(lows, *series.within), np.clip(highs, *series.within)
    drawn = axes.errorbar(
        at,
        means,
        yerr=error_bars(means, lows, highs),
        **series.marks,
        linestyle=LINES[series.index % 7],
        markersize=5,
        capsize=2.5,
        linewidth=1.4,
        label=series.label,
        zorder=3,
    )
    attach_notes(
        drawn.lines[0],
        [f"mean, n = {interval.n}" for interval in intervals],
        [", ".join(dict.fromkeys(cells_of(group))) for _, group in groups],
    )


def draw_estimates(
    axes: Axes, table: pd.DataFrame, x: str, y: str, series: Series, **look: Any
) -> None:
    """Draw estimates `y` against `x` with bars from `low` to `high`; attach counts and cells."""
    reach = error_bars(table[y], table["low"], table["high"], series.scale)
    drawn = axes.errorbar(
        table[x] * (1 + series.offset),
        series.scale * table[y],
        yerr=reach,
        capsize=2.5,
        markersize=5,
        label=series.label,
        **series.marks | look,
    )
    tell_counts(drawn, table)


def tell_counts(drawn: ErrorbarContainer, table: pd.DataFrame) -> None:
    """Attach to each point of a table of estimates its number of observations, and its cells.

    The number is in the column `pairs`, `n` or `replicates`; without one, nothing is attached.
    """
    counts = next((table[name] for name in ("pairs", "n", "replicates") if name in table), None)
    if counts is not None:
        attach_notes(
            drawn.lines[0],
            "n = " + counts.astype(str).str.removesuffix(".0"),
            table.get("cells", ()),
        )


def cells_of(table: pd.DataFrame) -> list[str]:
    """The cell of each line of a table; empty texts if it has no cells."""
    return list(table["cell"]) if "cell" in table else [""] * len(table)


def on_paper(images: ArrayLike, is_dark: bool) -> NDArray[np.float64]:
    """Images (…, C, H, W) in [0, 1] as pictures (…, H, W, 3).

    Images that are light on black (`Dataset.is_dark`) become black on white.
    """
    array = np.clip(np.asarray(images, dtype=float), 0, 1)
    pictures = np.moveaxis(1 - array if is_dark else array, -3, -1)
    return np.broadcast_to(pictures, (*pictures.shape[:-1], 3))


def image_grid(axes: Axes, pictures: NDArray[np.float64]) -> None:
    """Draw a grid of pictures, (rows, columns, H, W, 3)."""
    gap = 2  # white pixels between pictures
    spaced = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1.0)
    rows, columns, height, width = spaced.shape[:4]
    sheet = spaced.swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    axes.imshow(sheet[:-gap, :-gap], interpolation="nearest")
    axes.set_axis_off()
