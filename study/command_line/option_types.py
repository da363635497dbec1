"""Values of the command line's options: from text, or an error that says what is allowed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study.presets import PresetError, find
from study.store.places import is_uri

LARGEST = 2**63 - 1
"""What a column of whole numbers can hold."""

SMALLEST = 0.0001
"""The least of a resource that Ray can count."""


def _number(kind: Callable[[str], Any], what: str, least: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        if value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is more than 2^63 − 1")
        return value

    return parse


count = _number(int, "an integer of at least 1", 1)
whole = _number(int, "an integer of at least 0", 0)
amount = _number(float, "a number of at least 0", 0)


def positive(text: str) -> float:
    """A number above 0."""
    value = amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is not a number above 0")
    return float(value)


def cpus(text: str) -> float:
    """CPU cores a trial."""
    asked = positive(text)
    if asked < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text} is less than {SMALLEST}, the least there is")
    return asked


def gpus(text: str) -> float | str:
    """`auto`, a fraction of a GPU, or whole GPUs."""
    if text == "auto":
        return text
    asked = float(amount(text))
    if 0 < asked < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text} is less than {SMALLEST}, the least there is")
    if asked > 1 and asked != int(asked):
        raise argparse.ArgumentTypeError(f"{text} is neither a fraction of a GPU nor whole GPUs")
    return asked


def one_of(choices: Sequence[str], what: str) -> Callable[[str], str]:
    """What takes one of `choices`, each a `what`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what}: {', '.join(choices)}")
        return text

    return parse


def folder(text: str) -> Path:
    """A path."""
    if not text.strip():
        # Most likely a shell variable that isn't set. As a path it would be the current folder.
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def results(text: str) -> Path | str:
    """A results folder, or a URI of object storage."""
    return text if is_uri(text) else folder(text)


def preset(text: str) -> str:
    """A preset's name, or the path of a file that is one."""
    try:
        find(text)
    except PresetError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def address(text: str) -> str:
    """`local`, `auto`, or HOST:PORT."""
    host, _, port = text.rpartition(":")
    if text in ("local", "auto") or (host and _is_port(port)):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not local, auto or HOST:PORT")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value a number where it can be one."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as width=16")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
