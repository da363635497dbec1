"""The networks: convolutional encoder and decoder, and the small classifier on the code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data import CLASSES
from trainables.replicates import leaves_rest
from trainables.settings import SIDES, Shape

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "none": nn.Identity,
}

GRAIN = 32768
"""Numbers up to which PyTorch leaves an elementwise operation to one thread."""


class Encoder(nn.Module):
    """Images (N, 1, 28, 28) to codes (N, d)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in zip(shape.channels, shape.channels[1:], strict=False):
            layers += [
                nn.Conv2d(taken, given, shape.kernel, stride=2, padding=shape.kernel // 2),
                ACTIVATIONS[shape.activation](),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.code = nn.Linear(shape.features, shape.latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.code(self.convolutions(images).flatten(1))


class Decoder(nn.Module):
    """Codes (N, d) to images (N, 1, 28, 28); pixels in (0, 1) unless the network is affine."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.folded = (shape.channels[-1], SIDES[shape.depth], SIDES[shape.depth])
        self.features = nn.Linear(shape.latent_dim, shape.features)
        layers: list[nn.Module] = []
        for layer in range(shape.depth, 0, -1):
            small, large = SIDES[layer], SIDES[layer - 1]
            layers += [
                ACTIVATIONS[shape.activation](),
                nn.ConvTranspose2d(
                    shape.channels[layer],
                    shape.channels[layer - 1],
                    shape.kernel,
                    stride=2,
                    padding=shape.kernel // 2,
                    # 4 → 7 halves an odd side; the other sides double.
                    output_padding=large - (2 * small - 1),
                ),
            ]
        last = layers[-1]
        affine = shape.activation == "none"
        if not affine and isinstance(last, nn.ConvTranspose2d) and last.bias is not None:
            # Start near the mean pixel, sigmoid(-2) = 0.12, not at 0.5. From 0.5, one run in six
            # fell into all-black images for good (validation MSE 0.112), and the others took 8
            # epochs to where this takes 3 (0.0166; n = 6 seeds, d = 14, mnist-5k, 3 epochs).
            nn.init.constant_(last.bias, -2.0)
        layers.append(nn.Identity() if affine else nn.Sigmoid())
        self.convolutions = nn.Sequential(*layers)

    def forward(self, codes: Tensor) -> Tensor:
        return self.convolutions(self.features(codes).unflatten(1, self.folded))


def dense_layers(units: list[int], activation: str) -> list[nn.Module]:
    """Fully connected layers of these `units`, each with the activation after it."""
    layers: list[nn.Module] = []
    for units_in, units_out in itertools.pairwise(units):
        layers += [nn.Linear(units_in, units_out), ACTIVATIONS[activation]()]
    return layers


class DenseEncoder(nn.Module):
    """Images (N, 1, 28, 28) to codes (N, d), by fully connected layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.hidden = nn.Sequential(*dense_layers(shape.units, shape.activation))
        self.code = nn.Linear(shape.units[-1], shape.latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.code(self.hidden(images.flatten(1)))


class DenseDecoder(nn.Module):
    """Codes (N, d) to images (N, 1, 28, 28), by fully connected layers; pixels as `Decoder`'s."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        pixels, *hidden = shape.units
        units = [shape.latent_dim, *reversed(hidden)]
        self.hidden = nn.Sequential(*dense_layers(units, shape.activation))
        self.image = nn.Linear(units[-1], pixels)
        self.affine = shape.activation == "none"
        if not self.affine:
            nn.init.constant_(self.image.bias, -2.0)  # near the mean pixel, as `Decoder` does

    def forward(self, codes: Tensor) -> Tensor:
        images = self.image(self.hidden(codes)).unflatten(1, (1, SIDES[0], SIDES[0]))
        return images if self.affine else images.sigmoid()


def encoder_of(shape: Shape) -> Encoder | DenseEncoder:
    """An untrained encoder of this shape."""
    return DenseEncoder(shape) if shape.network == "mlp" else Encoder(shape)


class Autoencoder(nn.Module):
    """An encoder and its decoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.encoder = encoder_of(shape)
        self.decoder = DenseDecoder(shape) if shape.network == "mlp" else Decoder(shape)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


class Standardise(nn.Module):
    """Codes (N, d) to mean 0 and standard deviation 1 under fixed statistics (d,).

    An autoencoder's code has whatever scale its decoder undoes, from 1 to 30 in this study; a
    head with one learning rate for all of them needs it taken out.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def fit(self, codes: Tensor) -> None:
        """Take the statistics of `codes` (N, d); a coordinate that never changes keeps scale 1."""
        deviation = codes.std(dim=0)
        self.mean.copy_(codes.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, codes: Tensor) -> Tensor:
        return (codes - self.mean) / self.scale


class Head(nn.Sequential):
    """Standardised codes (N, d) to class scores (N, 10): the assignment's MLP [d, 32], [32, 10]."""

    def __init__(self, latent_dim: int, hidden: int = 32) -> None:
        super().__init__(nn.Linear(latent_dim, hidden), nn.GELU(), nn.Linear(hidden, CLASSES))

    @staticmethod
    def batched(parameters: Mapping[str, Tensor], codes: Tensor) -> Tensor:
        """Class scores (R, N, 10) of codes (R, N, d) by R heads with these `parameters` (R, …)."""
        hidden = batched_gelu(batched_linear(parameters, "0", codes))
        return batched_linear(parameters, "2", hidden)


def batched_gelu(inputs: Tensor) -> Tensor:
    """GELU of `inputs` (R, …), to the same bits for a replicate whatever R is.

    A CPU's vector instructions and the scalar ones for what is left over round GELU's gradient
    differently, and threads have rests of their own.
    """
    one_thread = inputs.numel() <= GRAIN or torch.get_num_threads() == 1
    if inputs.device.type != "cpu" or (one_thread and not leaves_rest(inputs)):
        return functional.gelu(inputs)
    return torch.stack([functional.gelu(own) for own in inputs])


def batched_linear(parameters: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    """What R linear layers of this `name` make of `inputs` (R, N, K): (R, N, M)."""
    bias, weight = parameters[f"{name}.bias"], parameters[f"{name}.weight"]
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


class Classifier(nn.Module):
    """Images (N, 1, 28, 28) to class scores (N, 10), through an encoder's code."""

    def __init__(self, encoder: Encoder | DenseEncoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.standardise = Standardise(encoder.code.out_features)
        self.head = head

    @classmethod
    def untrained(cls, shape: Shape, hidden: int = 32) -> Classifier:
        """One whose parts have random weights."""
        return cls(encoder_of(shape), Head(shape.latent_dim, hidden))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.standardise(self.encoder(images)))


def count_parameters(module: nn.Module) -> int:
    """How many numbers `module` can learn."""
    return sum(parameter.numel() for parameter in module.parameters())
