"""A report as data: sections of sentences, figures and tables, rendered to one HTML file.

The file can be mailed: it holds its figures and, unless they are large, its tables as downloads.
Beside it are the figures as PNG and SVG and the tables as CSV and Parquet. All HTML comes from
`analysis/templates`, which escape every text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import infer_dtype

from analysis.inline import inline, shows_pictures
from analysis.statistics import finite_mean
from analysis.style import save_png
from analysis.words import WORDS, explained
from study.errors import DataMissing, StoreError

if TYPE_CHECKING:
    from analysis.theory import Answer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names that are safe in a file's name and in a link."""


LARGEST = 1_500_000
"""Most characters of an SVG or a CSV file within the page. A larger figure is a PNG there; a
larger table is only a file beside the page."""

MOST_ROWS = 500
"""Most rows of a table that the page shows."""


class Element(NamedTuple):
    """A piece of a section."""

    kind: str
    """The macro of `elements.html.j2` that draws it."""
    values: dict[str, Any]
    """The macro's arguments."""


@dataclass(frozen=True)
class Glance:
    """Summary of a section's answer: a sentence, and estimates for a small picture."""

    sentence: str
    """One sentence with its number and interval."""
    points: list[tuple[float, float, float]] = field(default_factory=list)
    """Estimate, low and high of each point, in order; non-finite estimates are not drawn."""
    differences: bool = False
    """True if the estimates are differences; the picture then has a line at 0."""

    @classmethod
    def of(cls, sentence: str, values: pd.Series, by: pd.Series) -> Glance:
        """Glance with the mean of `values` (n,) at each value of `by`, and Student-t intervals."""
        intervals = [finite_mean(group.to_numpy(float)) for _, group in values.groupby(by)]
        return cls(sentence, [(i.estimate, i.low, i.high) for i in intervals])

    def places(self) -> list[tuple[float, ...]]:
        """Coordinates of the points in a picture 150 wide and 48 high: x, y, and y of low and high.

        Empty if fewer than two estimates are finite.
        """
        known = [point for point in self.points if isfinite(point[0])]
        if len(known) < 2:
            return []
        step = 138 / (len(known) - 1)
        return [
            (round(6 + step * index, 1), *(self._height(v if isfinite(v) else p[0]) for v in p))
            for index, p in enumerate(known)
        ]

    @property
    def zero(self) -> float | None:
        """y of the line at 0; None if there is no line."""
        return self._height(0.0) if self.differences and self.points else None

    def _height(self, value: float) -> float:
        values = [v for point in self.points for v in point if isfinite(v)]
        values += [0.0] if self.differences else []
        low, high = min(values), max(values)
        return round(44 - 40 * (value - low) / ((high - low) or 1.0), 1)


@dataclass
class Section:
    """One part of the report. All texts are plain; the template escapes them."""

    anchor: str
    """Target of links: `#anchor`."""
    title: str
    """Its heading."""
    lead: str = ""
    """The question."""
    conclusions: list[str] = field(default_factory=list)
    """The answers: sentences computed from the data."""
    glance: Glance | None = None
    """Its line in the page's summary; None: its first conclusion."""
    cells: list[str] = field(default_factory=list)
    """The cells that the sentences are computed from."""
    elements: list[Element] = field(default_factory=list)
    """Its elements, in order."""

    @property
    def answer(self) -> Glance | None:
        """Its line in the page's summary; None for a section without conclusions."""
        return self.glance or (Glance(self.conclusions[0]) if self.conclusions else None)

    def shown(self) -> Shown:
        """The section in HTML, with `NUMBER` in place of the numbers of figures and tables."""
        for element in self.elements:
            if element.kind in NUMBERED:
                element.values["number"] = NUMBER.format(element.kind)
        return Shown(
            self.anchor, self.title, self.answer, html("section", {"section": self}),
            self.conclusions, self.cells,
        )  # fmt: skip


NUMBERED = ("figure", "table")
"""Kinds of elements that a page counts."""

NUMBER = "\ue000{}\ue001"
"""Placeholder for the number of an element of this kind; its delimiters occur in no text."""


@dataclass
class Shown:
    """A section in HTML."""

    anchor: str
    title: str
    answer: Glance | None
    html: str
    conclusions: list[str]
    cells: list[str]


@dataclass
class Written:
    """Finished sections with their files."""

    sections: list[Shown]
    left_out: list[str]
    files: dict[str, bytes]
    """Contents of figures and tables by path below the document's folder."""


@cache
def environment() -> jinja2.Environment:
    """The templates. They escape their values; an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["explained"] = explained
    return made


def html(kind: str, values: Mapping[str, Any]) -> str:
    """The HTML of one element."""
    macro = getattr(environment().get_template("elements.html.j2").module, kind)
    return str(macro(**values))


class Document:
    """Collects sections, saving their figures and tables under `folder`.

    Names of sections, figures and tables become names of files and links. Raises `StoreError` for
    a name with other characters than letters, digits, `-` and `_`, since a name from a results
    folder may hold any.
    """

    def __init__(self, folder: Path, alone: bool = False) -> None:
        """With `alone`, the page has no files beside it, so it holds the largest tables too."""
        self.folder = folder
        self.alone = alone
        self.figures = folder / "figures"
        self.tables = folder / "tables"
        self.figures.mkdir(parents=True, exist_ok=True)
        self.tables.mkdir(parents=True, exist_ok=True)
        self.sections: list[Section] = []
        self.earlier: list[Shown] = []
        """Sections written elsewhere; they come first on the page."""
        self.left_out: list[str] = []
        """Parts left out because images are missing, each as `section: part`."""

    def section(self, anchor: str, title: str, lead: str = "") -> Section:
        """Begin a section."""
        self.sections.append(Section(_checked(anchor), title, lead))
        return self.sections[-1]

    def written(self) -> Written:
        """The sections so far with their files."""
        paths = [path for kind in (self.figures, self.tables) for path in sorted(kind.iterdir())]
        files = {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}
        return Written([section.shown() for section in self.sections], self.left_out, files)

    def add(self, written: Written) -> None:
        """Add sections written elsewhere, with their files."""
        for name, content in written.files.items():
            (self.folder / name).write_bytes(content)
        self.earlier += written.sections
        self.left_out += written.left_out

    @contextmanager
    def where_data_allow(self, part: str) -> Iterator[None]:
        """If the block raises `DataMissing`, write that this `part` is left out, and go on."""
        try:
            yield
        except DataMissing:
            self.left_out.append(f"{self.sections[-1].title}: {part}")
            self.text(f"Left out, as the images of the study are missing: {part}.")

    def _add(self, kind: str, **values: Any) -> None:
        self.sections[-1].elements.append(Element(kind, values))

    def text(self, paragraph: str) -> None:
        """Add a paragraph."""
        self._add("paragraph", text=paragraph)

    def heading(self, text: str) -> None:
        """Add a heading within the section."""
        self._add("heading", text=text)

    def answer(self, answer: Answer) -> None:
        """Add an answer to a question of the assignment's theory."""
        self._add("answer", answer=answer)

    def explorer(self, values: Mapping[str, Any]) -> None:
        """Add the latent explorer, with values from `analysis.interpolation.explorer`."""
        self._add("explorer", **values)

    def figure(self, name: str, drawn: Figure, caption: str) -> None:
        """Add a figure, and save it as `figures/NAME.png` and `.svg`."""
        png, svg = (self.figures / f"{_checked(name)}.{suffix}" for suffix in ("png", "svg"))
        save_png(drawn, png)
        drawn.set_layout_engine("none")  # skips a second layout, half of the SVG's time
        shown = None if shows_pictures(drawn) else inline(drawn)
        if shown:
            svg.write_text(shown.file, encoding="utf-8")
        else:
            drawn.savefig(svg, metadata={"Date": None})
        if shown and len(shown.svg) > LARGEST:
            shown = None
        self._add(
            "figure",
            name=name,
            caption=caption,
            width=round(drawn.get_size_inches()[0] * 96),
            picture="" if shown else uri("image/png", png.read_bytes()),
            drawn=shown,
        )

    def table(
        self,
        name: str,
        table: pd.DataFrame,
        caption: str,
        shown: pd.DataFrame | None = None,
        opened: bool = False,
    ) -> None:
        """Add a table, and save it whole as `tables/NAME.csv` and `.parquet`.

        The page shows the first `MOST_ROWS` rows of `shown`, which has some of its columns
        (default: all), folded unless `opened`.
        """
        files = self.save(name, table)
        visible = table if shown is None else shown
        columns = [map(_shown, visible[column].head(MOST_ROWS)) for column in visible]
        self._add(
            "table",
            name=name,
            caption=caption,
            files=files,
            header=list(map(str, visible.columns)),
            rows=list(zip(*columns, strict=True)),
            count=len(visible),
            opened=opened,
        )

    def download(self, name: str, table: pd.DataFrame, caption: str) -> None:
        """Add a link to a table too long to read, saved as `tables/NAME.csv` and `.parquet`."""
        self._add("download", caption=caption, count=len(table), files=self.save(name, table))

    def save(self, name: str, table: pd.DataFrame) -> dict[str, str]:
        """Save a table as CSV and Parquet; return the link to the CSV by its file name.

        The link is a `data:` URI that holds the table, unless the table has more than `LARGEST`
        characters and the page has files beside it.
        """
        csv, parquet = (self.tables / f"{_checked(name)}.{form}" for form in ("csv", "parquet"))
        text = table.to_csv(index=False)
        csv.write_text(text, encoding="utf-8")
        _of_one_type(table).to_parquet(parquet, index=False)
        held = self.alone or len(text) <= LARGEST
        return {csv.name: uri("text/csv", text.encode()) if held else f"tables/{csv.name}"}

    def render(self, **context: Any) -> Path:
        """Write `index.html` and the table of conclusions; return the path of the page."""
        page = environment().get_template("report.html.j2")
        shown = [*self.earlier, *(section.shown() for section in self.sections)]
        sentences = [
            (section.anchor, sentence, " ".join(section.cells))
            for section in shown
            for sentence in section.conclusions
        ]
        columns = ["section", "sentence", "cells"]
        self.save("conclusions", pd.DataFrame(sentences, columns=columns))
        unsaid: dict[str, Any] = {"progress": "", "refresh": 0, "samples": [], "facts": {}}
        content = page.render(sections=shown, words=WORDS, **unsaid | context)
        path = self.folder / "index.html"
        path.write_text(_numbered(content), encoding="utf-8")
        return path


def _numbered(page: str) -> str:
    """Number the figures and tables of a page: fill in the placeholders `NUMBER` in order."""
    for kind in NUMBERED:
        parts = page.split(f'data-{kind}="')
        for number, part in enumerate(parts[1:], 1):
            parts[number] = part.replace(NUMBER.format(kind), str(number))
        page = f'data-{kind}="'.join(parts)
    return page


def _of_one_type(table: pd.DataFrame) -> pd.DataFrame:
    """The table with text in every column that mixes types: Parquet needs one type a column."""
    mixed = [c for c in table if infer_dtype(table[c], skipna=True).startswith("mixed")]
    return table.assign(**{c: table[c].map(str, na_action="ignore") for c in mixed})


def _checked(name: str) -> str:
    """`name`, if it is safe in the name of a file."""
    if not NAME.fullmatch(name):
        raise StoreError(f"{name!r} can't be the name of a file: letters, digits, - and _ can")
    return name


def uri(kind: str, content: bytes) -> str:
    """Content as a `data:` URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _shown(value: Any) -> str:
    """A value as a table shows it: fractions to four digits, a dash for a missing value."""
    if pd.isna(value):
        return "–"
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.4g}"
