"""Words for cells, counts, durations and errors, in messages and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")
PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s@]+(?=@)")
SECRET_PARAMETER = re.compile(r"(?i)([?&][^\s=&]*(?:password|secret|token|key)=)[^\s&'\"]+")


def describe(config: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]]) -> str:
    """A cell in words: the settings that vary, `latent_dim=14 depth=3`."""
    varying = [name for name, values in axes.items() if len(values) > 1] or list(axes)[:1]
    return " ".join(f"{name}={config[name]}" for name in varying)


def counted(number: float, noun: str) -> str:
    """`1 cell`, `2 cells`, `0.5 CPUs`."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"


def mean_and_sd(values: Sequence[float]) -> str:
    """`0.01234 ± 0.00056 SD`; one value has no SD."""
    sd = f"± {stdev(values):.5f} SD" if len(values) > 1 else "(one model, so no SD)"
    return f"{fmean(values):.5f} {sd}"


def brief(values: Sequence[Any]) -> str:
    """`2 8 0.3333`; of more than 12 values, `1 2 3 … 250 (250 values)`."""
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    if len(texts) > 12:
        texts[3:] = ["…", texts[-1], f"({len(values)} values)"]
    return " ".join(texts)


def duration(seconds: float, rough: bool = False) -> str:
    """`48 s`, `3 min 05 s`, `2 h 07 min`; if `rough`, `48 s`, `3 min`, `2.1 h`, `30 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if rough:
        hours = whole / 3600
        if whole < 5400:
            return f"{round(whole / 60)} min"
        return f"{hours:.1f} h" if hours < 10 else f"{round(hours)} h"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def reason(error: str) -> str:
    """The last line of an error message or traceback, `Diverged: the training loss …`."""
    lines = [line.strip() for line in plain(error).splitlines() if line.strip()]
    if not lines:
        return "unknown"
    kind, colon, message = lines[-1].partition(": ")
    return f"{kind.rsplit('.', 1)[-1]}{colon}{message}" if " " not in kind else lines[-1]


def redacted(text: str) -> str:
    """`text` without the secrets in URLs: passwords, and parameters with names like `token`."""
    return SECRET_PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1***", text))


def plain(text: str) -> str:
    """`text` without a terminal's colour codes, which Ray puts into tracebacks."""
    return COLOUR_CODES.sub("", text)


def printable(text: str) -> str:
    r"""`text` with unprintable characters escaped, as `\x1b` and `\n`."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def without_query(address: str) -> str:
    """The address of a results folder for messages: without the query of a URI."""
    return address.partition("?")[0] if "://" in address else address
