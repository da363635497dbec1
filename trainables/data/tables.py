"""Tables: CSV with a column a pixel, and Parquet with the bytes of image files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.arrays import label_names
from trainables.data.collection import SPLITS, Collection, as_bytes, require_memory
from trainables.data.dataset import DataError
from trainables.data.options import Options
from trainables.data.pictures import together

LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "digit", "fine_label")
"""Names of the column with the classes, in any case."""

IMAGE_COLUMNS = ("image", "img", "images", "picture")
"""Names of a Parquet file's column with the images."""


def column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first column with one of the `known` names, in any case."""
    return next((name for want in known for name in names if name.lower() == want), None)


def read_csv(path: Path, options: Options) -> Collection:
    """A line an image: its pixels, row by row, and a column with its class, if there is one. All
    columns but those of the class, the split and the group are pixels. Raises `DataError`."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype_backend="numpy_nullable")
    except (OSError, ValueError) as error:  # of pandas too: a line that is too long
        raise DataError(f"{path}: can't be read as CSV ({' '.join(str(error).split())})") from error
    if table.empty:
        raise DataError(f"{path}: there is no image in it")
    names = [str(name) for name in table.columns]
    table.columns = pd.Index(names)
    label, split = column(names, LABEL_COLUMNS), column(names, ("split",))
    group = grouping(path, names, options)
    values = table.drop(columns=[name for name in (label, split, group) if name])
    words = [name for name in values if not pd.api.types.is_numeric_dtype(values[name])]
    if words:
        raise DataError(
            f"{path}: the column {words[0]!r} holds words; pixels are numbers, and a column of "
            f"classes is called {', '.join(LABEL_COLUMNS[:5])}"
        )
    if (empty := values.isna().any(axis=1)).any():
        raise DataError(f"{path}: line {int(empty.argmax()) + 2} has no value for every pixel")
    shape = picture_shape(path, values.shape[1], options)
    require_memory(str(path), len(values), shape)
    pixels = as_bytes(str(path), values.to_numpy(np.float64))
    return Collection(
        pixels.reshape(len(values), *shape),
        None if label is None else words_of(path, table[label]),
        None if split is None else splits_of(path, words_of(path, table[split])),
        None if group is None else words_of(path, table[group]),
    )


def grouping(path: Path, names: Sequence[str], options: Options) -> str | None:
    """The column of `--group-by`. Raises `DataError` where there is none."""
    if options.group_by and options.group_by not in names:
        few = ", ".join(names[:8])
        raise DataError(f"{path}: no column {options.group_by!r} to group by; there are {few} …")
    return options.group_by or None


def words_of(path: Path, values: Any) -> list[str]:
    """A column as words. Raises `DataError` where one is missing."""
    if (empty := values.isna()).any():
        raise DataError(f"{path}: line {int(empty.argmax()) + 2} has no value for {values.name!r}")
    array = values.to_numpy()
    if array.dtype == object:
        array = np.array([str(value) for value in array])
    return label_names(path, array, len(array))


def splits_of(path: Path, names: list[str]) -> list[str]:
    """A column of splits. Raises `DataError` for other words."""
    unknown = next((name for name in names if name.lower() not in SPLITS), None)
    if unknown is not None:
        raise DataError(f"{path}: split {unknown!r} is none of {', '.join(SPLITS)}")
    return [SPLITS[name.lower()] for name in names]


def picture_shape(path: Path, count: int, options: Options) -> tuple[int, int, int]:
    """Channels, height and width of images of so many numbers: `--image-size`, or a square."""
    if options.image_size:
        height, width = options.image_size
        if count in (height * width, 3 * height * width):
            return count // (height * width), height, width
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if count and channels * side * side == count:
            return channels, side, side
    asked = f", nor {options.image_size[0]} × {options.image_size[1]}" if options.image_size else ""
    raise DataError(
        f"{path}: {count} pixels a line are no square image{asked}; --image-size HxW says their "
        "height and width"
    )


def read_parquet(path: Path, options: Options) -> Collection:
    """Rows with the bytes of image files: one file, or a folder of files whose names begin with
    their split. Raises `DataError`."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    images: list[bytes] = []
    places: list[str] = []
    labels: list[str] = []
    groups: list[str] = []
    splits: list[str] = []
    for file in files:
        found = rows(file, options)
        images += found[0]
        places += [f"{file}, row {number}" for number in range(len(found[0]))]
        labels += found[1] or []
        groups += found[2] or []
        splits += [SPLITS.get(file.name.partition("-")[0].lower(), "")] * len(found[0])
        if bool(labels) != bool(found[1]):
            raise DataError(f"{file}: some files have a column of classes, some have none")
    if not images:
        raise DataError(f"{path}: there is no image in it")
    contents = dict(zip(places, images, strict=True))
    return Collection(
        together(str(path), places, contents.__getitem__, options),
        labels or None,
        splits if all(splits) and len(files) > 1 else None,
        groups or None,
    )


def rows(file: Path, options: Options) -> tuple[list[bytes], list[str] | None, list[str] | None]:
    """Images as bytes, classes and groups of one Parquet file."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: can't be read as Parquet ({error})") from error
    image, label = (column(table.column_names, k) for k in (IMAGE_COLUMNS, LABEL_COLUMNS))
    if image is None:
        there = ", ".join(table.column_names)
        raise DataError(f"{file}: no column {' or '.join(IMAGE_COLUMNS)}; there are {there}")
    group = grouping(file, table.column_names, options)
    content = [
        value.get("bytes") if isinstance(value, dict) else value
        for value in table[image].to_pylist()
    ]
    missing = next((n for n, value in enumerate(content) if not isinstance(value, bytes)), None)
    if missing is not None:
        raise DataError(f"{file}: row {missing} of {image!r} holds no bytes of an image file")
    names = class_names(table.schema.metadata, label)
    classes = None if label is None else words_of(file, table[label].to_pandas().rename(label))
    if classes and names:
        classes = [names[int(one)] if one.isdigit() and int(one) < len(names) else one
                   for one in classes]  # fmt: skip
    if classes is not None and len(classes) != len(content):
        raise DataError(f"{file}: {len(content)} images, but {len(classes)} classes")
    groups = words_of(file, table[group].to_pandas().rename(group)) if group else None
    return [value or b"" for value in content], classes, groups


def class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> list[str]:
    """Names of the classes as data hubs write them into a Parquet file; none where they didn't."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (LookupError, TypeError, ValueError):
        return []
