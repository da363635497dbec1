"""Types of command-line options: each parses a text, or raises `ArgumentTypeError`."""

from __future__ import annotations

import math
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study.experiments import EXPERIMENTS, STUDIES
from study.own import register
from study.presets import SUFFIX, PresetError, find
from study.store.places import is_uri
from trainables.data import NAMES, is_source
from trainables.own import OwnCodeError, full_name

LARGEST = 2**63 - 1
"""The largest integer that a table's column can hold."""

SMALLEST = 0.0001
"""The smallest fraction of a resource that Ray can count."""


def _number(kind: Callable[[str], Any], allowed: str, least: float) -> Callable[[str], Any]:
    """Type of an option that takes a number from `least` to `LARGEST`."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not {allowed}") from None
        if not math.isfinite(value) or value < least:
            raise ArgumentTypeError(f"{text} is not {allowed}")
        if value > LARGEST:
            raise ArgumentTypeError(f"{text} is more than 2^63 − 1")
        return value

    return parse


count = _number(int, "an integer of at least 1", 1)
whole = _number(int, "an integer of at least 0", 0)
amount = _number(float, "a number of at least 0", 0)


def positive(text: str) -> float:
    """A number above 0."""
    value = float(amount(text))
    if value == 0:
        raise ArgumentTypeError("0 is not a number above 0")
    return value


def cpus(text: str) -> float:
    """CPU cores of a trial."""
    return _countable(positive(text), text)


def gpus(text: str) -> float | str:
    """GPUs of a trial: `auto`, a fraction of one, or whole ones."""
    if text == "auto":
        return text
    value = _countable(float(amount(text)), text)
    if value > 1 and not value.is_integer():
        raise ArgumentTypeError(f"{text} is neither a fraction of a GPU nor whole GPUs")
    return value


def _countable(value: float, text: str) -> float:
    if 0 < value < SMALLEST:
        raise ArgumentTypeError(f"{text} is less than {SMALLEST}, the least that Ray counts")
    return value


def one_of(choices: Sequence[str], kind: str) -> Callable[[str], str]:
    """Type of an option that takes one of `choices`; `kind` names them, such as "a cost"."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ArgumentTypeError(f"{text!r} is not {kind}: {', '.join(choices)}")
        return text

    return parse


def experiment(text: str) -> str:
    """The name of a study or experiment. A `.py` file that declares one is registered."""
    try:
        name = register(text) if text.endswith(".py") else text
    except OwnCodeError as error:
        raise ArgumentTypeError(str(error)) from None
    return one_of([*STUDIES, *EXPERIMENTS], "a study or experiment")(name)


def network(text: str) -> str:
    """A kind of network, or a function in a user's file."""
    try:
        return full_name(text) if ".py" in text else {"conv": "convolutional"}.get(text, text)
    except OwnCodeError as error:
        raise ArgumentTypeError(str(error)) from None


def dataset(text: str) -> str:
    """The name of a dataset, or a path."""
    if not is_source(text):
        raise ArgumentTypeError(f"{text!r} is not a dataset: {', '.join(NAMES)}, or a path")
    return text


def size(text: str) -> tuple[int, int]:
    """Height and width in pixels: `32` or `40x60`."""
    found = re.fullmatch(r"([0-9]{1,4})(?:[xX×]([0-9]{1,4}))?", text)
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(height, width) < 2:
        raise ArgumentTypeError(
            f"{text!r} is not a size in pixels, as 32 or 40x60 (height × width)"
        )
    return height, width


def pair(text: str) -> tuple[str, str]:
    """Two names of classes, separated by a comma."""
    first, comma, second = text.partition(",")
    if not comma or not first or not second or first == second:
        raise ArgumentTypeError(f"{text!r} is not a pair of classes, as cat,dog")
    return first, second


def folder(text: str) -> Path:
    """A path. `~` is expanded here, as not every shell expands it in OUT=~/results."""
    if not text.strip():  # probably an unset shell variable; Path("") is the current folder
        raise ArgumentTypeError(f"{text!r} is not a folder")
    return Path(os.path.expanduser(text))


def results(text: str) -> Path | str:
    """A results folder, or a URI of object storage."""
    return text if is_uri(text) else folder(text)


def preset(text: str) -> str:
    """The name of a preset, or the path of a preset file."""
    try:
        find(text)
    except PresetError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def preset_file(text: str) -> Path:
    """The path of a preset file to write, with the ending by which `preset` recognises it."""
    if not text.endswith(SUFFIX):
        raise ArgumentTypeError(f"{text!r} does not end in {SUFFIX}, as the file of a preset does")
    return Path(os.path.expanduser(text))


def address(text: str) -> str:
    """`local`, `auto`, or HOST:PORT."""
    if text.startswith("ray://"):
        head = text.removeprefix("ray://").partition(":")[0] or "head"
        raise ArgumentTypeError(
            f"{text}: Ray Client addresses are not supported; give HOST:PORT, such as {head}:6379"
        )
    port = re.fullmatch(r"[^/]+:([0-9]{1,5})", text)
    if text in ("local", "auto") or (port and 0 < int(port[1]) < 65536):
        return text
    raise ArgumentTypeError(f"{text!r} is not local, auto or HOST:PORT")


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE; the value becomes a number if possible."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE, as width=16")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
