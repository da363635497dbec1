"""Shapes, sizes and symmetry of the networks."""

import pytest
import torch
from torch import nn

from trainables.networks import (
    ACTIVATIONS,
    Autoencoder,
    Classifier,
    Decoder,
    Encoder,
    Head,
    Shape,
    Standardise,
    count_parameters,
)


def convolutions(module):
    return [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("latent_dim", [1, 2, 30])
def test_images_become_codes_and_codes_images(latent_dim, depth, kernel):
    shape = Shape(latent_dim, depth, width=2, kernel=kernel)
    images = torch.rand(3, 1, 28, 28)
    codes = Encoder(shape)(images)
    assert codes.shape == (3, latent_dim)
    assert Decoder(shape)(codes).shape == (3, 1, 28, 28)
    assert Autoencoder(shape)(images).shape == (3, 1, 28, 28)
    assert Classifier.untrained(shape)(images).shape == (3, 10)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_decoder_mirrors_the_encoder(depth):
    model = Autoencoder(Shape(5, depth, width=3))
    sides = {"encoder": [28], "decoder": []}

    def record(name):
        return lambda module, inputs, output: sides[name].append(output.shape[-1])

    for name in sides:
        for layer in convolutions(getattr(model, name)):
            layer.register_forward_hook(record(name))
    model(torch.rand(1, 1, 28, 28))
    assert sides["encoder"] == [28, 14, 7, 4, 2][: depth + 1]
    assert sides["decoder"] == sides["encoder"][-2::-1]

    encoding = [(c.in_channels, c.out_channels) for c in convolutions(model.encoder)]
    decoding = [(c.in_channels, c.out_channels) for c in convolutions(model.decoder)]
    assert encoding == [(1, 3), (3, 6), (6, 12), (12, 24)][:depth]
    assert decoding == [(given, taken) for taken, given in reversed(encoding)]


@pytest.mark.parametrize("activation", ["gelu", "none"])
def test_mlp_mirrors_its_layers(activation):
    """Units 784, 64, 32 and 3: 784·64 + 64, 64·32 + 32, 32·3 + 3, and back."""
    model = Autoencoder(Shape(3, 2, width=2, activation=activation, network="mlp"))
    assert count_parameters(model.encoder) == 50_240 + 2_080 + 99
    assert count_parameters(model.decoder) == (3 * 32 + 32) + (32 * 64 + 64) + (64 * 784 + 784)
    images = torch.rand(5, 1, 28, 28)
    restored = model(images)
    assert restored.shape == images.shape
    pixels_near_mean = abs(restored.mean().item() - torch.tensor(-2.0).sigmoid().item()) < 0.02
    assert pixels_near_mean == (activation == "gelu")


def test_parameter_counts_match_those_by_hand():
    shape = Shape(latent_dim=14, depth=3, width=16, kernel=3)
    encoder = (1 * 16 * 9 + 16) + (16 * 32 * 9 + 32) + (32 * 64 * 9 + 64) + (64 * 16 * 14 + 14)
    decoder = (14 * 64 * 16 + 64 * 16) + (64 * 32 * 9 + 32) + (32 * 16 * 9 + 16) + (16 * 9 + 1)
    head = (14 * 32 + 32) + (32 * 10 + 10)
    assert (encoder, decoder, head) == (37_646, 38_593, 810)
    assert count_parameters(Encoder(shape)) == encoder
    assert count_parameters(Decoder(shape)) == decoder
    assert count_parameters(Autoencoder(shape)) == 76_239
    assert count_parameters(Head(14)) == head
    assert count_parameters(Classifier.untrained(shape)) == 38_456


def test_reconstructions_start_near_mean_and_stay_in_0_1():
    torch.manual_seed(0)
    images = Autoencoder(Shape(8, 3, 16))(torch.rand(20, 1, 28, 28))
    assert images.mean().item() == pytest.approx(0.12, abs=0.02)
    far = Decoder(Shape(8, 2, 4))(1000 * torch.randn(20, 8))
    assert far.min() >= 0
    assert far.max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_without_activations_the_autoencoder_is_affine(depth, double_precision):
    torch.manual_seed(0)
    model = Autoencoder(Shape(6, depth, width=2, activation="none"))
    first, second = torch.rand(2, 4, 1, 28, 28)
    mixed = model(0.3 * first + 0.7 * second)
    assert torch.allclose(mixed, 0.3 * model(first) + 0.7 * model(second), atol=1e-12)
    assert not torch.allclose(mixed, model(first), atol=1e-6)


def test_standardised_codes_have_mean_0_and_deviation_1(double_precision):
    torch.manual_seed(0)
    codes = torch.randn(500, 3) * torch.tensor([0.01, 1.0, 100.0]) + torch.tensor([5.0, 0, -3])
    standardise = Standardise(3)
    assert torch.equal(standardise(codes), codes)  # before it has seen any
    standardise.fit(codes)
    result = standardise(codes)
    assert result.mean(dim=0).abs().max() < 1e-12
    assert (result.std(dim=0) - 1).abs().max() < 1e-12


def test_constant_coordinate_is_standardised_to_0():
    codes = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    standardise = Standardise(2)
    standardise.fit(codes)
    assert standardise(codes)[:, 1].tolist() == [0, 0]


def test_standardisation_is_not_learnt():
    assert list(Standardise(3).parameters()) == []
    assert set(Standardise(3).state_dict()) == {"mean", "scale"}


def test_every_activation_can_be_built():
    for activation in ACTIVATIONS:
        restored = Autoencoder(Shape(2, 2, 2, activation=activation))(torch.rand(1, 1, 28, 28))
        assert restored.shape == (1, 1, 28, 28)
