"""Precision of matrix products and convolutions in training: float32, TF32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
    torch.bmm,
    torch.baddbmm,
}
"""The products that `trainables.networks` and their losses use. Other products, in a user's own
networks, stay in float32."""


class ProductsInBfloat16(TorchFunctionMode):
    """Round the factors and results of `PRODUCTS` in the block to bfloat16, in any module.

    Every strategy rounds the same way, whereas `torch.autocast` leaves convolutions inside
    `torch.vmap` in float32. Results are converted back to float32; all other operations, and their
    weights, stay in float32.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        factors = [each for each in (*args, *named.values()) if isinstance(each, Tensor)]
        if func not in PRODUCTS or factors[0].dtype != torch.float32:
            return func(*args, **named)
        rounded = map(_rounded, args)
        return func(*rounded, **{name: _rounded(each) for name, each in named.items()}).float()


def _rounded(argument: Any) -> Any:
    return argument.bfloat16() if isinstance(argument, Tensor) else argument


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Compute products in this precision inside the block.

    `tf32` rounds the factors of float32 products to 10 bits on a GPU, and changes nothing on a CPU;
    `bfloat16` rounds factors and results to 7. Sums, parameters and updates stay float32.
    """
    matmul: Any = torch.backends.cuda.matmul
    switches = {
        # Partial sums stay float32: which of them are rounded depends on the number of replicates.
        "bfloat16": [(matmul, "allow_bf16_reduced_precision_reduction", False)],
        "tf32": [(matmul, "allow_tf32", True), (torch.backends.cudnn, "allow_tf32", True)],
        "float32": [],  # as a GPU does after `pick_device`
    }
    with ExitStack() as stack:
        for backend, name, value in switches[precision]:
            stack.callback(setattr, backend, name, getattr(backend, name))
            setattr(backend, name, value)
        if precision == "bfloat16":
            stack.enter_context(ProductsInBfloat16())
        yield
