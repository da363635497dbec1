"""Arithmetic of the products in training: float32, or less on the tensor cores of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS: set[Callable[..., Any]] = {
    torch.conv2d,
    torch.conv_transpose2d,
    torch.nn.functional.linear,
    torch.matmul,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
}
"""Functions that compute products of matrices."""


class ProductsInBfloat16(TorchFunctionMode):
    """Compute all products in the block with bfloat16 factors and results, in any module.

    Unlike `torch.autocast`, it works inside `torch.vmap`, where autocast leaves convolutions in
    float32.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in PRODUCTS:
            args = tuple(each.bfloat16() if isinstance(each, Tensor) else each for each in args)
        return func(*args, **(kwargs or {}))


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Compute products in this precision inside the block.

    `tf32` rounds the factors of float32 products to 10 bits on a GPU, and changes nothing on a CPU;
    `bfloat16` rounds factors and results to 7. Parameters and their updates stay float32.
    """
    if precision == "bfloat16":
        with ProductsInBfloat16():
            yield
    elif precision == "tf32":
        backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
        before = [backend.allow_tf32 for backend in backends]
        try:
            for backend in backends:
                backend.allow_tf32 = True
            yield
        finally:
            for backend, value in zip(backends, before, strict=True):
                backend.allow_tf32 = value
    else:  # float32, as a GPU does after `pick_device`
        yield
