"""Image files: a folder per class or all in one, with or without `train`, `val` and `test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainables.data.cache import cached_images
from trainables.data.collection import SPLITS, Collection, numbered
from trainables.data.dataset import DataError
from trainables.data.options import Options
from trainables.data.pictures import together

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
"""Endings of the files that are read; files with other endings are left out."""


class File(NamedTuple):
    """An image file, with the class and split that its folders give."""

    path: Path
    label: str | None
    split: str | None


def read(folder: Path, options: Options) -> Collection:
    """Read the images below a folder. Raises `DataError`."""
    files = list(listed(folder))
    if options.classes:
        files = [file for file in files if file.label in options.classes] or files
    if not files:
        hint = ""
        if (folder / "MNIST" / "raw").is_dir() or (folder / "raw").is_dir():
            hint = "; data in torchvision's layout are read by --dataset mnist --data-dir FOLDER"
        raise DataError(f"{folder}: no image in it ({', '.join(SUFFIXES)}){hint}")
    labelled = {file.label is not None for file in files}
    if len(labelled) > 1:
        which = next(file.path for file in files if file.label is None)
        raise DataError(f"{which}: lies beside folders of classes; move it into one of them")
    for file in files:
        try:
            str(file.label).encode()
        except UnicodeEncodeError:
            raise DataError(f"{file.path.parent!r}: its name is no text; rename it") from None
    labels = None if False in labelled else [str(file.label) for file in files]
    numbered(str(folder), labels, len(files))  # refuses labels before images are decoded
    paths = [file.path for file in files]
    images = cached_images(
        paths,
        (options.image_size, options.grey),
        lambda: together(str(folder), paths, Path.read_bytes, options),
    )
    return Collection(
        images,
        labels,
        None if files[0].split is None else [str(file.split) for file in files],
    )


def listed(folder: Path) -> Iterator[File]:
    """Yield the image files below a folder, in the order of their names. Raises `DataError`."""
    inside = visible(folder)
    splits = {path: SPLITS.get(path.name.lower()) for path in inside if path.is_dir()}
    if not any(splits.values()):
        yield from divided_by_class(list(classified(folder, None)), folder)
        return
    for path in inside:
        if split := splits.get(path):
            yield from classified(path, split)
        elif path.is_dir() or path.suffix.lower() in SUFFIXES:
            beside = ", ".join(known.name for known, split in splits.items() if split)
            raise DataError(f"{path}: lies beside {beside}; move it into one of them")


def classified(folder: Path, split: str | None) -> Iterator[File]:
    """Yield the image files of one split. Each subfolder is a class, with all that is below it."""
    for path in visible(folder):
        if path.is_dir():
            inside = [file for file in below(path)
                      if is_image(file) and not hidden(file.relative_to(folder))]  # fmt: skip
            if not inside:
                raise DataError(f"{path}: no image in it ({', '.join(SUFFIXES)}); remove it")
            for file in inside:
                yield File(file, path.name, split)
        elif is_image(path):
            yield File(path, None, split)


def divided_by_class(files: list[File], folder: Path) -> list[File]:
    """The files with the splits that folders inside the classes name, such as `cat/train/1.png`.

    Without splits if some file lies elsewhere, or none in `train`: then such a folder is a part of
    its class, such as `vehicles/train/1.png` beside `vehicles/car/2.png`.
    """
    inner = [file.path.relative_to(folder).parts[1:-1] for file in files]
    splits = [SPLITS.get(parts[0].lower()) if parts else None for parts in inner]
    if None in splits or "train" not in splits:
        return files
    return [file._replace(split=split) for file, split in zip(files, splits, strict=True)]


def below(folder: Path) -> list[Path]:
    """The files at any depth below a folder, sorted. Links to folders are followed, each once."""
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above it never ends
            folders.clear()
            continue
        seen.add(real)
        found += [Path(parent, name) for name in files]
    return sorted(found)


def visible(folder: Path) -> list[Path]:
    """The entries of a folder, without hidden files. Raises `DataError`."""
    try:
        return sorted(path for path in folder.iterdir() if not hidden(Path(path.name)))
    except OSError as error:
        raise DataError(f"{folder}: can't be read ({error.strerror})") from error


def hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
