"""A replicate's rows, history, weights and predictions are the same bits in every block."""

import itertools

import pytest
import torch

from tests.trainables.helpers import no_report, untrained_parent
from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.settings import TARGETS
from trainables.data import Dataset, Split
from trainables.fewshot import train as fewshot
from trainables.fewshot.stages import cross_entropy
from trainables.fewshot.train import FREEZE, build_classifiers
from trainables.networks import Head, batched_gelu
from trainables.optimisers.muon import orthogonalise
from trainables.replicates import Replicates
from trainables.rotation import train as rotation
from trainables.rotation.settings import LOSSES
from trainables.seeds import initialise
from trainables.supervised import train as supervised

WHOLE = range(5)
BLOCKS = [*(range(r, r + 1) for r in WHOLE), range(1, 4)]

# Sizes with a remainder after full vectors, and one without: latent_dim, depth, width, batch_size.
SIZES = [(3, 2, 2, 7), (7, 3, 5, 13), (16, 2, 16, 16)]


@pytest.fixture(scope="module")
def odd_digits(few_digits):
    """97 training, 29 validation and 47 test images."""

    def cut(split, count):
        return Split(split.images[:count], split.labels[:count])

    parts = (few_digits.train, 97), (few_digits.validation, 29), (few_digits.test, 47)
    return Dataset("odd-digits", *(cut(*part) for part in parts))


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def built_members(monkeypatch):
    """The classifiers or networks that the latest `train` has made."""
    made = []

    def record(function, module, name):
        def call(*args):
            made[:] = function(*args)
            return list(made)

        monkeypatch.setattr(module, name, call)

    record(build_classifiers, fewshot, "build_classifiers")
    record(initialise, rotation, "initialise")
    return made


def replicate_facts(outcome, block, members):
    """All facts of each replicate of a block except its time."""
    found = {}
    for position, replicate in enumerate(block):
        (row,) = (row for row in outcome.rows if row["replicate"] == replicate)
        weights = {name: value[position] for name, value in outcome.weights.items()}
        weights = weights or members[position].state_dict()
        found[replicate] = {
            "row": {key: value for key, value in row.items() if key != "train_seconds"},
            "history": [line for line in outcome.history if line["replicate"] == replicate],
            "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
            "predictions": None
            if outcome.predictions is None
            else outcome.predictions[position].tobytes(),
        }
    assert [row["replicate"] for row in outcome.rows] == list(block)
    return found


def assert_same_in_every_block(module, config, data, parent=None, members=()):
    whole = replicate_facts(module.train(config, WHOLE, data, no_report, parent), WHOLE, members)
    for block in BLOCKS:
        found = replicate_facts(
            module.train(config, block, data, no_report, parent), block, members
        )
        for replicate in block:
            assert found[replicate] == whole[replicate], (block, replicate)
    last = [(whole[replicate]["history"] or [{}])[-1] for replicate in WHOLE]
    losses = {line.get("train_mse", line.get("train_loss")) for line in last}
    predictions = {whole[replicate]["predictions"] for replicate in WHOLE}
    assert len(losses) == 5 or len(predictions) == 5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "settings", [{}, {"augment": 1.0, "noise": 0.2}, {"precision": "bfloat16"}]
)
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_autoencoder_is_the_same_in_every_block(optimiser, settings, size, odd_digits):
    latent_dim, depth, width, batch_size = size
    config = autoencoder.Config(
        latent_dim, depth, batch_size, epochs=2, width=width, optimiser=optimiser, **settings
    )
    assert_same_in_every_block(autoencoder, config, odd_digits)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("objective", ["variational", "contrastive"])
def test_every_objective_is_the_same_in_every_block(objective, size, odd_digits):
    latent_dim, depth, width, batch_size = size
    config = autoencoder.Config(
        latent_dim,
        depth,
        batch_size,
        epochs=2,
        width=width,
        augment=1.0,
        objective=objective,
        contrastive_updates=15,
    )
    assert_same_in_every_block(autoencoder, config, odd_digits)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loss", ["wrapped", "von_mises", "sine_cosine"])
def test_rotation_network_is_the_same_in_every_block(loss, size, odd_digits, built_members):
    _, depth, width, batch_size = size
    config = rotation.Config(loss, depth, batch_size, epochs=2, width=width)
    assert_same_in_every_block(rotation, config, odd_digits, members=built_members)


@pytest.mark.parametrize("size", [(3, 2, 2, 6), (7, 3, 5, 32)])
@pytest.mark.parametrize("encoders", [0, 2])
@pytest.mark.parametrize("pretraining", ["plain", "augmented"])
@pytest.mark.parametrize("freeze", FREEZE)
def test_classifier_is_the_same_in_every_block(
    freeze, pretraining, encoders, size, odd_digits, built_members
):
    latent_dim, depth, width, hidden = size
    for batch_size in (0, 7):
        config = fewshot.Config(
            latent_dim,
            20,
            freeze,
            pretraining,
            depth,
            batch_size,
            epochs=6,
            views=3,
            pseudo_epochs=2,
            pseudo_batch_size=33,
            hidden=hidden,
            width=width,
            encoders=encoders,
        )
        parent = untrained_parent(config.shape, len(WHOLE))
        assert_same_in_every_block(fewshot, config, odd_digits, parent, built_members)


@pytest.mark.parametrize("augment", [0.0, 1.0])
@pytest.mark.parametrize("batch_size", [0, 7])
def test_supervised_network_is_the_same_in_every_block(augment, batch_size, odd_digits):
    config = supervised.Config(20, augment, 3, batch_size, epochs=6, width=3)
    members = [torch.nn.Identity()] * 5  # weights are not kept: rows and predictions say enough
    assert_same_in_every_block(supervised, config, odd_digits, members=members)


def test_mlp_is_the_same_in_every_block(odd_digits):
    config = autoencoder.Config(3, 2, 7, epochs=2, width=2, network="mlp")
    assert_same_in_every_block(autoencoder, config, odd_digits)


# --- operations that could depend on the block -------------------------------------------------


def test_gelu_is_the_same_in_every_block():
    """In a full vector, the gradient of 1 number in 30,000 differs from that in a remainder."""
    inputs, gradient = torch.randn(2, 8000, 15, generator=torch.Generator().manual_seed(0))

    def backward(chosen):
        own = inputs[chosen].clone().requires_grad_()
        batched_gelu(own).backward(gradient[chosen])
        return own.grad

    alone = torch.cat([backward(slice(replicate, replicate + 1)) for replicate in range(8000)])
    assert torch.equal(backward(slice(0, 8000)), alone)
    torch.set_num_threads(2)  # 15 numbers are never split, so `alone` is the same
    try:
        assert torch.equal(backward(slice(0, 8000)), alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(14, 3136), (3, 49), (2, 18)])
def test_orthogonal_matrix_is_the_same_in_every_block(size, threads):
    matrices = torch.randn(5, *size, generator=torch.Generator().manual_seed(0))
    whole = orthogonalise(matrices)
    for chosen in (slice(1, 4), *(slice(r, r + 1) for r in range(5))):
        assert torch.equal(orthogonalise(matrices[chosen]), whole[chosen])


def test_heads_gradients_are_the_same_in_every_block(threads):
    for images, latent_dim, hidden in itertools.product((5, 7, 20, 33), (5, 14), (6, 32)):
        draw = torch.Generator().manual_seed(0)
        codes = torch.randn(5, images, latent_dim, generator=draw)
        labels = torch.randint(10, (5, images), generator=draw)
        weights = torch.rand(5, images, generator=draw)

        def gradients(block, latent_dim=latent_dim, hidden=hidden, batch=(codes, labels, weights)):
            heads = initialise(lambda: Head(latent_dim, hidden), 0, block)
            models = Replicates(heads, strategy="batched")
            models.backward(cross_entropy, *(part[block] for part in batch))
            return {name: value.grad for name, value in models.parameters.items()}

        whole = gradients(WHOLE)
        for block in BLOCKS:
            for name, value in gradients(block).items():
                assert torch.equal(value, whole[name][block]), (images, latent_dim, hidden, name)


# --- strategies --------------------------------------------------------------------------------


def assert_vectorised_as_looped(module, config, data, use_strategy):
    outcomes = []
    for strategy in ("loop", "vectorised"):
        use_strategy(strategy)
        outcomes.append(module.train(config, range(2, 5), data, no_report))
    looped, vectorised = outcomes
    for one, other in zip(looped.rows, vectorised.rows, strict=True):
        seconds = {"train_seconds": one["train_seconds"]}
        assert other | seconds == pytest.approx(one, abs=1e-8)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("loss", LOSSES)
def test_vectorised_rotation_matches_a_loop(loss, few_digits, use_strategy):
    config = rotation.Config(loss, depth=2, width=2, batch_size=20, epochs=3)
    assert_vectorised_as_looped(rotation, config, few_digits, use_strategy)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("target", TARGETS)
def test_vectorised_augmentation_matches_a_loop(target, few_digits, use_strategy):
    config = autoencoder.Config(
        3, depth=2, width=2, batch_size=16, epochs=3, augment=1.0, noise=0.2, target=target
    )
    assert_vectorised_as_looped(autoencoder, config, few_digits, use_strategy)
