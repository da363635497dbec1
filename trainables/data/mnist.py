"""MNIST and its drop-in replacements: torchvision's four files, downloaded if missing."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np

from trainables.data.dataset import DIGITS, DataError, Dataset, Split, hold_out

SIDE = 28

CLASS_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
"""torchvision's class, by name of the dataset."""

CLASSES = {
    "fashion-mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                      "Sneaker", "Bag", "Ankle boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
"""Names of the classes, by dataset, if they aren't digits."""

SHAPES = {
    "train-images-idx3-ubyte": (60_000, SIDE, SIDE),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, SIDE, SIDE),
    "t10k-labels-idx1-ubyte": (10_000,),
}
"""Shapes of the arrays of bytes in the four files of MNIST and its drop-in replacements."""

HEADERS = {
    file: struct.pack(f">{1 + len(shape)}I", 2048 + len(shape), *shape)
    for file, shape in SHAPES.items()
}
"""First bytes of each file: a magic number for bytes in three or one dimensions, and the sizes."""

RAW_SIZES = {file: len(HEADERS[file]) + math.prod(shape) for file, shape in SHAPES.items()}
"""Sizes of the files in bytes."""

REPAIR = "delete it and run again to download it, or copy a good one there"

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


FASHION_LABELS = {
    "train-labels-idx1-ubyte": bytes([9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
    "t10k-labels-idx1-ubyte": bytes([9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}
"""Fashion-MNIST's first labels, as its users print them. For it and KMNIST, only the MD5s of
compressed files are published, and these files are gone once unpacked."""


def check_raw_files(folder: Path, name: str) -> None:
    """Raise `DataError` for the first file that is missing or isn't as published.

    MNIST's files are recognised by their MD5, Fashion-MNIST's by their first ten labels. Another
    dataset must not have these files.
    """
    for file, size in RAW_SIZES.items():
        path = folder / file
        if not path.is_file():
            raise DataError(f"{path}: missing (expected {size:,} bytes); {REPAIR}")
        actual = path.stat().st_size
        if actual != size:
            raise DataError(f"{path}: damaged: expected {size:,} bytes, found {actual:,}; {REPAIR}")
        with path.open("rb") as handle:
            header = handle.read(len(HEADERS[file]))
            handle.seek(0)
            digest = hashlib.file_digest(
                handle, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if header != HEADERS[file]:
            raise DataError(
                f"{path}: damaged: expected a header {HEADERS[file].hex()}, found {header.hex()}; "
                f"{REPAIR}"
            )
        if (digest == MNIST_MD5[file]) != (name == "mnist"):
            wrong = f"damaged: expected MD5 {MNIST_MD5[file]}, found {digest}"
            problem = wrong if name == "mnist" else f"this is MNIST's file, not {name}'s"
            raise DataError(f"{path}: {problem}; {REPAIR}")
        if path.name in FASHION_LABELS:
            check_labels(path, name)


def check_labels(path: Path, name: str) -> None:
    """Raise `DataError` if the labels are damaged or are another dataset's."""
    labels = path.read_bytes()[len(HEADERS[path.name]) :]
    fashion = labels.startswith(FASHION_LABELS[path.name])
    if max(labels) >= len(DIGITS):
        problem = f"damaged: a label is {max(labels)}; the largest possible one is 9"
    elif fashion and name != "fashion-mnist":
        problem = f"these are fashion-mnist's labels, not {name}'s"
    elif not fashion and name == "fashion-mnist":
        problem = "these are not fashion-mnist's labels"
    else:
        return
    raise DataError(f"{path}: {problem}; {REPAIR}")


def download(
    dataset_class: type, root: Path, name: str, missing: object, fetch: bool, **options: Any
) -> Any:
    """Return torchvision's dataset under `root`, downloaded there if `fetch`.

    Raises `DataError`, after removing the empty folders that it created.
    """
    folder, created = root / dataset_class.__name__, list[Path]()
    try:
        folders = (folder / "raw", folder, root, *root.parents)
        created = [folder for folder in folders if not folder.exists()]
        if fetch:
            root.mkdir(parents=True, exist_ok=True)
        return dataset_class(str(root), **options, download=fetch)
    except (URLError, RuntimeError, OSError, ValueError, TypeError) as error:
        for folder in created:
            with suppress(OSError):  # not empty, or not created
                folder.rmdir()
        absent = f"{root} has no {name} (no {missing})"
        if not fetch:
            raise DataError(absent) from error
        raise DataError(
            f"{absent} and the download failed ({' '.join(str(error).split())}); give a --data-dir "
            "that has it, or connect to the network"
        ) from error


def read(name: str, data_dir: Path | None, fetch: bool = True) -> Dataset:
    """Read one of `CLASS_NAMES`. Validation gets 5,000 of the 60,000 training images."""
    root, class_name = data_dir or default_data_dir(), CLASS_NAMES[name]
    raw = root / class_name / "raw"
    missing = [raw / file for file in RAW_SIZES if not (raw / file).exists()]
    if missing:
        import torchvision.datasets

        dataset_class = getattr(torchvision.datasets, class_name)
        download(dataset_class, root, name, missing[0], fetch, train=True)
    check_raw_files(raw, name)

    images, labels, test_images, test_labels = (
        np.fromfile(raw / file, dtype=np.uint8, offset=len(HEADERS[file])).reshape(shape)
        for file, shape in SHAPES.items()
    )
    train, validation = hold_out(Split(images, labels), 5000)
    test = Split(test_images, test_labels)
    return Dataset(name, train, validation, test, CLASSES.get(name, DIGITS))


def default_data_dir() -> Path:
    """`STUDY_DATA_DIR`, or else a folder in the user's cache.

    Raises `DataError` if the user's home folder can't be found.
    """
    variable = os.environ.get("STUDY_DATA_DIR")
    try:
        if variable:
            return Path(variable).expanduser()
        cache = cache_folder()
    except RuntimeError as error:
        setting = f"STUDY_DATA_DIR is {variable}" if variable else "there is no STUDY_DATA_DIR"
        raise DataError(f"{setting}, and {error.args[0]} Give a --data-dir") from error
    return cache / "data"


def cache_folder() -> Path:
    """The study's folder in the user's cache.

    Raises RuntimeError if the user's home folder can't be found.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "latent-study"
