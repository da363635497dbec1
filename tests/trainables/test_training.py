"""The order of each replicate's images, and divergence. test_replicates.py tests that a replicate
learns as if alone, test_checkpoint.py that it resumes."""

import pytest
import torch
from torch import nn

from trainables.contract import Diverged
from trainables.replicates import Replicates
from trainables.seeds import generators, initialise
from trainables.training import Minibatches, Recipe, fit


def order_of(images, batch_size, replicates):
    orders = generators(0, range(replicates), "order")
    return Minibatches(images, batch_size, orders, lambda indices: (indices,))


def test_epoch_shows_no_image_twice():
    order = order_of(23, 5, 3)
    assert order.steps == 4
    epochs = [torch.cat(list(order.epoch()), dim=1) for _ in range(3)]
    for epoch in epochs:
        assert epoch.shape == (3, 20)
        for seen in epoch.tolist():
            assert len(set(seen)) == 20
            assert set(seen) <= set(range(23))
    shown = {tuple(seen) for epoch in epochs for seen in epoch.tolist()}
    assert len(shown) == 9  # another order in every epoch and for every replicate


def test_epoch_shows_every_image_if_minibatches_fit():
    order = order_of(12, 4, 2)
    minibatches = list(order.epoch())
    assert [batch.shape for batch in minibatches] == [(2, 4)] * 3
    assert torch.cat(minibatches, dim=1).sort(dim=1).values.tolist() == [list(range(12))] * 2


@pytest.mark.parametrize("batch_size", [7, 100])
def test_full_minibatch_has_all_images_in_order(batch_size):
    order = order_of(7, batch_size, 2)
    assert order.steps == 1
    (batch,) = order.epoch()
    assert batch.tolist() == [list(range(7))] * 2


def test_order_of_a_replicate_is_independent_of_others():
    three, one = (order_of(50, 10, n) for n in (3, 1))
    for _ in range(3):
        for together, alone in zip(three.epoch(), one.epoch(), strict=True):
            assert torch.equal(together[:1], alone)


@pytest.mark.parametrize("strategy", ["loop", "vectorised"])
def test_divergence_names_the_replicate(strategy):
    inputs = torch.ones(3, 4, 2)
    inputs[1, 2] = torch.nan
    epochs = []
    rows = torch.arange(3)[:, None]
    with pytest.raises(Diverged, match="the training loss in epoch 1 of replicate 5 is not"):
        fit(
            Replicates(
                initialise(lambda: nn.Linear(2, 1), 0, range(3)),
                strategy=strategy,
                numbers=(4, 5, 6),
            ),
            lambda model, x: model(x).square().mean(),
            Minibatches(
                4, 2, generators(0, range(3), "order"), lambda chosen: (inputs[rows, chosen],)
            ),
            Recipe(epochs=3, learning_rates={"": 0.1}, weight_decay=0),
            after_epoch=lambda epoch, losses: epochs.append(epoch),
        )
    assert epochs == []
