"""AdamW and the one-cycle schedule equal PyTorch's to the last bit. Muon equals PyTorch's except
for the 16 bits in which that computes, and does to singular values what its theory says."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from trainables.optimisers.adamw import BETA_1, BETA_2, AdamW
from trainables.optimisers.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, orthogonalise
from trainables.optimisers.schedule import Schedule, one_cycle

SHAPES = {"encoder.weight": (3, 4, 2), "head.weight": (3, 5, 2), "head.bias": (3,)}


def parameters():
    """Parameters with the same values every time, and gradients yet to come."""
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(*shape, generator=draw) for name, shape in SHAPES.items()}


def gradients(step):
    draw = torch.Generator().manual_seed(step)
    return {name: torch.randn(*shape, generator=draw) for name, shape in SHAPES.items()}


def adamw(parameters, steps=30):
    return AdamW(parameters, Schedule({"encoder.": 1e-3, "head.": 1e-1}, steps, 0.2), 0.3)


def torch_adamw(parameters, steps=30):
    """PyTorch's optimiser and schedule, with a tensor per replicate."""
    encoder, weights, biases = parameters.values()
    optimiser = torch.optim.AdamW(
        [{"params": encoder}, {"params": [*weights, *biases]}],
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


def take_step(step, parameters, optimiser):
    for name, gradient in gradients(step).items():
        parameters[name].grad = gradient
    optimiser.step()


def test_every_step_is_pytorchs_to_the_last_bit():
    mine = parameters()
    reference = {name: [own.clone() for own in value] for name, value in parameters().items()}
    optimiser = adamw(mine)
    expected, schedule = torch_adamw(reference)
    for step in range(30):
        take_step(step, mine, optimiser)
        for name, gradient in gradients(step).items():
            for own, of_it in zip(reference[name], gradient, strict=True):
                own.grad = of_it.clone()
        expected.step()
        schedule.step()
        for name in SHAPES:
            assert torch.equal(mine[name], torch.stack(reference[name])), (step, name)
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


def test_warm_up_of_a_single_step_starts_at_the_peak():
    """PyTorch's schedule divides by zero there."""
    rates = [one_cycle(1.0, step, 9, 0.1) for step in range(10)]
    assert rates[0] == pytest.approx(1.0)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize(
    "make", [AdamW, Muon, partial(Muon, prefix="encoder."), partial(Muon, prefix="head.")]
)
def test_optimiser_resumes_where_another_stopped(make):
    def ours(parameters):
        return make(parameters, Schedule({"encoder.": 1e-3, "head.": 1e-1}, 30, 0.2), 0.3)

    undisturbed, stopped = parameters(), parameters()
    optimiser, first = ours(undisturbed), ours(stopped)
    for step in range(20):
        take_step(step, undisturbed, optimiser)
    for step in range(7):
        take_step(step, stopped, first)
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    second = ours(stopped)
    for name, tensor in second.tensors().items():
        tensor.copy_(kept[name])
    second.resume(7)
    for step in range(7, 20):
        take_step(step, stopped, second)
    for name in SHAPES:
        assert torch.equal(undisturbed[name], stopped[name]), name
        assert not torch.equal(undisturbed[name], parameters()[name]), name


# --- Muon --------------------------------------------------------------------------------------


def spread_matrices(count, rows, columns, seed=0):
    """Random matrices (count, rows, columns), their singular values from 1 down to a tenth."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, rows, columns)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=draw), full_matrices=False)
    return left @ torch.diag(torch.logspace(0, -1, min(rows, columns))) @ right


def test_singular_values_even_out_and_keep_vectors():
    matrices = spread_matrices(3, 6, 20)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    made = left.mT @ orthogonalise(matrices) @ right.mT  # in the basis of singular vectors
    a, b, c = COEFFICIENTS
    expected = values / values.norm(dim=1, keepdim=True)
    for _ in range(ITERATIONS):
        expected = a * expected + b * expected**3 + c * expected**5
    torch.testing.assert_close(made, torch.diag_embed(expected), atol=1e-5, rtol=1e-5)
    assert expected.min() > 0.6 and expected.max() < 1.25


def test_gradient_of_zeros_moves_nothing():
    assert not orthogonalise(torch.zeros(2, 3, 4)).any()


MATRICES = {"first": (3, 4, 2, 3, 3), "last": (3, 18, 4), "wide": (3, 5, 7), "bias": (3, 6)}


def muon_after(chosen, steps=20, decay=0.3):
    """The parameters `MATRICES` of these replicates after so many steps of Muon."""
    values = {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(7))[chosen]
        for name, shape in MATRICES.items()
    }
    optimiser = Muon(values, Schedule({"": 0.05}, steps, 0.2), decay)
    for step in range(steps):
        for name, shape in MATRICES.items():
            draw = torch.Generator().manual_seed(step)
            values[name].grad = torch.randn(shape, generator=draw)[chosen]
        optimiser.step()
    return values


def test_muon_moves_each_replicate_as_if_alone():
    together = muon_after(slice(0, 3))
    for replicate in range(3):
        alone = muon_after(slice(replicate, replicate + 1))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][replicate], value[0], rtol=1e-4, atol=1e-5)


def test_matrix_moves_as_under_pytorchs_muon():
    """PyTorch's multiplies in bfloat16, hence the 2 %."""
    start, mine = muon_after(slice(0, 3), steps=0), muon_after(slice(0, 3))
    for name in ("first", "last", "wide"):
        for replicate in range(3):
            single = torch.nn.Parameter(start[name][replicate].flatten(1).clone())
            optimiser = torch.optim.Muon(
                [single],
                momentum=MOMENTUM,
                weight_decay=0.3,
                ns_steps=ITERATIONS,
                adjust_lr_fn="match_rms_adamw",
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, 0.05, total_steps=21, pct_start=0.2, cycle_momentum=False
            )
            for step in range(20):
                draw = torch.Generator().manual_seed(step)
                gradient = torch.randn(MATRICES[name], generator=draw)[replicate]
                single.grad = gradient.flatten(1)
                optimiser.step()
                schedule.step()
            ours = mine[name][replicate].flatten(1) - start[name][replicate].flatten(1)
            theirs = single.detach() - start[name][replicate].flatten(1)
            assert (ours - theirs).norm() < 0.02 * theirs.norm(), (name, replicate)


def test_parameters_other_than_matrices_use_adamw():
    start, mine = muon_after(slice(0, 3), steps=0), muon_after(slice(0, 3))
    bias = start["bias"].clone()
    optimiser = AdamW({"bias": bias}, Schedule({"": 0.05}, 20, 0.2), 0.3)
    for step in range(20):
        draw = torch.Generator().manual_seed(step)
        bias.grad = torch.randn(MATRICES["bias"], generator=draw)
        optimiser.step()
    assert torch.equal(mine["bias"], bias)


def test_muon_takes_only_its_prefix():
    """All else is AdamW's, to the last bit."""
    mine, adamw = parameters(), parameters()
    optimisers = [
        Muon(mine, Schedule({"": 0.1}, 30, 0.2), 0.3, prefix="encoder."),
        AdamW(adamw, Schedule({"": 0.1}, 30, 0.2), 0.3),
    ]
    for step in range(5):
        for values, optimiser in zip((mine, adamw), optimisers, strict=True):
            take_step(step, values, optimiser)
    assert [name for name in SHAPES if torch.equal(mine[name], adamw[name])] == [
        "head.weight",
        "head.bias",
    ]


def test_step_is_as_long_as_one_of_adamw():
    """For a matrix with similar singular values: an entry moves by a fifth of the rate."""
    value = torch.zeros(2, 32, 48)
    value.grad = torch.randn(2, 32, 48, generator=torch.Generator().manual_seed(0))
    optimiser = Muon({"": value}, Schedule({"": 0.1}, 1000, 0.5), 0.0)
    optimiser.step()
    assert value.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1 / 25, rel=0.2)


def test_training_does_not_import_pytorchs_compiler():
    """Importing it takes seconds."""
    program = """
import sys
import torch
from trainables.replicates import Replicates
from trainables.seeds import generators
from trainables.training import Minibatches, Recipe, fit
fit(
    Replicates([torch.nn.Linear(1, 1) for _ in range(2)]),
    lambda model, inputs: model(inputs).square().mean(),
    Minibatches(6, 3, generators(0, range(2), "order"), lambda i: (i.unsqueeze(2).float(),)),
    Recipe(2, {"": 0.1}, 0.0),
    lambda epoch, losses: None,
)
print("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
