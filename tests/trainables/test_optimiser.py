"""The optimiser is PyTorch's AdamW under its one-cycle schedule, to the last bit."""

import subprocess
import sys

import pytest
import torch

from trainables.optimiser import BETA_1, BETA_2, AdamW, one_cycle

SHAPES = {"encoder.weight": (3, 4, 2), "head.weight": (3, 5), "head.bias": (3,)}


def parameters():
    """Parameters with the same values every time, and gradients yet to come."""
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(*shape, generator=draw) for name, shape in SHAPES.items()}


def gradients(step):
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(*shape, generator=draw) for name, shape in SHAPES.items()}


def ours(parameters, steps=30):
    return AdamW(parameters, {"encoder.": 1e-3, "head.": 1e-1}, steps, 0.3, warm_up=0.2)


def theirs(parameters, steps=30):
    encoder, *head = parameters.values()
    optimiser = torch.optim.AdamW(
        [{"params": [encoder]}, {"params": head}],
        betas=(BETA_1, BETA_2),
        weight_decay=0.3,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[1e-3, 1e-1],
        total_steps=steps + 1,
        pct_start=0.2,
        cycle_momentum=False,
    )
    return optimiser, schedule


def take(step, parameters, optimiser):
    for name, gradient in gradients(step).items():
        parameters[name].grad = gradient
    optimiser.step()


def test_every_step_is_pytorchs_to_the_last_bit():
    mine, reference = parameters(), parameters()
    optimiser = ours(mine)
    expected, schedule = theirs(reference)
    for step in range(30):
        take(step, mine, optimiser)
        take(step, reference, expected)
        schedule.step()
        for name in SHAPES:
            assert torch.equal(mine[name], reference[name]), (step, name)
    assert not torch.equal(mine["head.bias"], parameters()["head.bias"])


@pytest.mark.parametrize(
    ("steps", "warm_up"),
    [(1, 0.1), (1, 1.0), (2, 0.5), (10, 0.0), (10, 0.1), (10, 0.5), (57, 0.1), (57, 1.0)],
)
def test_every_learning_rate_is_pytorchs(steps, warm_up):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=0.7, total_steps=steps + 1, pct_start=warm_up, cycle_momentum=False
    )
    for step in range(steps + 1):
        assert one_cycle(0.7, step, steps, warm_up) == schedule.get_last_lr()[0]
        if step < steps:
            optimiser.step()
            schedule.step()


def test_a_warm_up_of_a_single_step_starts_at_the_peak():
    """PyTorch's schedule divides by zero there."""
    rates = [one_cycle(1.0, step, 9, 0.1) for step in range(10)]
    assert rates[0] == pytest.approx(1.0)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(4e-6)


def test_it_goes_on_where_another_has_stopped():
    undisturbed, stopped = parameters(), parameters()
    optimiser, first = ours(undisturbed), ours(stopped)
    for step in range(20):
        take(step, undisturbed, optimiser)
    for step in range(7):
        take(step, stopped, first)
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    second = ours(stopped)
    second.resume(first.taken, kept)
    for step in range(7, 20):
        take(step, stopped, second)
    for name in SHAPES:
        assert torch.equal(undisturbed[name], stopped[name]), name


def test_training_does_not_import_pytorchs_compiler():
    """It takes a process seconds."""
    program = """
import sys
import torch
from trainables.replicates import Replicates
from trainables.seeds import generators
from trainables.training import MinibatchOrder, fit
fit(
    Replicates([torch.nn.Linear(1, 1) for _ in range(2)]),
    lambda model, inputs: model(inputs).square().mean(),
    lambda indices: (indices.unsqueeze(2).float(),),
    MinibatchOrder(6, 3, generators(0, 2, "order")),
    2, {"": 0.1}, 0.0, lambda epoch, losses: None,
)
print("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
