"""Objectives of autoencoders: the losses match their formulas."""

import dataclasses

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional

from tests.trainables.helpers import no_report
from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.objectives import (
    contrastive_loss,
    reconstruction_loss,
    variational_loss,
)
from trainables.autoencoder.settings import OBJECTIVES, Config
from trainables.data import pixels
from trainables.networks import Autoencoder, Contrastive, Variational
from trainables.shape import Shape

SHAPE = Shape(latent_dim=3, depth=2, width=2)
TINY = Config(latent_dim=3, depth=2, width=2, batch_size=20, epochs=2, contrastive_updates=10)


@pytest.fixture
def images():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def variational():
    torch.manual_seed(0)
    return Variational(SHAPE)


@pytest.fixture
def contrastive():
    torch.manual_seed(0)
    return Contrastive(SHAPE)


def test_divergence_matches_that_of_gaussians(variational, images):
    features = variational.encoder.features(images)
    mean, log_variance = variational.encoder(images), variational.log_variance(features)
    posterior = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros(6, 3), torch.ones(6, 3)), 1)
    _, divergence = variational(images, torch.zeros(6, 3))
    assert divergence.tolist() == pytest.approx(kl_divergence(posterior, prior).tolist(), rel=1e-5)


def test_noise_moves_codes_by_their_standard_deviation(variational, images):
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    features = variational.encoder.features(images)
    deviation = (variational.log_variance(features) / 2).exp()
    drawn = variational.decoder(variational.encoder(images) + noise * deviation)
    assert torch.equal(variational(images, noise)[0], drawn)


def test_bound_without_noise_and_beta_is_plain_error(variational, images):
    bound = variational_loss(variational, images, images, torch.zeros(6, 3), beta=0.0)
    assert bound.item() == pytest.approx(reconstruction_loss(variational, images, images).item())


def test_beta_counts_nats_per_pixel(variational, images):
    noise = torch.zeros(6, 3)
    without, twice = (
        variational_loss(variational, images, images, noise, beta=b) for b in (0.0, 2.0)
    )
    _, divergence = variational(images, noise)
    assert (twice - without).item() == pytest.approx(2 * divergence.mean().item() / 784, rel=1e-4)


def stored_models(config, outcome):
    """The autoencoders whose weights a cell keeps."""
    for replicate in range(len(outcome.rows)):
        model = Autoencoder(config.shape)
        model.load_state_dict({name: value[replicate] for name, value in outcome.weights.items()})
        yield model


class Directions(torch.nn.Module):
    """Returns these directions, and the first views unchanged."""

    def __init__(self, directions):
        super().__init__()
        self.directions = directions

    def forward(self, first, second):
        return self.directions, first


def test_contrastive_loss_matches_the_formula(images):
    """Two images with opposite directions: of the three others, one has similarity 1, two −1."""
    directions = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    loss = contrastive_loss(Directions(directions), images[:2], images[:2], temperature=0.5)
    e = torch.tensor([2.0, -2.0]).exp()
    assert loss.item() == pytest.approx(-torch.log(e[0] / (e[0] + 2 * e[1])).item(), rel=1e-5)


def test_equal_directions_have_the_loss_of_chance(images):
    loss = contrastive_loss(Directions(torch.ones(12, 2) / 2**0.5), images, images, temperature=0.2)
    assert loss.item() == pytest.approx(torch.tensor(11.0).log().item(), rel=1e-5)


def test_decoder_learns_and_leaves_the_encoder_alone(contrastive, images):
    _, restored = contrastive(images, images.flip(3))
    error = functional.mse_loss(restored, images)
    error.backward()
    assert all(parameter.grad is None for parameter in contrastive.encoder.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in contrastive.decoder.parameters())


@pytest.mark.parametrize("objective", ["variational", "contrastive"])
def test_both_strategies_learn_the_same(objective, few_digits, use_strategy):
    config = dataclasses.replace(TINY, objective=objective, augment=1.0)
    losses = []
    for strategy in ("loop", "vectorised"):
        use_strategy(strategy)
        outcome = autoencoder.train(config, range(2), few_digits, no_report)
        losses.append([line["train_loss"] for line in outcome.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_contrastive_minibatch_is_at_most_all_images(few_digits):
    config = dataclasses.replace(TINY, objective="contrastive", augment=1.0, batch_size=512)
    config.check_data(few_digits)
    losses = []
    for batch_size in (512, len(few_digits.train)):
        config = dataclasses.replace(config, batch_size=batch_size)
        outcome = autoencoder.train(config, range(2), few_digits, no_report)
        losses.append([line["train_loss"] for line in outcome.history])
    assert losses[0] == losses[1] and len(losses[0]) == 2 * TINY.contrastive_updates


def test_larger_beta_shrinks_the_codes(few_digits):
    def spread(beta):
        config = dataclasses.replace(TINY, objective="variational", beta=beta, epochs=8)
        outcome = autoencoder.train(config, range(1), few_digits, no_report)
        model = next(stored_models(config, outcome))
        with torch.no_grad():
            return model.encoder(pixels(few_digits.train.on("cpu")[0])).square().mean().item()

    assert spread(10.0) < 0.1 < spread(0.01)


@pytest.mark.parametrize("network", ["convolutional", "mlp"])
def test_batch_norm_is_folded_into_the_layers(network, images):
    torch.manual_seed(0)
    model = Contrastive(dataclasses.replace(SHAPE, network=network)).train()
    for _ in range(20):
        model(images, images.flip(3))  # which moves the running statistics away from 0 and 1
    codes = model.eval().codes(images)
    plain = model.stored_module()["encoder"](images)
    assert (plain - codes).abs().max() < 1e-5
    assert (model.encoder(images) - codes).abs().max() > 0.05  # so that there was something to fold


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_kept_weights_are_an_autoencoder(objective, few_digits):
    config = dataclasses.replace(TINY, objective=objective)
    outcome = autoencoder.train(config, range(2), few_digits, no_report)
    test = pixels(few_digits.test.on("cpu")[0])
    for model, row in zip(stored_models(config, outcome), outcome.rows, strict=True):
        with torch.no_grad():
            error = functional.mse_loss(model(test), test).item()
        assert error == pytest.approx(row["test_mse"], rel=1e-5)
