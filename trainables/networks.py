"""The networks: encoders, decoders, autoencoders, and the small classifier on the code."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trainables.data import DIGITS
from trainables.own import build, is_own
from trainables.replicates import has_remainder
from trainables.shape import Shape

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "none": nn.Identity,
}

ONE_THREAD_ELEMENTS = 32768
"""Largest number of elements for which PyTorch computes an elementwise operation on one thread."""


class Residual(nn.Module):
    """Feature maps (N, C, H, W) plus the output of two convolutions of them."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.added = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, values: Tensor) -> Tensor:
        return values + self.added(values)


def activation_of(shape: Shape, channels: int) -> nn.Module:
    """The activation after a convolution; in a resnet, followed by a residual block."""
    activation = ACTIVATIONS[shape.activation]()
    if shape.network != "resnet":
        return activation
    return nn.Sequential(activation, Residual(channels, shape.activation))


class Encoder(nn.Module):
    """Images (N, C, H, W) to codes (N, d)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out in itertools.pairwise(shape.channels):
            layers += [
                nn.Conv2d(
                    channels_in, channels_out, shape.kernel, stride=2, padding=shape.kernel // 2
                ),
                activation_of(shape, channels_out),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.code = nn.Linear(shape.features, shape.latent_dim)

    def layers(self) -> nn.Sequential:
        """The layers before the code: weighted layers and activations alternate."""
        return self.convolutions

    def features(self, images: Tensor) -> Tensor:
        """Features (N, features); the code is a linear map of them."""
        return self.convolutions(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.code(self.features(images))


class Decoder(nn.Module):
    """Codes (N, d) to images (N, C, H, W); pixels in (0, 1) unless the network is affine."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.folded = (shape.channels[-1], *shape.sides[-1])
        self.features = nn.Linear(shape.latent_dim, shape.features)
        layers: list[nn.Module] = []
        for layer in range(shape.depth, 0, -1):
            (height, breadth), doubled = shape.sides[layer], shape.sides[layer - 1]
            layers += [
                activation_of(shape, shape.channels[layer]),
                nn.ConvTranspose2d(
                    shape.channels[layer],
                    shape.channels[layer - 1],
                    shape.kernel,
                    stride=2,
                    padding=shape.kernel // 2,
                    # The encoder rounds half of an odd side up: 7 → 4 → 7, but 14 → 7 → 14.
                    output_padding=(doubled[0] - 2 * height + 1, doubled[1] - 2 * breadth + 1),
                ),
            ]
        last: Any = layers[-1]
        affine = shape.activation == "none"
        if not affine:
            # Start near the mean pixel, sigmoid(-2) = 0.12, not at 0.5. From 0.5, one run in six
            # collapsed to all-black images (validation MSE 0.112), and the others took 8 epochs to
            # reach the error of this bias after 3 (0.0166; n = 6 seeds, d = 14, mnist-5k).
            nn.init.constant_(last.bias, -2.0)
        layers.append(nn.Identity() if affine else nn.Sigmoid())
        self.convolutions = nn.Sequential(*layers)

    def forward(self, codes: Tensor) -> Tensor:
        return self.convolutions(self.features(codes).unflatten(1, self.folded))


def dense_layers(units: list[int], activation: str) -> list[nn.Module]:
    """Fully connected layers with these numbers of `units`, each followed by the activation."""
    layers: list[nn.Module] = []
    for units_in, units_out in itertools.pairwise(units):
        layers += [nn.Linear(units_in, units_out), ACTIVATIONS[activation]()]
    return layers


class DenseEncoder(nn.Module):
    """Images (N, C, H, W) to codes (N, d), by fully connected layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.hidden = nn.Sequential(*dense_layers(shape.units, shape.activation))
        self.code = nn.Linear(shape.units[-1], shape.latent_dim)

    def layers(self) -> nn.Sequential:
        """The layers before the code: weighted layers and activations alternate."""
        return self.hidden

    def features(self, images: Tensor) -> Tensor:
        """Features (N, units); the code is a linear map of them."""
        return self.hidden(images.flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.code(self.features(images))


class DenseDecoder(nn.Module):
    """Codes (N, d) to images (N, C, H, W), by fully connected layers; pixels as in `Decoder`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        pixels, *hidden = shape.units
        self.shape = shape.image
        units = [shape.latent_dim, *reversed(hidden)]
        self.hidden = nn.Sequential(*dense_layers(units, shape.activation))
        self.image = nn.Linear(units[-1], pixels)
        self.affine = shape.activation == "none"
        if not self.affine:
            nn.init.constant_(self.image.bias, -2.0)  # near the mean pixel, as `Decoder` does

    def forward(self, codes: Tensor) -> Tensor:
        images = self.image(self.hidden(codes)).unflatten(1, self.shape)
        return images if self.affine else images.sigmoid()


def encoder_of(shape: Shape) -> nn.Module:
    """An untrained encoder of this shape."""
    if is_own(shape.network):
        return build(shape.network, shape.image, shape.latent_dim)[0]
    return DenseEncoder(shape) if shape.network == "mlp" else Encoder(shape)


class Autoencoder(nn.Module):
    """An encoder and its decoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.encoder: Any
        self.decoder: Any
        if is_own(shape.network):
            self.encoder, self.decoder = build(shape.network, shape.image, shape.latent_dim)
            return
        self.encoder = encoder_of(shape)
        self.decoder = DenseDecoder(shape) if shape.network == "mlp" else Decoder(shape)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))

    def stored_module(self) -> nn.Module:
        """The encoder and the decoder, as they are stored."""
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})


class Variational(Autoencoder):
    """A variational autoencoder; its codes are the means of Gaussians."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.log_variance = nn.Linear(self.encoder.code.in_features, shape.latent_dim)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Any:
        """Decode noisy codes of `images`; return the decoded images and divergences (N,).

        `noise` (N, d) is standard normal. A divergence is that of a code's Gaussian from the
        standard normal distribution, in nats. Without noise, return only the images decoded from
        the means.
        """
        if noise is None:
            return super().forward(images)
        features = self.encoder.features(images)
        mean, log_variance = self.encoder.code(features), self.log_variance(features)
        codes = mean + noise * (log_variance / 2).exp()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
        return self.decoder(codes), divergence


class Contrastive(Autoencoder):
    """An encoder that learns to tell images apart, and a decoder that reconstructs from its codes.

    During training, batch norm stands between every layer and its activation. Logistic regression
    on the codes of 20 and 160 labelled images then classifies 82.0 and 94.8 % of the validation
    images correctly; without batch norm, 73.1 and 92.5 % (all of MNIST, 4 epochs, d = 32; n = 1
    encoder, 8 subsets).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        layers: Any = self.encoder.layers()[::2]
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(layer.out_channels)
            if isinstance(layer, nn.Conv2d)
            else nn.BatchNorm1d(layer.out_features)
            for layer in layers
        )
        self.projection = nn.Sequential(
            nn.Linear(shape.latent_dim, 128), nn.GELU(), nn.Linear(128, 64)
        )

    def codes(self, images: Tensor) -> Tensor:
        """Codes (N, d) of `images` (N, C, H, W)."""
        layers = self.encoder.layers()
        values = images if isinstance(layers[0], nn.Conv2d) else images.flatten(1)
        for layer, activation, norm in zip(layers[::2], layers[1::2], self.norms, strict=True):
            values = activation(norm(layer(values)))
        return self.encoder.code(values.flatten(1))

    def forward(self, images: Tensor, other: Tensor | None = None) -> Any:
        """Return projected directions (2 N, 64) of two views of N images, and the first, decoded.

        `images` and `other` hold the views, (N, C, H, W) each. The decoder's gradient doesn't reach
        the codes. Without `other`, return only the decoded images.
        """
        if other is None:
            return self.decoder(self.codes(images))
        codes = self.codes(torch.cat([images, other]))
        directions = functional.normalize(self.projection(codes), dim=1)
        return directions, self.decoder(codes[: len(images)].detach())

    def stored_module(self) -> nn.Module:
        """The encoder, with batch norm folded into its layers, and the decoder.

        With its running statistics, batch norm is an affine map.
        """
        encoder = copy.deepcopy(self.encoder).eval()
        layers: Any = encoder.layers()
        for index, norm in enumerate(copy.deepcopy(self.norms).eval()):
            fuse: Any = (
                fuse_conv_bn_eval if isinstance(norm, nn.BatchNorm2d) else fuse_linear_bn_eval
            )
            layers[2 * index] = fuse(layers[2 * index], norm)
        return nn.ModuleDict({"encoder": encoder, "decoder": self.decoder})


class Standardise(nn.Module):
    """Standardise codes (N, d) by a fixed mean and standard deviation (d,).

    The scale of an autoencoder's codes is arbitrary, from 1 to 30 in this study. With standardised
    codes, one learning rate serves all heads.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def fit(self, codes: Tensor) -> None:
        """Compute the statistics of `codes` (N, d); a constant coordinate keeps scale 1."""
        deviation = codes.std(dim=0)
        self.mean.copy_(codes.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, codes: Tensor) -> Tensor:
        return (codes - self.mean) / self.scale


class Head(nn.Sequential):
    """Standardised codes (N, d) to class scores (N, K): the assignment's MLP [d, 32], [32, 10]."""

    def __init__(self, latent_dim: int, hidden: int = 32, classes: int = len(DIGITS)) -> None:
        super().__init__(nn.Linear(latent_dim, hidden), nn.GELU(), nn.Linear(hidden, classes))

    @staticmethod
    def batched(parameters: Mapping[str, Tensor], codes: Tensor) -> Tensor:
        """Class scores (R, N, K) of codes (R, N, d) by R heads with these `parameters` (R, …)."""
        hidden = batched_gelu(batched_linear(parameters, "0", codes))
        return batched_linear(parameters, "2", hidden)


def batched_gelu(inputs: Tensor) -> Tensor:
    """GELU of `inputs` (R, …), with the same bits for a replicate at any R.

    A CPU's vector instructions round GELU's gradient differently from the scalar instructions that
    compute the remaining elements, and each thread has its own remaining elements.
    """
    one_thread = inputs.numel() <= ONE_THREAD_ELEMENTS or torch.get_num_threads() == 1
    if inputs.device.type != "cpu" or (one_thread and not has_remainder(inputs)):
        return functional.gelu(inputs)
    return torch.stack([functional.gelu(own) for own in inputs])


def batched_linear(parameters: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    """Outputs (R, N, M) of R linear layers of this `name`, for `inputs` (R, N, K)."""
    bias, weight = parameters[f"{name}.bias"], parameters[f"{name}.weight"]
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


class Classifier(nn.Module):
    """Images (N, C, H, W) to class scores (N, K), through an encoder's code."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        first: Any = head[0]
        self.standardise = Standardise(first.in_features)
        self.head = head

    @classmethod
    def untrained(cls, shape: Shape, hidden: int = 32) -> Classifier:
        """A classifier with random weights."""
        return cls(encoder_of(shape), Head(shape.latent_dim, hidden))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.standardise(self.encoder(images)))


def count_parameters(module: nn.Module) -> int:
    """Number of elements in the parameters of `module`."""
    return sum(parameter.numel() for parameter in module.parameters())
