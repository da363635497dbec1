"""Training steps of the study's networks at its sizes: by a strategy of `Replicates`, and with one
ordinary model after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.autoencoder.objectives import reconstruction_loss
from trainables.fastest import fastest
from trainables.fewshot.train import cross_entropy
from trainables.networks import Autoencoder, Classifier, Head
from trainables.optimisers import AdamW, Schedule
from trainables.optimisers.adamw import BETA_1, BETA_2
from trainables.replicates import Replicates, Strategy, fastest_strategy
from trainables.seeds import initialise
from trainables.shape import Shape

Step = Callable[[], Any]

PEAK, STEPS, WARM_UP, WEIGHT_DECAY = 1e-3, 10_000, 0.1, 0.01
"""Optimiser settings of every timed step; at most `STEPS` steps may be run."""


@dataclass(frozen=True)
class Workload:
    """A network with its loss, and the data of R replicates in a step."""

    name: str
    build: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    batch: Callable[[int], tuple[Tensor, ...]]
    """Function from R to the arguments of `loss` after the model, (R, B, …) each."""
    batch_size: int
    replicates: int


def shape(width: int) -> Shape:
    """Shape of the study's network at d = 14."""
    return Shape(latent_dim=14, depth=3, width=width)


def autoencoder(batch_size: int, replicates: int, width: int = 16) -> Workload:
    """A step of an autoencoder."""
    return Workload(
        f"autoencoder, batch {batch_size}",
        lambda: Autoencoder(shape(width)),
        reconstruction_loss,
        lambda r: 2 * (torch.rand(r, batch_size, 1, 28, 28),),
        batch_size,
        replicates,
    )


def classifier(labels: int, replicates: int, width: int = 16) -> Workload:
    """A step of a few-shot classifier whose encoder trains."""
    return Workload(
        f"few-shot, full, {labels} labels",
        lambda: Classifier.untrained(shape(width)),
        cross_entropy,
        lambda r: (torch.rand(r, labels, 1, 28, 28), torch.randint(0, 10, (r, labels))),
        labels,
        replicates,
    )


def head(labels: int, replicates: int) -> Workload:
    """A step of a few-shot classifier's head on codes."""
    return Workload(
        f"few-shot, fixed, {labels} labels",
        lambda: Head(14),
        cross_entropy,
        lambda r: (torch.randn(r, labels, 14), torch.randint(0, 10, (r, labels))),
        labels,
        replicates,
    )


def study_step(
    workload: Workload,
    device: torch.device,
    strategy: Strategy | None = None,
    precision: str = "float32",
) -> Step:
    """A step of all replicates by `strategy`, by default the study's."""
    members = initialise(workload.build, 0, range(workload.replicates))
    chosen = strategy or fastest_strategy(members[0], device)
    models = Replicates(members, device, chosen, precision=precision)
    schedule = Schedule({"": PEAK}, STEPS, WARM_UP, device)
    optimiser = AdamW(models.parameters, schedule, WEIGHT_DECAY)
    batch = tuple(part.to(device) for part in workload.batch(workload.replicates))
    if chosen == "fastest":
        models.strategy = fastest(models, workload.loss, batch)

    def step() -> Tensor:
        losses = models.backward(workload.loss, *batch)
        optimiser.step()
        return losses

    return step


def ordinary_step(workload: Workload, device: torch.device) -> Step:
    """A step of all replicates as ordinary models, each with its own optimiser and schedule."""
    models = [
        model.to(device) for model in initialise(workload.build, 0, range(workload.replicates))
    ]
    optimisers = [
        torch.optim.AdamW(
            model.parameters(), betas=(BETA_1, BETA_2), weight_decay=WEIGHT_DECAY, fused=True
        )
        for model in models
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser, PEAK, total_steps=STEPS + 1, pct_start=WARM_UP, cycle_momentum=False
        )
        for optimiser in optimisers
    ]
    batch = [part.to(device) for part in workload.batch(workload.replicates)]

    def step() -> None:
        ordinary = zip(models, optimisers, schedules, *batch, strict=True)
        for model, optimiser, schedule, *own in ordinary:
            optimiser.zero_grad()
            workload.loss(model, *own).backward()
            optimiser.step()
            schedule.step()

    return step


def single_member(workload: Workload) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """One replicate on the CPU and its batch, to count operations."""
    (model,) = initialise(workload.build, 0, range(1))
    return model, tuple(part[0] for part in workload.batch(1))
