"""Codes of images by an encoder that doesn't change, each computed once a process.

A cell of `fixed` for each number of labels needs the same ones, and so do its replicates.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

from trainables.data import pixels
from trainables.networks import Classifier, Encoder

FEWEST = 1000
"""Images from which codes are kept: fewer are computed as fast as they are found."""

KEPT = 64 * 2**20
"""Bytes of codes that a process keeps: 58 sets of 10,000 images at d = 30."""

_kept: OrderedDict[bytes, Tensor] = OrderedDict()


def encode(member: Classifier, images: Tensor) -> Tensor:
    """Codes (N, d), not standardised, of `images` (N, 1, 28, 28): bytes, or pixels in [0, 1].

    On a CPU those of the latest encoders and images of bytes are kept, by the hash of every byte
    of both and by all else that the bits depend on. Hashing takes a hundredth of the time of
    encoding.
    """
    if images.device.type != "cpu" or images.is_floating_point() or len(images) < FEWEST:
        return _encode(member.encoder, images)
    key = _key(member.encoder, images)
    if key not in _kept:
        _kept[key] = _encode(member.encoder, images)
    _kept.move_to_end(key)
    while len(_kept) > 1 and sum(codes.nbytes for codes in _kept.values()) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def _key(encoder: Encoder, images: Tensor) -> bytes:
    content = hashlib.sha256(f"{encoder} {torch.get_num_threads()}".encode())
    for value in (*encoder.state_dict().values(), images):
        content.update(f"{value.dtype} {list(value.shape)}".encode())
        content.update(value.contiguous().numpy())
    return content.digest()


@torch.no_grad()
def _encode(encoder: Encoder, images: Tensor, batch_size: int = 250) -> Tensor:
    as_bytes = not images.is_floating_point()
    parts = images.split(batch_size)
    return torch.cat([encoder(pixels(part) if as_bytes else part) for part in parts])
