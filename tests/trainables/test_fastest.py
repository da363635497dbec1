"""A GPU uses the strategy that is measured to be fastest; here the times are given."""

import pytest
import torch
from torch import nn

from tests.trainables.helpers import no_report
from trainables import fastest as module
from trainables import training
from trainables.autoencoder import train as autoencoder
from trainables.fastest import fastest
from trainables.replicates import Replicates
from trainables.seeds import initialise


@pytest.fixture(autouse=True)
def no_measurements(monkeypatch):
    monkeypatch.setattr(module, "measured", {})


def linear(replicates=2):
    return Replicates(initialise(lambda: nn.Linear(2, 1), 0, range(replicates)), "cpu", "fastest")


def squared(model, inputs):
    return model(inputs).square().mean()


def timer(models, times, asked):
    """Milliseconds by strategy, from `times`; an error if there are none."""

    def milliseconds(step):
        step()
        asked.append(models.strategy)
        if models.strategy not in times:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return times[models.strategy]

    return milliseconds


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"vectorised": 2.0, "products": 1.0, "loop": 3.0}, "products"),
        ({"vectorised": 2.0, "products": 3.0, "loop": 1.0}, "loop"),
        ({"products": 3.0}, "products"),
        ({}, "loop"),
    ],
)
def test_shortest_step_wins(times, expected):
    models, asked = linear(), []
    before = {name: value.clone() for name, value in models.parameters.items()}
    batch = (torch.ones(2, 4, 2),)
    for _ in range(2):  # measured once
        assert fastest(models, squared, batch, timer(models, times, asked)) == expected
    assert asked == ["vectorised", "products", "loop"]
    assert models.strategy == "fastest"
    for name, value in models.parameters.items():
        assert torch.equal(value, before[name])
    other = (torch.ones(2, 5, 2),)
    assert fastest(models, squared, other, timer(models, {"loop": 1.0}, asked)) == "loop"


def test_loop_is_not_tried_with_many_replicates():
    models, asked = linear(9), []
    fastest(models, squared, (torch.ones(9, 4, 2),), timer(models, {"products": 1.0}, asked))
    assert asked == ["vectorised", "products"]


def test_measuring_takes_no_draws_and_is_not_repeated(
    few_digits, monkeypatch, first_epoch, use_strategy
):
    config = autoencoder.Config(3, depth=2, width=2, batch_size=20, epochs=3, augment=1.0)
    found = iter(["products", "loop", "vectorised"])
    monkeypatch.setattr(training, "fastest", lambda *arguments: next(found))

    def train(strategy, **options):
        use_strategy(strategy)
        return autoencoder.train(config, range(2), few_digits, no_report, **options).weights

    expected = train("products")
    measured = train("fastest", checkpoint=first_epoch)
    resumed = train("fastest", checkpoint=first_epoch)
    assert next(found) == "loop"  # nothing was measured the second time
    for name, value in expected.items():
        assert torch.equal(measured[name], value)
        assert torch.equal(resumed[name], value)
