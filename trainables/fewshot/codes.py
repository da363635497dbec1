"""Codes of images under an encoder that doesn't change, computed once per machine.

Cells of `fixed` with different numbers of labels need the same codes, and so do their replicates.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data import pixels
from trainables.data.cache import save
from trainables.networks import Autoencoder, Classifier

MIN_CACHED_IMAGES = 1000
"""Fewest images whose codes are cached: for fewer, computing is as fast as looking up."""

CACHE_BYTES = 64 * 2**20
"""Bytes of codes that a process caches: 55 sets of 10,000 images at d = 30."""

_cache: OrderedDict[str, Tensor] = OrderedDict()
_cache_lock = Lock()
"""Guards `_cache`: a report encodes in several threads."""
_shared_folder: Path | None = None


def share_cache(folder: Path) -> None:
    """Share codes with other processes of this user on this machine, as files in `folder`."""
    global _shared_folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _shared_folder = folder


def encode(member: Classifier | Autoencoder, images: Tensor) -> Tensor:
    """Codes (N, d), not standardised, of `images` (N, C, H, W): bytes, or pixels in [0, 1].

    On a CPU, codes of byte images are cached. The key is a hash of every byte of encoder and images
    and of the number of threads. Hashing takes a hundredth of the time of encoding.
    """
    if images.device.type != "cpu" or images.is_floating_point() or len(images) < MIN_CACHED_IMAGES:
        return _encode(member.encoder, images)
    key = _key(member.encoder, images)
    codes = _cache.get(key)
    if codes is None and _shared_folder is not None:
        # An empty file, left by a crash of the machine, raises EOFError.
        with suppress(OSError, ValueError, EOFError):
            codes = torch.from_numpy(np.load(_shared_folder / f"{key}.npy", allow_pickle=False))
    if codes is None:
        codes = _encode(member.encoder, images)
        if _shared_folder is not None:
            save(_shared_folder / f"{key}.npy", codes.numpy())
    with _cache_lock:
        _cache[key] = codes
        _cache.move_to_end(key)
        while len(_cache) > 1 and sum(entry.nbytes for entry in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    return codes


def _key(encoder: nn.Module, images: Tensor) -> str:
    content = hashlib.sha256(f"{encoder} {torch.get_num_threads()}".encode())
    for value in encoder.state_dict().values():
        content.update(digest(value))
    content.update(_digest_of_images(images, images._version))
    return content.hexdigest()


@lru_cache(maxsize=1)  # by identity: each of a cell's encoders sees the same images in turn
def _digest_of_images(images: Tensor, version: int) -> bytes:
    return digest(images)


def digest(value: Tensor) -> bytes:
    """SHA-256 of a tensor on the CPU: its type, shape and content."""
    content = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    content.update(value.contiguous().flatten().view(torch.uint8).numpy())  # NumPy has no bfloat16
    return content.digest()


@torch.no_grad()
def _encode(encoder: nn.Module, images: Tensor, batch_size: int = 250) -> Tensor:
    return torch.cat([encoder(pixels(part)) for part in images.split(batch_size)])
