"""Numbers of tiny cells: if they change, stored results with the same ids mean something else."""

import pytest

from tests.trainables.helpers import no_report, untrained_parent
from trainables.autoencoder import train as autoencoder
from trainables.fewshot import train as fewshot
from trainables.rotation import train as rotation
from trainables.supervised import train as supervised

BLOCK = range(4, 6)

TINY = {"depth": 2, "width": 2}
FEW = TINY | {
    "labels": 20, "latent_dim": 3, "epochs": 6, "pseudo_epochs": 2,
    "pseudo_batch_size": 50, "views": 2, "encoders": 2,
}  # fmt: skip
VIEWS = {"augment": 1.0, "noise": 0.2}

CELLS = {
    "adamw": (autoencoder, TINY | {"latent_dim": 3, "epochs": 2, "batch_size": 16}),
    "muon": (
        autoencoder,
        TINY
        | VIEWS
        | {"latent_dim": 3, "epochs": 2, "batch_size": 16, "optimiser": "muon", "target": "view"},
    ),
    "mlp": (autoencoder, TINY | {"latent_dim": 3, "epochs": 2, "network": "mlp"}),
    **{
        objective: (
            autoencoder,
            TINY
            | VIEWS
            | {
                "latent_dim": 3,
                "epochs": 2,
                "batch_size": 16,
                "objective": objective,
                "contrastive_updates": 12,
            },
        )
        for objective in ("variational", "contrastive")
    },
    **{freeze: (fewshot, FEW | {"freeze": freeze}) for freeze in fewshot.FREEZE},
    "supervised": (supervised, {"labels": 20, "epochs": 6, "views": 2, "width": 2}),
    "views": (fewshot, FEW | {"freeze": "lp-ft", "pretraining": "augmented"}),
    **{
        loss: (rotation, TINY | {"loss": loss, "epochs": 2, "batch_size": 20})
        for loss in ("absolute", "wrapped", "cosine", "von_mises", "sine_cosine")
    },
}

GOLDEN = {
    "adamw": [0.0961323, 0.100557, 0.0966177, 0.100514],
    "muon": [0.0861959, 0.100734, 0.0880365, 0.100674],
    "mlp": [0.090072, 0.0925193, 0.0847496, 0.0830845],
    "variational": [0.0962038, 0.100684, 0.096736, 0.100684],
    "contrastive": [3.40481, 0.100726, 3.54881, 0.100662],
    "fixed": [2.10989, 2.12851],
    "full": [2.06794, 2.0875],
    "scratch": [2.01712, 2.031],
    "lp-ft": [2.20572, 2.18584],
    "propagation": [0.480687, 0.48714],
    "consistency": [0.464816, 0.476902],
    "logistic": [0.2, 0.22, 0.133333, 0.22],
    "svm": [0.233333, 0.18, 0.233333, 0.22],
    "neighbours": [0.166667, 0.18, 0.233333, 0.22],
    "supervised": [1.8239, 1.7284],
    "views": [2.25452, 2.19708],
    "absolute": [97.6371, 106.53, 98.0699, 106.234],
    "wrapped": [88.9052, 75.382, 86.8486, 104.689],
    "cosine": [0.993482, 80.6479, 0.937204, 100.813],
    "von_mises": [1.83352, 71.9783, 1.84771, 104.319],
    "sine_cosine": [0.993876, 71.4417, 1.02557, 101.419],
}


def train_cell(name, data):
    """The outcome of the cell of this name in `CELLS`."""
    module, settings = CELLS[name]
    config = module.Config(**settings)
    parent = untrained_parent(config.shape, 2) if module is fewshot else None
    return module.train(config, BLOCK, data, no_report, parent)


def numbers(name, data):
    """The last training loss of each replicate, and the last error if there is one; for heads that
    are no network, the accuracies."""
    found = train_cell(name, data)
    if not found.history:
        return [row[key] for row in found.rows for key in ("val_accuracy", "test_accuracy")]
    return [
        line[key]
        for line in found.history[-len(BLOCK) :]
        for key in ("train_loss", "train_mse", "val_mse", "val_error")
        if key in line
    ]


@pytest.mark.parametrize("name", CELLS)
def test_numbers_match_their_version(name, few_digits):
    """SSE, AVX2 and AVX-512 agree in all six digits of so short a training."""
    module, _ = CELLS[name]
    found = numbers(name, few_digits)
    assert found == pytest.approx(GOLDEN[name], rel=2e-5), (
        f"{name}: {module.__name__} computes other numbers than it did under VERSION = "
        f"{module.VERSION}. If that is meant, raise VERSION, so that stored results are not taken "
        f"for these, and put the new numbers here: {[float(f'{value:.6g}') for value in found]}"
    )


def test_every_version_has_its_numbers():
    modules = (autoencoder, fewshot, rotation, supervised)
    assert [module.VERSION for module in modules] == [1, 3, 2, 1]
    assert GOLDEN.keys() == CELLS.keys()
