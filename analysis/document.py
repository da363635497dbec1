"""A report as data: sections of sentences, figures and tables, rendered to one HTML file.

Whatever is shown is saved too: figures as PNG and SVG, tables as CSV, beside the page and inside
it as downloads, so that the one file can be mailed.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure


@dataclass
class Section:
    """One part of the report."""

    anchor: str
    """For links: `#anchor`."""
    title: str
    """Its heading."""
    lead: str = ""
    """What was asked: plain text."""
    conclusions: list[str] = field(default_factory=list)
    """What the data say to it: computed sentences, plain text."""
    cells: list[str] = field(default_factory=list)
    """The cells that the sentences are computed from."""
    blocks: list[Markup] = field(default_factory=list)
    """HTML in order."""


def template(name: str) -> jinja2.Template:
    """A template of `analysis/templates`; a name that it uses and isn't given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


class Document:
    """Collects sections, saving their figures and tables under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures = folder / "figures"
        self.tables = folder / "tables"
        self.figures.mkdir(parents=True, exist_ok=True)
        self.tables.mkdir(parents=True, exist_ok=True)
        self.sections: list[Section] = []

    def section(self, anchor: str, title: str, lead: str = "") -> Section:
        """Begin a section."""
        self.sections.append(Section(anchor, title, lead))
        return self.sections[-1]

    def text(self, paragraph: str) -> None:
        """A paragraph of plain text."""
        self.sections[-1].blocks.append(Markup(f"<p>{html.escape(paragraph)}</p>"))

    def heading(self, text: str) -> None:
        """A heading within the section."""
        self.sections[-1].blocks.append(Markup(f"<h3>{html.escape(text)}</h3>"))

    def markup(self, content: str) -> None:
        """HTML as it is."""
        self.sections[-1].blocks.append(Markup(content))

    def figure(self, name: str, drawn: Figure, caption: str) -> None:
        """A figure, saved as `figures/NAME.png` and `.svg`."""
        files = {}
        for suffix in ("png", "svg"):
            buffer = io.BytesIO()
            # No date: the same figure gives the same file.
            metadata: Mapping[str, Any] = {"Date": None} if suffix == "svg" else {}
            drawn.savefig(buffer, format=suffix, metadata=dict(metadata))
            files[suffix] = buffer.getvalue()
            (self.figures / f"{name}.{suffix}").write_bytes(files[suffix])
        png, svg = _uri("image/png", files["png"]), _uri("image/svg+xml", files["svg"])
        width = round(drawn.get_size_inches()[0] * 96)
        self.sections[-1].blocks.append(
            Markup(
                f'<figure id="{name}"><img src="{png}" alt="{html.escape(caption)}" '
                f'style="width:{width}px"><figcaption>{html.escape(caption)} '
                f'<span class="get"><a download="{name}.png" href="{png}">PNG</a> '
                f'<a download="{name}.svg" href="{svg}">SVG</a></span></figcaption></figure>'
            )
        )

    def table(
        self,
        name: str,
        table: pd.DataFrame,
        caption: str,
        shown: pd.DataFrame | None = None,
        opened: bool = False,
    ) -> None:
        """A table, saved whole as `tables/NAME.csv`; the page shows `shown`, some of its columns
        (default: all of it), folded unless `opened`."""
        link = self._save(name, table)
        visible = table if shown is None else shown
        for column in visible.select_dtypes("Int64"):  # whose missing values `na_rep` misses
            whole = visible[column].astype(object)
            visible = visible.assign(**{column: whole.where(visible[column].notna(), "–")})
        body = visible.to_html(
            index=False, border=0, na_rep="–", float_format=_number, classes="data", escape=True
        )
        self.sections[-1].blocks.append(
            Markup(
                f'<details id="table-{name}"{" open" if opened else ""}><summary>'
                f"{html.escape(caption)} ({len(visible)} rows) "
                f'{link}</summary><div class="scroll">{body}</div></details>'
            )
        )

    def download(self, name: str, table: pd.DataFrame, caption: str) -> None:
        """A table too long to read, saved as `tables/NAME.csv`: the page has a link alone."""
        link = self._save(name, table)
        self.sections[-1].blocks.append(
            Markup(f'<p class="muted">{html.escape(caption)} ({len(table):,} rows) {link}</p>')
        )

    def _save(self, name: str, table: pd.DataFrame) -> str:
        text = table.to_csv(index=False)
        (self.tables / f"{name}.csv").write_text(text, encoding="utf-8")
        return f'<a download="{name}.csv" href="{_uri("text/csv", text.encode())}">CSV</a>'

    def render(self, **context: Any) -> Path:
        """Write `index.html` and return its path."""
        page = template("report.html.j2").render(sections=self.sections, **context)
        sentences = [
            (section.anchor, sentence, " ".join(section.cells))
            for section in self.sections
            for sentence in section.conclusions
        ]
        pd.DataFrame(sentences, columns=["section", "sentence", "cells"]).to_csv(
            self.tables / "conclusions.csv", index=False
        )
        path = self.folder / "index.html"
        path.write_text(page, encoding="utf-8")
        return path


def _number(value: float) -> str:
    if np.isnan(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.4g}"
