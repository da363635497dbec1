"""Convolutions as matrix products, which a GPU's libraries batch well.

Under `torch.vmap`, R convolutions become one with R groups, which cuDNN trains slowly
(pytorch#70954, #73764). As matrix products of image patches (im2col), they become one batched
product.
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


def as_pair(sizes: Sizes) -> Pair:
    """`sizes` as a pair."""
    if isinstance(sizes, int):
        return sizes, sizes
    down, across = sizes
    return down, across


def windows_of(images: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The window of images (N, C, H, W) at each position of a kernel: (N, C, H', W', K, L)."""
    down, across = padding
    windows = functional.pad(images, (across, across, down, down))
    for axis, (side, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        windows = windows.unfold(axis, side, step)
    return windows


class Fold(torch.autograd.Function):
    """`torch.nn.functional.fold` with a gradient that launches few kernels.

    PyTorch's gradient launches one kernel per image on a GPU: 6,144 per step of 32 autoencoders
    with 64 images each.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(patches: Tensor, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
        """Images (N, M, *size) from patches (N, M · K · L, positions)."""
        return functional.fold(patches, size, kernel, padding=padding, stride=stride)

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

    With groups, dilation or a named padding, it calls `torch.conv2d`.
    """
    if groups != 1 or as_pair(dilation) != (1, 1) or isinstance(padding, str):
        return torch.conv2d(images, weight, bias, stride, padding, dilation, groups)
    kernel = weight.shape[2], weight.shape[3]
    windows = windows_of(images, kernel, as_pair(stride), as_pair(padding))
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
    if groups != 1 or as_pair(dilation) != (1, 1):
        return torch.conv_transpose2d(
            images, weight, bias, stride, padding, output_padding, groups, dilation
        )
    count, channels, *sides = images.shape
    kernel = weight.shape[2], weight.shape[3]
    strides, margins, extra = as_pair(stride), as_pair(padding), as_pair(output_padding)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    patches = (pixels @ weight.flatten(1)).view(count, sides[0] * sides[1], -1)
    size = [
        (sides[axis] - 1) * strides[axis] - 2 * margins[axis] + kernel[axis] + extra[axis]
        for axis in range(2)
    ]
    results: Tensor = Fold.apply(patches.mT, (size[0], size[1]), kernel, strides, margins)
    return results if bias is None else results + bias[:, None, None]


REPLACEMENTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv2d: conv2d,
    torch.conv_transpose2d: conv_transpose2d,
}
"""Functions with the same arguments, by the PyTorch function that they replace."""


class ConvolutionsAsProducts(TorchFunctionMode):
    """Compute all convolutions in the block as matrix products, in any module."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))
