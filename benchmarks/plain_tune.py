"""Ray Tune as commonly written: one trial per fit, each in its own actor that loads the data,
trains with a DataLoader, and evaluates on the test images with another.

The networks, seeds, label subsets, optimiser and schedule are this study's, so both ways get the
same accuracy; only the layout of the work differs. An autoencoder with a `target_error` is instead
trained by the common recipe until it reaches that error. All of Tune's settings are defaults.

    python -m benchmarks.plain_tune TASK.json

runs the fits of a file and prints one JSON object: `wall`, the seconds of the Tuner without Ray's
start, and `fits` with `seconds`, `quality` and `epochs` each; `epochs` is 0 if the fit had no
target error.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from trainables.autoencoder import train as autoencoder
from trainables.data import label_subset, load, stratified
from trainables.fewshot import train as fewshot
from trainables.networks import Autoencoder
from trainables.optimisers import Schedule
from trainables.replicates import Replicates
from trainables.seeds import initialise, seed_of

MOST_EPOCHS = 40
"""Epochs at which the common recipe gives up: eight times the study's quick preset."""


def read(dataset: str, data_dir: str) -> tuple[Dataset[Any], np.ndarray, Dataset[Any]]:
    """Training images, their labels (N,), and test images; images are PyTorch datasets.

    The training split is the study's, so that label subsets are the same.
    """
    if dataset == "mnist":
        from torchvision import datasets, transforms

        transform = transforms.ToTensor()
        train = datasets.MNIST(data_dir, train=True, transform=transform)
        test = datasets.MNIST(data_dir, train=False, transform=transform)
        indices, _ = stratified(train.targets.numpy(), 5000, seed=0)
        return Subset(train, indices.tolist()), train.targets.numpy()[indices], test
    data = load(dataset)
    train, test = (
        TensorDataset(torch.from_numpy(s.images) / 255, torch.from_numpy(s.labels).long())
        for s in (data.train, data.test)
    )
    return train, data.train.labels, test


def optimise(
    model: nn.Module,
    groups: list[dict[str, Any]],
    loader: DataLoader[Any],
    epochs: int,
    decay: float,
    loss: Any,
) -> None:
    """Train a model in an ordinary loop."""
    optimiser = torch.optim.AdamW(groups, weight_decay=decay, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[group["lr"] for group in groups],
        total_steps=epochs * len(loader) + 1,
        pct_start=0.1,
        cycle_momentum=False,
    )
    for _ in range(epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            loss(model(images), images, labels).backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def average(model: nn.Module, test: Dataset[Any], measure: Any) -> float:
    """Mean of `measure(output, images, labels)` (B,) over the test images."""
    values = [measure(model(i), i, y) for i, y in DataLoader(test, batch_size=128)]
    return torch.cat(values).double().mean().item()


def fit_autoencoder(settings: dict[str, Any], replicate: int, dataset: str, data_dir: str) -> float:
    """Train one autoencoder; return its test MSE."""
    config = autoencoder.Config(**settings)
    train, _, test = read(dataset, data_dir)
    (model,) = initialise(lambda: Autoencoder(config.shape), config.seed, [replicate])
    loader = DataLoader(train, config.batch_size, shuffle=True, drop_last=True)
    if config.optimiser == "adamw":
        groups = [{"params": list(model.parameters()), "lr": config.learning_rate}]
        optimise(model, groups, loader, config.epochs, config.weight_decay, reconstruction)
    else:  # the study's Muon for one model: PyTorch's refuses filters of convolutions
        steps = config.epochs * len(loader)
        optimiser = autoencoder.OPTIMISERS[config.optimiser](
            Replicates([model]).parameters,
            Schedule({"": config.learning_rate}, steps, config.warm_up),
            config.weight_decay,
        )
        for _ in range(config.epochs):
            for images, labels in loader:
                model.zero_grad(set_to_none=False)
                reconstruction(model(images), images, labels).backward()
                optimiser.step()
    return average(model, test, image_errors)


def fit_autoencoder_plainly(
    settings: dict[str, Any], replicate: int, dataset: str, data_dir: str, target_error: float
) -> tuple[float, int]:
    """Train one autoencoder of the same layers with ReLU, by Adam at 1e-3.

    Stop after the first epoch with a test MSE of at most `target_error`, or after `MOST_EPOCHS`.
    Returns the MSE and the epochs.
    """
    config = autoencoder.Config(**settings | {"activation": "relu"})
    train, _, test = read(dataset, data_dir)
    (model,) = initialise(lambda: Autoencoder(config.shape), config.seed, [replicate])
    for layer in model.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.reset_parameters()  # undo the study's own last bias
    loader = DataLoader(train, config.batch_size, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    error, epochs = math.inf, 0
    while error > target_error and epochs < MOST_EPOCHS:
        for images, _ in loader:
            optimiser.zero_grad()
            functional.mse_loss(model(images), images).backward()
            optimiser.step()
        error = average(model, test, image_errors)
        epochs += 1
    return error, epochs


def reconstruction(output: torch.Tensor, images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Mean squared error per pixel."""
    return functional.mse_loss(output, images)


def image_errors(output: torch.Tensor, images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Mean squared error per pixel of each image: (B,)."""
    return (output - images).square().mean(dim=(1, 2, 3))


def fit_classifier(
    settings: dict[str, Any], replicate: int, dataset: str, data_dir: str, encoder: str
) -> float:
    """Train one few-shot classifier on the encoder of a file, if any; return its test accuracy."""
    config = fewshot.Config(**settings)
    train, labels, test = read(dataset, data_dir)
    parent = {config.parent_replicate(replicate): load_file(encoder)} if encoder else None
    (model,) = fewshot.build_classifiers(config, [replicate], parent)
    some = DataLoader(Subset(train, range(fewshot.STATISTICS_IMAGES)), batch_size=250)
    with torch.no_grad():
        model.standardise.fit(torch.cat([model.encoder(images) for images, _ in some]))
    chosen = label_subset(labels, config.labels, config.seed, replicate).tolist()
    loader = DataLoader(Subset(train, chosen), config.batch_size or config.labels, shuffle=True)
    groups = [{"params": list(model.head.parameters()), "lr": config.learning_rate}]
    if config.freeze == "fixed":
        model.encoder.requires_grad_(False)
    else:
        rate = config.encoder_learning_rate
        groups.insert(0, {"params": list(model.encoder.parameters()), "lr": rate})
    optimise(
        model,
        groups,
        loader,
        config.epochs,
        config.weight_decay,
        lambda output, _, targets: functional.cross_entropy(output, targets),
    )
    return average(model, test, lambda output, _, y: output.argmax(dim=1) == y)


def trial(config: dict[str, Any]) -> None:
    """Run one fit, as a function trainable of Tune."""
    from ray import tune

    started = time.perf_counter()
    fit = config["fit"]
    torch.manual_seed(seed_of(fit["settings"]["seed"], fit["replicate"], "order"))
    common = (fit["settings"], fit["replicate"], config["dataset"], config["data_dir"])
    epochs = 0
    if "target_error" in fit:
        quality, epochs = fit_autoencoder_plainly(*common, fit["target_error"])
    elif fit["kind"] == "autoencoder":
        quality = fit_autoencoder(*common)
    else:
        quality = fit_classifier(*common, fit["encoder"])
    seconds = time.perf_counter() - started
    tune.report({"seconds": seconds, "quality": quality, "epochs": epochs})


def main(path: Path) -> None:
    """Run the fits of the task in the JSON file at `path`.

    It has `dataset`, `data_dir`, `folder`, and `fits` with `kind`, `settings` (a complete
    configuration), `replicate`, `encoder` (a safetensors file, or empty) and optionally
    `target_error`, the test MSE at which the common recipe stops.
    """
    import ray
    from ray import tune

    import study.cluster  # noqa: F401  (it sets variables that Ray reads)

    task = json.loads(path.read_text(encoding="utf-8"))
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    started = time.perf_counter()
    results = tune.Tuner(
        trial,
        param_space={
            "fit": tune.grid_search(task["fits"]),
            "dataset": task["dataset"],
            "data_dir": task["data_dir"],
        },
        run_config=tune.RunConfig(storage_path=task["folder"], verbose=0),
    ).fit()
    wall = time.perf_counter() - started
    for error in results.errors:
        raise error
    metrics = [results[index].metrics or {} for index in range(len(results))]
    fits = [{name: m[name] for name in ("seconds", "quality", "epochs")} for m in metrics]
    print(json.dumps({"wall": wall, "fits": fits}))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
