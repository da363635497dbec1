"""The usual notebook loop, with which this study is compared.

A torchvision DataLoader with ToTensor, a plain convolutional autoencoder 16-32-64, Adam at 1e-3,
batches of 128, ten epochs, evaluation on the test images after each, on all cores.

    python -m benchmarks.plain_notebook DATA_DIR [EPOCHS] [IMAGES]

prints one JSON object per epoch. An empty DATA_DIR is the study's default folder. IMAGES limits
the number of training images, for tests.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from trainables.data import default_data_dir


def autoencoder(latent_dim: int) -> nn.Module:
    """Network from images (N, 1, 28, 28) to reconstructions of the same shape."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, latent_dim),
        nn.Linear(latent_dim, 64 * 4 * 4),
        nn.ReLU(),
        nn.Unflatten(1, (64, 4, 4)),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )


def run(
    data_dir: str, latent_dim: int = 14, epochs: int = 10, images: int = 60_000, seed: int = 0
) -> list[dict[str, float]]:
    """Train one model; one line per epoch with `epoch`, `seconds` so far and `test_mse`."""
    torch.manual_seed(seed)
    transform = transforms.ToTensor()
    train = Subset(datasets.MNIST(data_dir, train=True, transform=transform), range(images))
    test = datasets.MNIST(data_dir, train=False, transform=transform)
    model = autoencoder(latent_dim)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    lines = []
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for batch, _ in DataLoader(train, batch_size=128, shuffle=True):
            loss = nn.functional.mse_loss(model(batch), batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        total = 0.0
        with torch.no_grad():
            for batch, _ in DataLoader(test, batch_size=128):
                total += nn.functional.mse_loss(model(batch), batch).item() * len(batch)
        seconds = time.perf_counter() - started
        lines.append({"epoch": epoch, "seconds": seconds, "test_mse": total / len(test)})
    return lines


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    names = ("epochs", "images")
    limits = dict(zip(names, map(int, numbers), strict=False))
    for line in run(folder or str(default_data_dir()), **limits):
        print(json.dumps(line))
