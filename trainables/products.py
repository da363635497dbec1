"""Convolutions as matrix products, which a GPU's libraries batch well.

Under `torch.vmap`, R convolutions become one with R groups, which cuDNN trains slowly
(pytorch#70954, #73764). As matrix products, they become one batched product of image patches, which
are first copied side by side (im2col).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]

Sizes = int | Pair
"""One size for both axes, or one for each."""


def both(sizes: Sizes) -> Pair:
    """`sizes` as a pair."""
    if isinstance(sizes, int):
        return sizes, sizes
    down, across = sizes
    return down, across


def windows_of(images: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The part of images (N, C, H, W) under each place of a kernel: (N, C, H', W', K, L)."""
    down, across = padding
    windows = functional.pad(images, (across, across, down, down))
    for axis, (side, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        windows = windows.unfold(axis, side, step)
    return windows


class Fold(torch.autograd.Function):
    """`torch.nn.functional.fold` with a gradient of a few launches.

    PyTorch's own launches a kernel per image on a GPU: 6,144 a step for 32 autoencoders that see 64
    images each.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(patches: Tensor, made: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
        """Images (N, M, *made) from patches (N, M · K · L, places)."""
        return functional.fold(patches, made, kernel, padding=padding, stride=stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, *ctx.geometry = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        windows = windows_of(gradients[0], *ctx.geometry)
        count, _, height, width = windows.shape[:4]
        patches = windows.permute(0, 1, 4, 5, 2, 3).reshape(count, -1, height * width)
        return patches, None, None, None, None


def conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d` of images (N, C, H, W) and weights (M, C, K, L), as a matrix product.

    With groups, dilation or a named padding, PyTorch's own is used.
    """
    if groups != 1 or both(dilation) != (1, 1) or isinstance(padding, str):
        return torch.conv2d(images, weight, bias, stride, padding, dilation, groups)
    kernel = weight.shape[2], weight.shape[3]
    windows = windows_of(images, kernel, both(stride), both(padding))
    count, _, height, width = windows.shape[:4]
    patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(count * height * width, -1)
    results = functional.linear(patches, weight.flatten(1), bias)
    return results.view(count, height, width, -1).permute(0, 3, 1, 2)


def conv_transpose2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """`torch.conv_transpose2d` of images (N, C, H, W) and weights (C, M, K, L), like `conv2d`."""
    if groups != 1 or both(dilation) != (1, 1):
        return torch.conv_transpose2d(
            images, weight, bias, stride, padding, output_padding, groups, dilation
        )
    count, channels, *sides = images.shape
    kernel = weight.shape[2], weight.shape[3]
    step, cut, more = both(stride), both(padding), both(output_padding)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    patches = (pixels @ weight.flatten(1)).view(count, sides[0] * sides[1], -1)
    made = [
        (sides[axis] - 1) * step[axis] - 2 * cut[axis] + kernel[axis] + more[axis]
        for axis in range(2)
    ]
    results: Tensor = Fold.apply(patches.mT, (made[0], made[1]), kernel, step, cut)
    return results if bias is None else results + bias[:, None, None]


OURS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv2d: conv2d,
    torch.conv_transpose2d: conv_transpose2d,
}
"""Replacements of PyTorch's functions, with the same arguments."""


class ConvolutionsAsProducts(TorchFunctionMode):
    """Compute all convolutions in the block as matrix products, in any module."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return OURS.get(func, func)(*args, **(kwargs or {}))
