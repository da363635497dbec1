"""The sources that `--dataset` can name, and the reader of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.data import embedded, mnist, vision
from trainables.data.collection import Collection
from trainables.data.dataset import DataError, Dataset
from trainables.data.options import WHOLE, Options

EMBEDDED: dict[str, Callable[[], Dataset]] = {
    "mnist-5k": embedded.mnist_5k,
    "digits": embedded.digits,
}
"""Datasets that come with the installation."""

NAMES = (*EMBEDDED, *mnist.CLASS_NAMES, *vision.NAMED)
"""Names of all datasets."""

FILES = (".npz", ".npy", ".csv", ".csv.gz", ".parquet")
"""Endings of the files that can be read."""


def ending(path: Path) -> str | None:
    """The ending of a path if it is one of `FILES`, ignoring case."""
    return next((suffix for suffix in FILES if path.name.lower().endswith(suffix)), None)


def is_path(name: str) -> bool:
    """Return whether this is a path to a user's own data, not the name of a dataset."""
    return name not in NAMES and not name.startswith(vision.PREFIX)


def is_source(text: str) -> bool:
    """Return whether this is the name of a dataset or looks like a path.

    A path has a `/` or a known ending, starts with `~` or `.`, or exists.
    """
    if not is_path(text):
        return True
    path = Path(text)
    looks_like_path = "/" in text or ending(path) or text.startswith(("~", "."))
    try:
        return bool(text.strip() and (looks_like_path or path.exists()))
    except OSError:  # too long for the name of a file
        return False


def load(
    name: str, data_dir: Path | None = None, options: Options = WHOLE, fetch: bool = True
) -> Dataset:
    """Load the dataset called `name`, or the images at the path `name`: a folder or one of `FILES`.

    A named dataset that isn't embedded is read from `data_dir` (default: `default_data_dir()`). If
    it is missing there, it is downloaded if `fetch`. Raises `DataError` if the dataset is missing,
    damaged or unusable, or can't be downloaded.
    """
    if not is_source(name):
        raise DataError(f"there is no dataset {name!r}; there are {', '.join(NAMES)}, or a path")
    try:
        if is_path(name):
            path = Path(os.path.expanduser(name)).resolve()
            data = collection(path, options).select_classes(options.classes).to_dataset(str(path))
        elif options.group_by:
            raise DataError(f"{name} has no column {options.group_by!r} to group by")
        elif name in EMBEDDED:
            data = EMBEDDED[name]()
        elif name in mnist.CLASS_NAMES:
            data = mnist.read(name, data_dir, fetch)
        else:
            data = vision.read(name, data_dir, options, fetch)
        return options.apply(data)
    except OSError as error:
        raise DataError(f"{name} can't be read ({error})") from error


def collection(path: Path, options: Options) -> Collection:
    """Read the images of a user's folder or file. Raises `DataError`."""
    # Each reader is imported only if needed: importing pandas, pyarrow and PIL takes time.
    if path.is_dir():
        from trainables.data import folder, tables

        has_images = any(map(folder.is_image, path.rglob("*")))
        if not has_images and tables.parquet_files(path):
            return tables.read_parquet(path, options)
        reader: Any = folder
    elif not path.exists():
        raise DataError(
            f"{path} is not there; give a folder of images, or a file that ends in "
            f"{', '.join(FILES)}"
        )
    elif (suffix := ending(path)) is None:
        raise DataError(
            f"{path}: a file that ends in {path.suffix or 'nothing'} is not known; "
            f"give a folder of images, or {', '.join(FILES)}"
        )
    elif suffix in (".csv", ".csv.gz", ".parquet"):
        from trainables.data import tables

        read = tables.read_parquet if suffix == ".parquet" else tables.read_csv
        return read(path, options)
    else:
        from trainables.data import arrays as reader
    if options.group_by:
        raise DataError(f"{path} has no columns to group by; a CSV or Parquet file has")
    return reader.read(path, options)
