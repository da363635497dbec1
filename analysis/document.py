"""A report as data: sections of sentences, figures and tables, rendered to one HTML file.

The file can be mailed: it holds its figures and, unless they are large, its tables as downloads.
Beside it are the figures as PNG and SVG and the tables as CSV and Parquet. All HTML comes from
`analysis/templates`, which escape every text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from pandas.api.types import infer_dtype

from analysis.inline import inline, shows_pictures
from analysis.statistics import LEVEL, PERCENT, finite_mean
from analysis.style import figure_as_png, figure_as_svg
from study.errors import DataMissing, StoreError

if TYPE_CHECKING:
    from analysis.theory import Answer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names that are safe in a file's name and in a link."""

WORDS = {
    "arm": "One way to use the labelled images: encoder fixed, everything trained, not pretrained, "
    "a supervised network, …",
    "bootstrap": "An interval from resampling the data with replacement, here of encoders and "
    "label subsets at once.",
    "cell": "One complete setting of all hyperparameters. Its id is a hash of everything its "
    "results depend on.",
    "d": "The latent dimension: how many numbers the code of an image has.",
    "effective rank": "exp of the entropy of the normalised eigenvalues of the covariance matrix: "
    "how many directions the codes use.",
    "Holm": "A correction of p values for the number of comparisons, so that the chance of even "
    f"one false claim among them stays at {100 * LEVEL:g} %.",
    "interval": f"{PERCENT} confidence interval: what it varies over is in each caption.",
    "labels": "The number of labelled images that a classifier learns from.",
    "paired": "Compared on the same seeds, encoders and label subsets, so that what they share "
    "cancels out.",
    "replicate": "One trained model of a cell, with its own seeds for initialisation, order of the "
    "data and label subset.",
    "total correlation": "How much all coordinates of a code together repeat one another, in nats; "
    "0 where they are independent.",
    "undecided": "The data are compatible with either sign: the p value, corrected for the number "
    f"of comparisons, is {LEVEL:g} or more.",
    "Wilson": "An interval of a share, here of test images that one model gets right.",
}
"""The meaning of each term. Statistical terms are explained by their use to a reader."""

_TERM = re.compile(
    r"\b(" + "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True)) + r")\b"
)

EMBED_LIMIT = 700_000
"""Most characters of an SVG or a CSV file within the page. A larger figure is a PNG there; a
larger table is only a file beside the page."""

MOST_ROWS = 500
"""Most rows of a table that the page shows."""


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
    """One part of the report. All texts are plain but `elements`; the template escapes them."""

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
    elements: list[str] = field(default_factory=list)
    """The HTML of its elements, in order, with `PLACEHOLDERS` for their numbers."""

    @property
    def answer(self) -> Glance | None:
        """Its line in the page's summary; None for a section without conclusions."""
        return self.glance or (Glance(self.conclusions[0]) if self.conclusions else None)


PLACEHOLDERS = {kind: Markup(f"<{kind} number>") for kind in ("figure", "table")}
"""Placeholder for the number of an element of each kind. No text contains one: `<` is escaped."""


def templates(**options: Any) -> jinja2.Environment:
    """The templates, with further options of Jinja. An undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


@cache
def html_templates() -> jinja2.Environment:
    """The templates of the page. They escape their values."""
    made = templates(autoescape=True)
    made.filters["explained"] = explained
    return made


def html(kind: str, values: Mapping[str, Any]) -> str:
    """The HTML of one element: `kind` is a macro of `elements.html.j2`, `values` its arguments."""
    macro = getattr(html_templates().get_template("elements.html.j2").module, kind)
    return str(macro(**values))


@dataclass
class Document:
    """Collects sections, and the files of their figures and tables.

    Names of sections, figures and tables become names of files and links. Raises `StoreError` for
    a name with other characters than letters, digits, `-` and `_`, since a name from a results
    folder may hold any.
    """

    alone: bool = False
    """True if the page has no files beside it, so that it holds the largest tables too."""
    sections: list[Section] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Parts left out because images are missing, each as `section: part`."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents of figures and tables by path below the folder of the page; empty if `alone`."""

    def section(self, anchor: str, title: str, lead: str = "") -> Section:
        """Begin a section."""
        self.sections.append(Section(_checked(anchor), title, lead))
        return self.sections[-1]

    def add(self, other: Document) -> None:
        """Add the sections and files of another document."""
        self.sections += other.sections
        self.left_out += other.left_out
        self.files |= other.files

    @contextmanager
    def where_data_allow(self, part: str) -> Iterator[None]:
        """If the block raises `DataMissing`, write that this `part` is left out, and go on."""
        try:
            yield
        except DataMissing:
            self.left_out.append(f"{self.sections[-1].title}: {part}")
            self.text(f"Left out, as the images of the study are missing: {part}.")

    def _add(self, kind: str, **values: Any) -> None:
        self.sections[-1].elements.append(html(kind, values))

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
        """Add a figure, with the files `figures/NAME.png` and `.svg` unless `alone`."""
        path = f"figures/{_checked(name)}"
        picture = figure_as_png(drawn)
        drawn.set_layout_engine("none")  # skips a second layout, half of the SVG's time
        shown = None if shows_pictures(drawn) else inline(drawn)
        if not self.alone:
            svg = shown.file if shown else figure_as_svg(drawn)
            self.files |= {f"{path}.png": picture, f"{path}.svg": svg.encode()}
        if shown and len(shown.svg) > EMBED_LIMIT:
            shown = None
        self._add(
            "figure",
            name=name,
            number=PLACEHOLDERS["figure"],
            caption=caption,
            width=round(drawn.get_size_inches()[0] * 96),
            picture="" if shown else uri("image/png", picture),
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
        """Add a table, which `tables/NAME.csv` and `.parquet`, if not `alone`, hold whole.

        The page shows the first `MOST_ROWS` rows of `shown`, which has some of its columns
        (default: all), folded unless `opened`.
        """
        files = self.save(name, table)
        visible = table if shown is None else shown
        columns = [map(_shown, visible[column].head(MOST_ROWS)) for column in visible]
        self._add(
            "table",
            name=name,
            number=PLACEHOLDERS["table"],
            caption=caption,
            files=files,
            header=list(map(str, visible.columns)),
            rows=list(zip(*columns, strict=True)),
            count=len(visible),
            opened=opened,
        )

    def figure_with_table(
        self, name: str, drawn: Figure, caption: str, table: pd.DataFrame, table_caption: str
    ) -> None:
        """Add a figure and the table of its estimates, both of this name.

        The page shows the table without the column `interval`: the caption says its kind.
        """
        self.figure(name, drawn, caption)
        self.table(name, table, table_caption, shown=table.drop(columns=["interval"]))

    def download(self, name: str, table: pd.DataFrame, caption: str) -> None:
        """Add a link to a table too long to read, with files as for `table`."""
        self._add("download", caption=caption, count=len(table), files=self.save(name, table))

    def save(self, name: str, table: pd.DataFrame) -> dict[str, str]:
        """Add a table's files, CSV and Parquet, unless `alone`; return the link to the CSV by name.

        The link is a `data:` URI that holds the table, unless the table has more than
        `EMBED_LIMIT` characters and the page has files beside it.
        """
        path = f"tables/{_checked(name)}"
        text = table.to_csv(index=False)
        if not self.alone:
            self.files[f"{path}.csv"] = text.encode()
            self.files[f"{path}.parquet"] = _of_one_type(table).to_parquet(index=False)
        held = self.alone or len(text) <= EMBED_LIMIT
        return {f"{name}.csv": uri("text/csv", text.encode()) if held else f"{path}.csv"}

    def write(self, folder: Path, **context: Any) -> Path:
        """Write the page as `index.html`, and its files beside it; return the path of the page."""
        page = self.render(**context)
        for kind in ("figures", "tables"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        path = folder / "index.html"
        path.write_text(page, encoding="utf-8")
        return path

    def render(self, **context: Any) -> str:
        """The page. Adds the files of the table of conclusions, unless `alone`."""
        template = html_templates().get_template("report.html.j2")
        sentences = [
            (section.anchor, sentence, " ".join(section.cells))
            for section in self.sections
            for sentence in section.conclusions
        ]
        columns = ["section", "sentence", "cells"]
        self.save("conclusions", pd.DataFrame(sentences, columns=columns))
        defaults: dict[str, Any] = {
            "sections": self.sections,
            "left_out": self.left_out,
            "words": WORDS,
            "progress": "",
            "refresh": 0,
            "samples": [],
            "facts": {},
        }
        return _numbered(template.render(defaults | context))


def _numbered(page: str) -> str:
    """Number the figures and tables of a page: fill in the placeholders in order."""
    for kind, placeholder in PLACEHOLDERS.items():
        # Only the start tag of an element has its placeholder in this attribute.
        parts = page.split(f'data-{kind}="{placeholder}"')
        for number, part in enumerate(parts[1:], 1):
            parts[number] = f'data-{kind}="{number}"' + part.replace(placeholder, str(number))
        page = "".join(parts)
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


class Part(NamedTuple):
    """A piece of a sentence."""

    text: str
    meaning: str
    """Explanation to show; empty if none."""


def explained(sentences: Iterable[str]) -> list[list[Part]]:
    """Split sentences into parts, so that each of `WORDS` is explained at its first occurrence."""
    seen: set[str] = set()
    cut = []
    for sentence in sentences:
        parts = []
        for index, text in enumerate(_TERM.split(sentence)):
            new = index % 2 == 1 and text not in seen
            if new:
                seen.add(text)
            parts.append(Part(text, WORDS[text] if new else ""))
        cut.append(parts)
    return cut
