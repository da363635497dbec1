"""Every draw has its own seed, which never changes."""

import torch
from torch import nn

from trainables.seeds import PURPOSES, generators, initialise, seed_of


def test_no_two_seeds_are_the_same():
    seeds = [
        seed_of(seed, replicate, purpose)
        for seed in range(5)
        for replicate in range(20)
        for purpose in PURPOSES
    ]
    assert len(set(seeds)) == 5 * 20 * len(PURPOSES) == 600
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_never_changes():
    """Otherwise results would no longer be reproducible, though their ids say they are."""
    assert seed_of(0, 0, "initialisation") == 7896617691693857887
    assert seed_of(3, 7, "order") == 888946925548604815


def test_models_are_initialised_from_their_own_seeds():
    torch.manual_seed(123)
    undisturbed = torch.rand(1)
    torch.manual_seed(123)
    members = initialise(lambda: nn.Linear(3, 2), 0, range(3))
    assert torch.equal(torch.rand(1), undisturbed)  # the global state is kept
    again = initialise(lambda: nn.Linear(3, 2), 0, range(5))
    for first, second in zip(members, again, strict=False):
        assert torch.equal(first.weight, second.weight)
    weights = [member.weight for member in again]
    weights += [m.weight for m in initialise(lambda: nn.Linear(3, 2), 0, range(5), "head")]
    weights += [m.weight for m in initialise(lambda: nn.Linear(3, 2), 1, range(5))]
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 15


def test_model_depends_on_its_number_alone():
    members = initialise(lambda: nn.Linear(3, 2), 0, range(5))
    for member, number in zip(initialise(lambda: nn.Linear(3, 2), 0, (4, 1)), (4, 1), strict=True):
        assert torch.equal(member.weight, members[number].weight)
    (own,) = generators(0, [3], "order")
    assert own.initial_seed() == seed_of(0, 3, "order")
