"""torchvision's datasets as arrays: those in `NAMED`, and `torchvision:CLASS`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.arrays import label_names
from trainables.data.collection import Collection, as_bytes, channels_first
from trainables.data.dataset import DataError, Dataset
from trainables.data.mnist import default_data_dir, download
from trainables.data.options import Options

PREFIX = "torchvision:"

NAMED: dict[str, tuple[str, Mapping[str, str]]] = {
    **{f"emnist-{part}": ("EMNIST", {"split": part})
       for part in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")},
    "usps": ("USPS", {}),
    "svhn": ("SVHN", {}),
    "cifar10": ("CIFAR10", {}),
    "cifar100": ("CIFAR100", {}),
    "stl10": ("STL10", {}),
}  # fmt: skip
"""torchvision's class and its arguments, by name of the dataset."""


def read(name: str, data_dir: Path | None, options: Options, fetch: bool) -> Dataset:
    """Read one of `NAMED`, or `torchvision:CLASS`; if missing, download it if `fetch`.

    Raises `DataError`.
    """
    import torchvision.datasets

    class_name, arguments = NAMED.get(name, (name.removeprefix(PREFIX), {}))
    dataset_class = getattr(torchvision.datasets, class_name, None)
    if not inspect.isclass(dataset_class):
        raise DataError(f"{name}: torchvision.datasets has no class {class_name!r}")
    root = data_dir or default_data_dir()
    parts = [
        (split, open_split(dataset_class, name, root, fetch, {**arguments, **selection}))
        for split, selection in split_arguments(dataset_class)
    ]
    collections = [read_split(name, part, options) for _, part in parts]
    labels = [label for c in collections for label in c.labels or ()]
    splits = [split for (split, _), c in zip(parts, collections, strict=True) for _ in c.images]
    images = np.concatenate([c.images for c in collections])
    has_splits = len(parts) > 1
    return Collection(images, labels or None, splits if has_splits else None).to_dataset(name)


def split_arguments(dataset_class: type) -> list[tuple[str, dict[str, Any]]]:
    """The splits of a torchvision class, with the argument that selects each."""
    accepted = inspect.signature(dataset_class).parameters
    if "train" in accepted or dataset_class.__name__ == "EMNIST":  # which passes `train` on
        return [("train", {"train": True}), ("test", {"train": False})]
    if "split" in accepted and accepted["split"].default is not inspect.Parameter.empty:
        return [("train", {"split": "train"}), ("test", {"split": "test"})]
    return [("train", {})]


def open_split(
    dataset_class: type, name: str, root: Path, fetch: bool, arguments: dict[str, Any]
) -> Any:
    """One split of a torchvision dataset. Raises `DataError`."""
    accepted = inspect.signature(dataset_class).parameters
    if "download" in accepted or name.startswith("emnist-"):
        missing = f"{root}/{dataset_class.__name__}"
        return download(dataset_class, root, name, missing, fetch, **arguments)
    folders = () if name == f"{PREFIX}FakeData" else (root,)
    try:
        return dataset_class(*folders, **arguments)
    except (TypeError, RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{name}: {' '.join(str(error).split())}") from error


def read_split(name: str, part: Any, options: Options) -> Collection:
    """Images and labels of one split: from its arrays if it has any, else image by image."""
    targets = next((getattr(part, a) for a in ("targets", "labels") if hasattr(part, a)), None)
    data = getattr(part, "data", None)
    if data is None or targets is None or len(data) != len(targets):
        return read_each(name, part, options)
    images = channels_first(name, as_bytes(name, np.asarray(data)))
    if type(part).__name__ == "EMNIST":
        images = np.ascontiguousarray(images.transpose(0, 1, 3, 2))  # published transposed
    return Collection(images, names_of(name, part, np.asarray(targets)))


def read_each(name: str, part: Any, options: Options) -> Collection:
    """Images and labels of a split whose class opens each image on access. Raises `DataError`."""
    from trainables.data.pictures import size_text, to_array

    arrays, targets = [], []
    for image, target in (part[index] for index in range(len(part))):
        arrays.append(to_array(image, options))
        targets.append(target)
        if arrays[-1].shape[:2] != arrays[0].shape[:2]:
            raise DataError(
                f"{name}: images of {size_text(arrays[0])} and of {size_text(arrays[-1])} "
                "(height × width); --image-size HxW makes them equal"
            )
    if not arrays:
        raise DataError(f"{name}: there is no image in it")
    if any(not isinstance(target, int | np.integer) for target in targets):
        raise DataError(f"{name}: its targets are no classes; each image needs one whole number")
    images = channels_first(name, np.stack(arrays))
    return Collection(images, names_of(name, part, np.asarray(targets)))


def names_of(name: str, part: Any, targets: np.ndarray) -> list[str] | None:
    """torchvision's class names of `targets` (N,); None for unlabelled images."""
    if (targets < 0).all():
        return None
    names = list(getattr(part, "classes", ()))
    numbers = label_names(Path(name), targets, len(targets))
    digits = [str(label).partition(" - ")[0] for label in names]  # MNIST's are "0 - zero"
    if digits == [str(number) for number in range(len(names))]:
        names = digits
    return [str(names[int(n)]) if int(n) < len(names) else n for n in numbers]
