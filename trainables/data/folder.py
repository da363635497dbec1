"""Image files: a folder per class or all in one, with or without `train`, `val` and `test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainables.data.cache import cached_images
from trainables.data.collection import SPLITS, Collection, can_be_selected, number_classes
from trainables.data.dataset import DataError
from trainables.data.options import Options
from trainables.data.pictures import decode_images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
"""Endings of the files that are read; files with other endings are left out."""


class File(NamedTuple):
    """An image file, with the class and split that its folders give."""

    path: Path
    label: str | None
    split: str | None


def read(folder: Path, options: Options) -> Collection:
    """Read the images below a folder. Raises `DataError`."""
    files = list(image_files(folder))
    if can_be_selected(options.classes, [file.label for file in files]):
        files = [file for file in files if file.label in options.classes]
    if not files:
        hint = ""
        if (folder / "MNIST" / "raw").is_dir() or (folder / "raw").is_dir():
            hint = "; data in torchvision's layout are read by --dataset mnist --data-dir FOLDER"
        raise DataError(f"{folder}: no image in it ({', '.join(SUFFIXES)}){hint}")
    labelled = {file.label is not None for file in files}
    if len(labelled) > 1:
        path = next(file.path for file in files if file.label is None)
        raise DataError(f"{path}: lies beside folders of classes; move it into one of them")
    for file in files:
        try:
            str(file.label).encode()
        except UnicodeEncodeError:
            raise DataError(f"{file.path.parent!r}: its name is no text; rename it") from None
    labels = None if False in labelled else [str(file.label) for file in files]
    number_classes(str(folder), labels, len(files))  # raises before images are decoded
    paths = [file.path for file in files]
    images = cached_images(
        paths,
        (options.image_size, options.grey),
        lambda: decode_images(str(folder), paths, Path.read_bytes, options),
    )
    return Collection(
        images,
        labels,
        None if files[0].split is None else [str(file.split) for file in files],
    )


def image_files(folder: Path) -> Iterator[File]:
    """Yield the image files below a folder, in the order of their names. Raises `DataError`."""
    entries = visible_entries(folder)
    splits = {path: SPLITS.get(path.name.lower()) for path in entries if path.is_dir()}
    if not any(splits.values()):
        yield from with_inner_splits(list(files_by_class(folder, None)), folder)
        return
    for path in entries:
        if split := splits.get(path):
            yield from files_by_class(path, split)
        elif path.is_dir() or path.suffix.lower() in SUFFIXES:
            neighbours = ", ".join(other.name for other, split in splits.items() if split)
            raise DataError(f"{path}: lies beside {neighbours}; move it into one of them")


def files_by_class(folder: Path, split: str | None) -> Iterator[File]:
    """Yield the image files of one split. Each subfolder is a class, at any depth below it."""
    for path in visible_entries(folder):
        if path.is_dir():
            files = [
                file
                for file in files_below(path)
                if is_image(file) and not is_hidden(file.relative_to(folder))
            ]
            if not files:
                raise DataError(f"{path}: no image in it ({', '.join(SUFFIXES)}); remove it")
            for file in files:
                yield File(file, path.name, split)
        elif is_image(path):
            yield File(path, None, split)


def with_inner_splits(files: list[File], folder: Path) -> list[File]:
    """Return the files with the splits of folders inside the classes, such as `cat/train/1.png`.

    Return them unchanged if a file lies outside such folders, or none lies in `train`: then the
    folder is a part of its class, such as `vehicles/train/1.png` beside `vehicles/car/2.png`.
    """
    subfolders = [file.path.relative_to(folder).parts[1:-1] for file in files]
    splits = [SPLITS.get(parts[0].lower()) if parts else None for parts in subfolders]
    if None in splits or "train" not in splits:
        return files
    return [file._replace(split=split) for file, split in zip(files, splits, strict=True)]


def files_below(folder: Path) -> list[Path]:
    """The files at any depth below a folder, sorted. Links to folders are followed, each once."""
    paths, visited = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above itself would never end
            folders.clear()
            continue
        visited.add(real)
        paths += [Path(parent, name) for name in files]
    return sorted(paths)


def visible_entries(folder: Path) -> list[Path]:
    """The entries of a folder, without hidden files. Raises `DataError`."""
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(Path(path.name)))
    except OSError as error:
        raise DataError(f"{folder}: can't be read ({error.strerror})") from error


def is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
