"""Tables: CSV with one column per pixel, and Parquet with the bytes of image files."""

from __future__ import annotations

import json
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainables.data.arrays import label_names, splits_of
from trainables.data.collection import SPLITS, Collection, as_bytes, require_memory
from trainables.data.dataset import DataError
from trainables.data.folder import is_hidden
from trainables.data.options import Options
from trainables.data.pictures import decode_images

LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "digit", "fine_label")
"""Names of the column with the classes, ignoring case."""

INDICES = ("", "unnamed: 0", "index", "id", "idx", "row")
"""Names of columns that number the lines, ignoring case."""

IMAGE_COLUMNS = ("image", "img", "images", "picture")
"""Names of a Parquet file's column with the images, ignoring case."""


def find_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The column whose lower-case name comes first in `known`, or None."""
    return next((name for wanted in known for name in names if name.lower() == wanted), None)


def read_csv(path: Path, options: Options) -> Collection:
    """Read one image per line, with its class, split and group if it has such columns.

    All other columns are pixels, row by row; colour images have all red pixels first, then green,
    then blue. Raises `DataError`.
    """
    import pandas as pd

    try:
        first = pd.read_csv(path, nrows=1, header=None, dtype=str, keep_default_na=False)
        names = [name.strip() for name in first.iloc[0]]
        label, split, group = special_columns(path, names, options)
        words = [name for name in (label, split, group) if name]
        empty = {name: [""] for name in names if name not in words}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # for lines that are too long
            table = pd.read_csv(
                path,
                header=0,
                names=names,
                index_col=False,
                dtype=dict.fromkeys(words, str),
                keep_default_na=False,
                na_values=empty,
                dtype_backend="numpy_nullable",
            )
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, LookupError, Warning) as error:
        raise DataError(f"{path}: can't be read as CSV ({' '.join(str(error).split())})") from error
    if table.empty:
        raise DataError(f"{path}: there is no image in it")
    values = table.drop(columns=words)
    text = [name for name in values if not pd.api.types.is_numeric_dtype(values[name])]
    if text:
        raise DataError(
            f"{path}: the column {text[0]!r} holds words; pixels are numbers, and a column of "
            f"classes is called {', '.join(LABEL_COLUMNS[:5])}"
        )
    if (missing := values.isna().any(axis=1)).any():
        raise DataError(
            f"{path}: line {int(missing.argmax()) + 2} has fewer than the {values.shape[1]} pixel "
            "values that the first line names"
        )
    shape = image_shape(path, values.shape[1], options)
    require_memory(str(path), len(values), shape)
    pixels = as_bytes(str(path), values.to_numpy(np.float64))
    return Collection(
        pixels.reshape(len(values), *shape),
        words_of(path, table[label]) if label else None,
        splits_of(path, words_of(path, table[split])) if split else None,
        list(map(str, table[group])) if group else None,
    )


def special_columns(
    path: Path, names: Sequence[str], options: Options
) -> tuple[str | None, str | None, str | None]:
    """The columns of the class, the split and the group.

    Raises `DataError` if the first line doesn't name columns, names one twice, or names an index,
    which would count as a pixel.
    """
    duplicate = next((name for name, count in Counter(names).items() if count > 1), None)
    numbers = all(re.fullmatch(r"[\d.]+", name) for name in names)
    if duplicate is not None or (numbers and names != [str(n) for n in range(len(names))]):
        problem = f"names {duplicate!r} twice" if duplicate else "holds numbers"
        raise DataError(f"{path}: the first line {problem}; it must hold the names of the columns")
    labels = [name for name in names if name.lower() in LABEL_COLUMNS]
    if len(labels) > 1:
        raise DataError(f"{path}: the columns {' and '.join(labels)} could both be the classes")
    index = [
        name for name in names if name.lower() in INDICES and name != (options.group_by or None)
    ]
    if index:
        raise DataError(f"{path}: the column {index[0]!r} is no pixel; write the file without it")
    return (
        find_column(names, LABEL_COLUMNS),
        find_column(names, ("split",)),
        group_column(path, names, options),
    )


def group_column(path: Path, names: Sequence[str], options: Options) -> str | None:
    """The column of `--group-by`, if any. Raises `DataError` if it doesn't exist."""
    if options.group_by and options.group_by not in names:
        first = ", ".join(names[:8])
        raise DataError(f"{path}: no column {options.group_by!r} to group by; there are {first} …")
    return options.group_by or None


def words_of(path: Path, values: Any) -> list[str]:
    """A column of classes as words: whole numbers of at least 0, or any text.

    Raises `DataError` if a value is missing or is neither.
    """
    array = values.to_numpy()
    if array.dtype != object:
        return label_names(path, array, len(array))
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in array]
    for number, text in enumerate(texts):
        if text is None or text != text or text == "":
            raise DataError(f"{path}: line {number + 2} has no value for {values.name!r}")
        if isinstance(text, list | dict | np.ndarray):
            raise DataError(f"{path}: line {number + 2} of {values.name!r} is no word or number")
    texts = [str(text).strip() for text in texts]
    if all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts):
        numbers = np.array(list(map(float, texts)))
        if (numbers != np.rint(numbers)).any() or (numbers < 0).any():
            return label_names(path, numbers, len(numbers))  # raises, and names the row
        texts = [text.partition(".")[0] for text in texts]
    return texts


def image_shape(path: Path, count: int, options: Options) -> tuple[int, int, int]:
    """Channels, height and width of images of `count` numbers: `--image-size`, or a square.

    Raises `DataError` if neither fits.
    """
    if options.image_size:
        height, width = options.image_size
        if count in (height * width, 3 * height * width):
            return count // (height * width), height, width
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if count and channels * side * side == count:
            return channels, side, side
    size = f", nor {options.image_size[0]} × {options.image_size[1]}" if options.image_size else ""
    raise DataError(
        f"{path}: {count} pixels a line are no square image{size}; give height and width with "
        "--image-size HxW"
    )


class Rows(NamedTuple):
    """The content of one Parquet file."""

    images: list[bytes]
    labels: list[str] | None
    splits: list[str] | None
    groups: list[str] | None


def read_parquet(path: Path, options: Options) -> Collection:
    """Read rows with the bytes of image files, from one file or a folder of them.

    The split of a row comes from its column `split`, or from the name of its file or of a folder.
    Raises `DataError`.
    """
    files = [path] if path.is_file() else parquet_files(path)
    parts = {file: read_rows(file, path, options) for file in files}
    parts = {file: part for file, part in parts.items() if part.images}
    if not parts:
        raise DataError(f"{path}: there is no image in it")
    for field in ("labels", "splits", "groups"):
        without = [file for file, part in parts.items() if getattr(part, field) is None]
        if 0 < len(without) < len(parts):
            raise DataError(f"{without[0]}: has no {field}, other files have")
    contents = {
        f"{file}, row {number}": image
        for file, part in parts.items()
        for number, image in enumerate(part.images)
    }

    def join(field: str) -> list[str] | None:
        columns = [getattr(part, field) for part in parts.values()]
        return None if None in columns else [value for column in columns for value in column]

    images = decode_images(str(path), list(contents), contents.__getitem__, options)
    return Collection(images, join("labels"), join("splits"), join("groups"))


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files below a folder, without hidden ones."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".parquet"
        and path.is_file()
        and not is_hidden(path.relative_to(folder))
    )


def split_of(file: Path, top: Path) -> str | None:
    """The split named by a file, or by a folder between it and `top`, if any."""
    folders = file.relative_to(top).parts[:-1] if file != top else ()
    words = (re.split(r"[-_.]", name)[0].lower() for name in (file.name, *reversed(folders)))
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def read_rows(file: Path, top: Path, options: Options) -> Rows:
    """Read one Parquet file, which is `top` or lies below it. Raises `DataError`."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file).read()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: can't be read as Parquet ({error})") from error
    names = list(table.column_names)
    image, label = find_column(names, IMAGE_COLUMNS), find_column(names, LABEL_COLUMNS)
    if image is None:
        existing = ", ".join(names)
        raise DataError(f"{file}: no column {' or '.join(IMAGE_COLUMNS)}; there are {existing}")
    group, split = group_column(file, names, options), find_column(names, ("split",))
    images = []
    for number, value in enumerate(table[image].to_pylist()):
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"{file}: row {number} of {image!r} holds no bytes of an image file")
        images.append(content)

    def words(name: str) -> list[str]:
        return words_of(file, table[name].to_pandas().rename(name))

    labels = words(label) if label else None
    if labels and (class_list := class_names(table.schema.metadata, label)):
        # Numbers without a name are kept.
        by_number = {str(number): name for number, name in enumerate(class_list)}
        labels = [by_number.get(number, number) for number in labels]
    file_split = split_of(file, top)
    splits = splits_of(file, words(split)) if split else file_split and [file_split] * len(images)
    groups = list(map(str, table[group].to_pylist())) if group else None
    return Rows(images, labels, splits or None, groups)


def class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> list[str]:
    """Class names from the metadata that data hubs write into a Parquet file; empty if none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (LookupError, TypeError, ValueError):
        return []
