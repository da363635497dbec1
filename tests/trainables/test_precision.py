"""Training in less than float32 rounds products, and learns as well."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainables.helpers import no_report
from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.objectives import reconstruction_loss
from trainables.fewshot import train as fewshot
from trainables.networks import Autoencoder
from trainables.precision import computing_in
from trainables.replicates import Replicates
from trainables.rotation import train as rotation
from trainables.seeds import initialise
from trainables.shape import Shape
from trainables.supervised import train as supervised

CPU = torch.device("cpu")
SHAPE = Shape(latent_dim=3, depth=2, width=4)


def gradients(precision, strategy):
    members = initialise(lambda: Autoencoder(SHAPE), 0, range(2))
    models = Replicates(members, CPU, strategy, precision=precision)
    images = torch.rand(2, 8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    losses = models.backward(reconstruction_loss, images, images)
    assert losses.dtype == torch.float32
    return torch.cat([value.grad.flatten() for value in models.parameters.values()])


STRATEGIES = ["loop", "vectorised", "products"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bfloat16_rounds_gradients_a_little(strategy):
    exact, rounded = gradients("float32", strategy), gradients("bfloat16", strategy)
    assert rounded.dtype == torch.float32
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 1e-4 < error < 0.05  # 7 bits: up to 0.004 a factor


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_strategies_differ_by_no_more_than_rounding(strategy):
    """Which of them computes a cell is decided by its speed."""
    exact, first = gradients("float32", "loop"), gradients("bfloat16", "loop")
    rounding = (first - exact).norm()
    assert (gradients("bfloat16", strategy) - first).norm() < 1.5 * rounding


def test_tf32_is_as_float32_on_a_cpu():
    assert torch.equal(gradients("tf32", "loop"), gradients("float32", "loop"))


def test_tf32_ends_with_its_block():
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    with computing_in("tf32"):
        assert [backend.allow_tf32 for backend in backends] == [True, True]
    assert [backend.allow_tf32 for backend in backends] == before


@pytest.mark.parametrize(
    "product",
    [
        lambda a: a @ a,
        lambda a: torch.matmul(a, a),
        lambda a: a.matmul(a),
        lambda a: torch.bmm(a[None], a[None]),
        lambda a: torch.baddbmm(a[None], a[None], a[None]),
        lambda a: functional.linear(a, a, bias=a[0]),
        lambda a: functional.linear(input=a, weight=a),
        lambda a: torch.conv2d(a[None, None], a[None, None], padding=1),
        lambda a: torch.conv_transpose2d(a[None, None], a[None, None]),
    ],
)
def test_products_are_rounded_and_float32_again(product):
    factor = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    exact, wanted = product(factor), product(factor.bfloat16()).float()
    with computing_in("bfloat16"):
        found = product(factor)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted) and not torch.equal(found, exact)


def test_whole_numbers_are_not_rounded():
    factor = torch.full((2, 2), 1001)
    with computing_in("bfloat16"):
        assert torch.equal(factor @ factor, torch.full((2, 2), 2 * 1001**2))


def test_layers_between_products_keep_their_weights():
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.PReLU(),
        nn.LayerNorm(4),
        nn.Unflatten(1, (1, 4)),
        nn.Conv1d(1, 1, 1),
        nn.Flatten(),
    )
    models = Replicates([model], CPU, "loop", precision="bfloat16")
    models.backward(lambda model, inputs: model(inputs).square().mean(), torch.rand(1, 3, 4))
    assert all(value.grad.abs().sum() > 0 for value in models.parameters.values())


SMALL_FEWSHOT = {"latent_dim": 3, "labels": 20, "depth": 2, "width": 4, "epochs": 2}


@pytest.mark.parametrize(("module", "settings", "loss_name"), [
    *((autoencoder, {"latent_dim": 3, "depth": 2, "width": 4, "epochs": 1, "objective": objective,
                     "augment": 1.0, "contrastive_updates": 2}, loss_name)
      for objective, loss_name in (("reconstruction", "train_mse"), ("variational", "train_loss"),
                                   ("contrastive", "train_loss"))),
    (fewshot, SMALL_FEWSHOT | {"freeze": "scratch"}, "train_loss"),
    (fewshot, SMALL_FEWSHOT | {"freeze": "fixed"}, "train_loss"),
    (fewshot, SMALL_FEWSHOT | {"freeze": "consistency", "pseudo_epochs": 1}, "train_loss"),
    (supervised, {"labels": 20, "width": 4, "epochs": 2, "views": 2}, "train_loss"),
    (rotation, {"loss": "cosine", "depth": 2, "width": 4, "epochs": 1}, "train_loss"),
])  # fmt: skip
def test_every_loss_is_nearly_the_same(module, settings, loss_name, few_digits, parent):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = module.Config(**settings, precision=precision)
        history = module.train(config, range(1), few_digits, no_report, parent).history
        losses[precision] = history[-1][loss_name]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


@pytest.fixture(scope="module")
def parent(few_digits):
    """Weights of an autoencoder that has learnt nothing yet, as replicate 0 of a parent."""
    (model,) = initialise(lambda: Autoencoder(SHAPE), 0, range(1))
    return {0: model.state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize(("module", "settings", "metric"), [
    (autoencoder, {"latent_dim": 8, "depth": 2, "width": 8, "epochs": 2}, "val_mse"),
    (fewshot, {"latent_dim": 8, "labels": 80, "freeze": "scratch", "depth": 2, "width": 8,
               "epochs": 60}, "val_accuracy"),
    (supervised, {"labels": 80, "width": 8, "epochs": 60, "views": 10}, "val_accuracy"),
])  # fmt: skip
def test_bfloat16_learns_as_well(module, settings, metric, digits):
    """Validation scores of n = 4 models: a precision that were worse would be no choice."""
    scores = {}
    for precision in ("float32", "bfloat16"):
        rows = module.train(
            module.Config(**settings, precision=precision), range(4), digits, no_report
        ).rows
        scores[precision] = np.array([row[metric] for row in rows])
    assert not np.array_equal(*scores.values())
    spread = scores["float32"].std(ddof=1)
    assert abs(scores["bfloat16"].mean() - scores["float32"].mean()) < spread
