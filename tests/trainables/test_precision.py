"""Training in less than float32: what it changes, and that it learns as well."""

import numpy as np
import pytest
import torch

from tests.trainables.helpers import nothing
from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.objectives import restoration_error
from trainables.contract import ConfigError
from trainables.networks import Autoencoder
from trainables.precision import computing_in
from trainables.replicates import Replicates
from trainables.seeds import initialise
from trainables.shape import Shape

CPU = torch.device("cpu")
SHAPE = Shape(latent_dim=3, depth=2, width=4)


def gradients(precision, strategy):
    members = initialise(lambda: Autoencoder(SHAPE), 0, range(2))
    models = Replicates(members, CPU, strategy, precision=precision)
    images = torch.rand(2, 8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    losses = models.backward(restoration_error, images, images)
    assert losses.dtype == torch.float32
    return torch.cat([value.grad.flatten() for value in models.parameters.values()])


@pytest.mark.parametrize("strategy", ["loop", "vectorised", "products"])
def test_bfloat16_rounds_gradients_a_little(strategy):
    exact, rounded = gradients("float32", strategy), gradients("bfloat16", strategy)
    assert rounded.dtype == torch.float32
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 1e-4 < error < 0.05  # 7 bits: up to 0.004 a factor


def test_tf32_is_as_float32_on_a_cpu():
    assert torch.equal(gradients("tf32", "loop"), gradients("float32", "loop"))


def test_tf32_ends_with_its_block():
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    with computing_in("tf32"):
        assert [backend.allow_tf32 for backend in backends] == [True, True]
    assert [backend.allow_tf32 for backend in backends] == before


@pytest.mark.parametrize("product", [
    lambda a: a @ a,
    lambda a: torch.matmul(a, a),
    lambda a: a.matmul(a),
    lambda a: torch.nn.functional.linear(a, a, a[0]),
    lambda a: torch.conv2d(a[None, None], a[None, None]),
    lambda a: torch.conv_transpose2d(a[None, None], a[None, None]),
])  # fmt: skip
def test_every_product_is_rounded_and_nothing_else(product):
    factor = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    with computing_in("bfloat16"):
        assert product(factor).dtype == torch.bfloat16
        assert factor.square().sum().dtype == torch.float32
    assert product(factor).dtype == torch.float32


@pytest.mark.slow
def test_bfloat16_learns_as_well_within_the_spread_of_seeds(digits):
    """Validation errors of n = 4 models: a precision that were worse would be no choice."""
    errors = {}
    for precision in ("float32", "bfloat16"):
        config = autoencoder.Config(latent_dim=8, depth=2, width=8, epochs=2, precision=precision)
        rows = autoencoder.train(config, range(4), digits, nothing).rows
        errors[precision] = np.array([row["val_mse"] for row in rows])
    assert not np.array_equal(*errors.values())
    spread = errors["float32"].std(ddof=1)
    assert abs(errors["bfloat16"].mean() - errors["float32"].mean()) < spread


def test_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="precision = 'float8': float32 or tf32 or bfloat16"):
        autoencoder.Config(latent_dim=2, precision="float8")
