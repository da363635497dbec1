"""Convolutions as matrix products are PyTorch's convolutions."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables import products
from trainables.products import ConvolutionsAsProducts

DRAW = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(shape, generator=DRAW, dtype=torch.float64).requires_grad_()


def assert_same(ours, theirs, inputs):
    """Compare values, and the gradients of their squares by `inputs`."""
    torch.testing.assert_close(ours, theirs)
    one = torch.autograd.grad(ours.square().sum(), inputs)
    other = torch.autograd.grad(theirs.square().sum(), inputs)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 2), (2, 1)), (3, 2)])
def test_convolution_matches_pytorch(kernel, stride, padding, bias):
    inputs = [random(2, 3, 9, 8), random(4, 3, *kernel)] + ([random(4)] if bias else [])
    ours = products.conv2d(*inputs, stride=stride, padding=padding)
    theirs = functional.conv2d(*inputs, stride=stride, padding=padding)
    assert_same(ours, theirs, inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3)])
@pytest.mark.parametrize(
    ("stride", "padding", "more"), [(1, 0, 0), (2, 1, 1), (2, 1, (0, 1)), ((3, 2), (1, 0), (2, 1))]
)
def test_transposed_convolution_matches_pytorch(kernel, stride, padding, more, bias):
    inputs = [random(2, 3, 4, 5), random(3, 4, *kernel)] + ([random(4)] if bias else [])
    options = {"stride": stride, "padding": padding, "output_padding": more}
    ours = products.conv_transpose2d(*inputs, **options)
    theirs = functional.conv_transpose2d(*inputs, **options)
    assert_same(ours, theirs, inputs)


def test_transposed_gradient_uses_no_im2col():
    """A GPU's im2col launches a kernel per image."""
    weight = random(3, 4, 3, 3)

    def gradient(images):
        made = products.conv_transpose2d(images, weight, stride=2, padding=1, output_padding=1)
        return torch.autograd.grad(made.square().sum(), [images, weight])

    operations = torch.fx.experimental.proxy_tensor.make_fx(gradient)(random(2, 3, 4, 4)).code
    assert "col2im" in operations and "im2col" not in operations


NETWORKS = {
    "ours": nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.GELU(),
        nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
    ),
    "groups": nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ConvTranspose2d(4, 2, 3, groups=2)),
    "dilated": nn.Sequential(
        nn.Conv2d(2, 4, 3, dilation=2), nn.ConvTranspose2d(4, 2, 3, dilation=2)
    ),
    "padded by name": nn.Conv2d(2, 4, 3, padding="same"),
    "reflected": nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_gives_the_same_output(name):
    network = NETWORKS[name].double()
    inputs = [random(3, 2, 8, 8), *network.parameters()]
    with ConvolutionsAsProducts():
        ours = network(inputs[0])
    assert_same(ours, network(inputs[0]), inputs)


def test_no_other_convolution_is_left():
    def fail(*arguments, **options):
        raise AssertionError("a convolution")

    network = NETWORKS["ours"].double()
    with ConvolutionsAsProducts():
        operations = torch.fx.experimental.proxy_tensor.make_fx(network)(random(3, 2, 8, 8))
    assert "convolution" not in operations.code
    assert (
        "convolution"
        in torch.fx.experimental.proxy_tensor.make_fx(network)(random(3, 2, 8, 8)).code
    )
