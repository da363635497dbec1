"""The sections of the page: the experiments that each reads, and whether it must be rewritten.

A section sees only the experiments that it reads. The same blocks and code make the same section,
which is kept (`analysis.report.kept`) and reused, even if other experiments have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from analysis import cache
from analysis.document import Document
from analysis.report import (
    any_experiment,
    correlation,
    interpolation,
    kept,
    reconstruction,
    rotation,
    search,
    theory,
    transfer,
)
from analysis.results import AUTOENCODERS, Results, load
from analysis.stamp import stamp
from analysis.transfer import baselines
from study.errors import DataMissing
from study.store import Block

CLASSIFIERS = ("fewshot", "supervised", "steps", "rates")


@dataclass(frozen=True)
class Part:
    """One section: its name, its inputs and its writer."""

    name: str
    """Unique name."""
    reads: tuple[str, ...]
    """The experiments that it sees. It is left out if no cell of the first is finished."""
    write: Callable[[Document, Results], None]
    plain: bool = False
    """True if the section leaves out the classifiers' autoencoders that are not plain."""
    measure: Callable[[Results], object] | None = None
    """Computes the part that takes long, and keeps it in `analysis.cache`; None if none does."""
    seconds: float = 1.0
    """Rough seconds to write it for a quick study; used to split the work between two processes."""

    def seen(self, results: Results) -> Results:
        """The results of its experiments only."""
        chosen = results.with_plain_autoencoders() if self.plain else results
        return chosen.only(self.reads)


# fmt: off
SECTIONS = (
    Part("reconstruction", AUTOENCODERS, reconstruction.write, plain=True, seconds=3),
    Part("interpolation", AUTOENCODERS, interpolation.write, plain=True,
         measure=interpolation.measure_models, seconds=26),
    Part("correlation", AUTOENCODERS, correlation.write, plain=True,
         measure=correlation.measure_models, seconds=7),
    Part("transfer", CLASSIFIERS, transfer.write, measure=baselines, seconds=5),
    Part("rotation", ("rotation",), rotation.write, seconds=1),
)
# fmt: on
"""The sections of the shipped experiments, in the order of the page."""


def parts(results: Results) -> list[Part]:
    """The sections of the page, in order."""
    shipped = [part for part in SECTIONS if len(part.seen(results).of(part.reads[0]))]
    shown = {name for part in shipped for name in part.reads}
    own = [
        Part(f"experiment {name}", (name,), partial(any_experiment.write, name=name))
        for planned in results.plan["experiments"]
        if len(results.of(name := planned["name"])) and name not in shown
    ]
    every = tuple(planned["name"] for planned in results.plan["experiments"])
    searches = [
        Part(f"search {name}", every, partial(search.write, name=name), seconds=3)
        for name in results.searches
    ]
    answers = results.plan["study"] == "assignment"
    theory_part = [Part("theory", (), theory.write, seconds=1)] if answers else []
    return [*shipped, *own, *searches, *theory_part]


def write(results: Results, executor: Executor | None = None) -> list[Document]:
    """The sections in the order of the page.

    Sections that aren't kept are written by this process and, if given, one of the `executor`.
    """
    found = parts(results)
    keys = {part.name: _key(part, results) for part in found}
    done = {part.name: document for part in found if (document := kept.read(keys[part.name]))}
    missing = [part for part in found if part.name not in done]
    mine = missing
    other: Future[dict[str, Document]] | None = None
    # Images are looked for here first; otherwise both processes would download missing ones.
    if executor and len(missing) > 1 and not isinstance(results.source.found, DataMissing):
        where = results.store.address, results.damaged, results.source.data_dir
        names = {part.name for part in _half(missing)}
        mine = [part for part in missing if part.name not in names]
        other = executor.submit(_write_in, *where, names)
    done |= {part.name: _write(part, results) for part in mine}
    if other:
        done |= other.result()
        # The other process lacks a section whose cells were removed before it read the results.
        lacking = [part for part in missing if part.name not in done]
        done |= {part.name: _write(part, results) for part in lacking}
    for part in missing:
        kept.keep(keys[part.name], done[part.name])
    cache.tidy()
    return [done[part.name] for part in found]


def prepare(results: Results) -> None:
    """Compute and keep what the report of a running study will need, as far as cells are finished.

    These are the sections whose cells are all finished, and the measures of finished models.
    """
    if isinstance(results.source.found, DataMissing):
        return
    # Trials of a search, and more replicates where a comparison is open, would change the sections.
    changing = bool(results.searches or results.plan.get("until_decided"))
    for part in parts(results):
        seen, key = part.seen(results), _key(part, results)
        if seen.missing.empty and not changing:
            if kept.read(key) is None:
                kept.keep(key, _write(part, results))
        elif part.measure:
            with threadpool_limits(1):
                part.measure(seen)


def _half(missing: list[Part]) -> list[Part]:
    """The sections for the other process, about half of the work.

    Longest first, each section goes to the process with less work.
    """
    mine, other = 0.0, 0.0
    half = []
    for part in sorted(missing, key=lambda part: -part.seconds):
        if other <= mine:
            other += part.seconds
            half.append(part)
        else:
            mine += part.seconds
    return half


def _write(part: Part, results: Results) -> Document:
    # Matrices are small: on two busy cores, several threads each took six times as long as one.
    with threadpool_limits(1):
        document = Document()
        with document.where_data_allow("the rest of this section"):
            part.write(document, part.seen(results))
        return document


def _write_in(
    address: str, damaged: Mapping[Block, str], data_dir: Path | None, names: Collection[str]
) -> dict[str, Document]:
    """Write the sections of these names in another process.

    The blocks of the results have been verified.
    """
    results = load(address, damaged, data_dir)
    return {part.name: _write(part, results) for part in parts(results) if part.name in names}


def _key(part: Part, results: Results) -> str:
    """Key of a section: a hash of its blocks, the missing cells, the trials of a search, the code,
    the packages, and whether the images are missing."""
    seen = part.seen(results)
    searches = results.searches if part.name.startswith("search ") else {}
    images_missing = isinstance(results.source.found, DataMissing)
    inputs = stamp(seen.plan, seen.missing.to_dict("records"), searches), images_missing
    return cache.key("section", part.name, seen.digest(), *inputs)
