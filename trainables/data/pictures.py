"""Decode image files of any kind into one array."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from trainables.data.collection import require_memory
from trainables.data.dataset import DataError
from trainables.data.options import Options

T = TypeVar("T")

SLOW = 2000
"""Number of images from which reading shows its progress."""


def decode_images(
    name: str, places: Sequence[T], read_bytes: Callable[[T], bytes], options: Options
) -> np.ndarray:
    """Decode the images at `places` to (N, C, H, W) uint8: grey if none has colours.

    `read_bytes` returns the content of the file at a place. Raises `DataError`, which names the
    place, if an image can't be read or differs in size.
    """

    def decode(place: T) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(read_bytes(place))) as image:
                return to_array(image, options)
        except MemoryError:
            raise
        except Exception as error:  # from Pillow, or from damaged EXIF data
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = re.sub(r"<_io\.BytesIO object at 0x\w+>", "the file", reason)
            message = f"{place}: can't be read as an image ({reason}); replace or remove it"
            raise DataError(message) from None

    first = decode(places[0])
    require_memory(name, len(places), first.shape)
    arrays = []
    with ThreadPoolExecutor() as pool:
        console, fast = Console(stderr=True), len(places) < SLOW
        decoded = track(
            pool.map(decode, places),
            f"reading {len(places):,} images",
            len(places),
            console=console,
            transient=True,
            disable=fast,
        )
        for place, array in zip(places, decoded, strict=True):
            if array.shape[:2] != first.shape[:2]:
                pool.shutdown(cancel_futures=True)
                sizes = f"{places[0]} is {size_text(first)}, {place} is {size_text(array)}"
                raise DataError(
                    f"images differ in size: {sizes} (height × width); --image-size HxW makes "
                    "them equal"
                )
            arrays.append(array)
    if any(array.ndim == 3 for array in arrays):
        arrays = [a if a.ndim == 3 else np.repeat(a[:, :, np.newaxis], 3, axis=2) for a in arrays]
        return np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2))
    return np.stack(arrays)[:, np.newaxis]


def size_text(image: np.ndarray) -> str:
    """Height × width, such as `40 × 60`."""
    return f"{image.shape[0]} × {image.shape[1]}"


def to_array(image: Image.Image, options: Options) -> np.ndarray:
    """The pixels of an image as a viewer shows it, (H, W) or (H, W, 3) uint8.

    The image is rotated according to its EXIF data. Transparent parts become white. 16 bits are
    scaled to 8.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are fractions; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its pixels go from {values.min()} to {values.max()}")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode == "P" and "transparency" not in image.info:
        image = image.convert("RGB")
        red, green, blue = image.split()
        if red == green == blue:
            image = red  # a palette of greys, as in every GIF without colours
    colourless = options.grey or image.mode in ("1", "L", "LA")
    if "A" in image.getbands() or "transparency" in image.info:
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image.convert("RGBA"))
    image = image.convert("L" if colourless else "RGB")
    if options.image_size:
        height, width = options.image_size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)
