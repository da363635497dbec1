"""Every trainable on a GPU learns what it learns on a CPU.

Without a GPU, most of these tests run on a pretended one, which shows tensors and generators on the
wrong device, and steps that no graph can record.
"""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.trainables.helpers import no_report, untrained_parent
from tests.trainables.stand_ins import pretend_gpu
from trainables import graph, training
from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.objectives import reconstruction_loss
from trainables.fastest import fastest
from trainables.fewshot import train as fewshot
from trainables.fewshot.settings import FREEZE, HEADS
from trainables.networks import Autoencoder
from trainables.replicates import Replicates, pick_device
from trainables.rotation import train as rotation
from trainables.rotation.settings import LOSSES
from trainables.seeds import generators, initialise
from trainables.supervised import train as supervised

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("error:training goes on without a CUDA graph"),
]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


@pytest.fixture(autouse=True)
def some_gpu(monkeypatch):
    """A pretended GPU, if there is none."""
    with nullcontext() if torch.cuda.is_available() else pretend_gpu(monkeypatch):
        yield


BLOCK = range(4, 7)
SMALL = {"depth": 2, "width": 4}


def use_device(device, monkeypatch):
    for module in (autoencoder, fewshot, rotation, supervised):
        monkeypatch.setattr(module, "pick_device", lambda: torch.device(device))
    monkeypatch.setattr("trainables.fewshot.stages.pick_device", lambda: torch.device(device))


CELLS = {
    "autoencoder": (autoencoder, SMALL | {"latent_dim": 3, "epochs": 2, "batch_size": 20}),
    "autoencoder, views": (autoencoder, SMALL | {
        "latent_dim": 3, "epochs": 2, "batch_size": 20, "augment": 1.0, "noise": 0.2}),
    "autoencoder, muon": (autoencoder, SMALL | {
        "latent_dim": 3, "epochs": 2, "batch_size": 20, "optimiser": "muon"}),
    **{objective: (autoencoder, SMALL | {
        "latent_dim": 3, "epochs": 2, "batch_size": 20, "augment": 1.0, "objective": objective,
        "contrastive_updates": 10})
       for objective in ("variational", "contrastive")},
    **{precision: (autoencoder, SMALL | {
        "latent_dim": 3, "epochs": 2, "batch_size": 20, "precision": precision})
       for precision in ("tf32", "bfloat16")},
    "mlp": (autoencoder, SMALL | {"latent_dim": 3, "epochs": 2, "network": "mlp"}),
    **{f"{freeze}, {pretraining}": (fewshot, SMALL | {
        "latent_dim": 3, "labels": 20, "freeze": freeze, "pretraining": pretraining, "epochs": 6,
        "views": 3, "pseudo_epochs": 2, "pseudo_batch_size": 50})
       for freeze in FREEZE for pretraining in ("plain", "augmented")},
    "full, bfloat16": (fewshot, SMALL | {
        "latent_dim": 3, "labels": 20, "freeze": "full", "epochs": 6, "precision": "bfloat16"}),
    "supervised": (supervised, {"labels": 20, "epochs": 6, "views": 3, "width": 4}),
    "supervised, bfloat16": (supervised, {
        "labels": 20, "epochs": 6, "views": 3, "width": 4, "precision": "bfloat16"}),
    **{f"rotation, {loss}": (rotation, SMALL | {"loss": loss, "epochs": 2, "batch_size": 20})
       for loss in LOSSES},
}  # fmt: skip


def train(name, data, block=BLOCK, **settings):
    module, own = CELLS[name]
    config = module.Config(**own | settings)
    parent = untrained_parent(config.shape, 8) if module is fewshot else None
    return module.train(config, block, data, no_report, parent)


def cpu_generators(seed, replicates, purpose, device="cpu"):
    return generators(seed, replicates, purpose)


def losses(outcome):
    keys = ("train_loss", "train_mse", "val_mse", "val_error")
    return [[line[key] for key in keys if key in line] for line in outcome.history]


@pytest.mark.parametrize("name", CELLS)
def test_gpu_learns_like_a_cpu(name, few_digits, monkeypatch):
    """The same draws and nearly the same arithmetic: so short a training cannot drift far."""
    for module in (autoencoder, fewshot, rotation):
        monkeypatch.setattr(module, "generators", cpu_generators)
    on_gpu = train(name, few_digits)
    use_device(device="cpu", monkeypatch=monkeypatch)
    on_cpu = train(name, few_digits)
    # Sums in another order round to another bfloat16 number, 2⁻⁸ away.
    close = 0.1 if "bfloat16" in name else 0.02
    assert np.array(losses(on_gpu)) == pytest.approx(np.array(losses(on_cpu)), rel=close)
    if name.split(",")[0] in HEADS:
        accuracies = [[row["test_accuracy"] for row in o.rows] for o in (on_gpu, on_cpu)]
        assert np.array(accuracies[0]) == pytest.approx(np.array(accuracies[1]), abs=0.1)


@pytest.mark.parametrize("name", ["autoencoder, views", "full, augmented", "rotation, cosine"])
def test_replicate_does_not_depend_on_its_block(name, few_digits):
    """Kernels differ with the number of replicates, so not to the bit as on a CPU."""
    whole = losses(train(name, few_digits))[-3:]
    alone = losses(train(name, few_digits, range(5, 6)))[-1:]
    assert np.array(alone[0]) == pytest.approx(np.array(whole[1]), rel=0.01)


@pytest.mark.parametrize("settings", [{}, {"optimiser": "muon"}, {"precision": "bfloat16"}])
def test_resumed_training_has_the_same_bits(settings, few_digits, first_epoch):
    module, own = CELLS["autoencoder"]
    config = module.Config(**own | {"epochs": 4} | settings)
    undisturbed = module.train(config, BLOCK, few_digits, no_report)
    module.train(config, BLOCK, few_digits, no_report, checkpoint=first_epoch)
    assert first_epoch.progress is not None and first_epoch.progress.epoch == 1
    resumed = module.train(config, BLOCK, few_digits, no_report, checkpoint=first_epoch)
    for name, value in undisturbed.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


@needs_gpu
def test_float32_is_not_rounded_to_tf32():
    assert pick_device().type == "cuda"
    draw = torch.Generator("cuda").manual_seed(0)
    images, weight = (torch.randn(8, 32, 9, 9, device="cuda", generator=draw) for _ in range(2))
    rounded = torch.conv2d(images, weight)
    exact = torch.conv2d(images.double(), weight.double())
    assert (rounded - exact).abs().max() < 1e-4 * exact.abs().max()


@pytest.mark.parametrize(
    "name",
    [
        "autoencoder, views",
        "full, plain",
        "supervised",
        "rotation, cosine",
        "bfloat16",
        "full, bfloat16",
    ],
)
def test_graph_computes_the_same_as_its_steps(name, few_digits, monkeypatch):
    replays = []
    replay = graph.CudaGraph.replay
    monkeypatch.setattr(
        graph.CudaGraph, "replay", lambda self: (replays.append(self), replay(self))
    )
    monkeypatch.setattr(training, "fastest", lambda *arguments: "vectorised")
    as_graph = losses(train(name, few_digits))
    assert replays
    monkeypatch.setattr(training, "as_graph", lambda step, device, generators: step)
    one_by_one = losses(train(name, few_digits))
    assert np.array(as_graph) == pytest.approx(np.array(one_by_one), rel=1e-3)


@pytest.mark.parametrize("strategy", ["vectorised", "products", "loop"])
def test_every_strategy_learns_the_same(strategy, few_digits, use_strategy):
    use_strategy(strategy)
    found = train("autoencoder", few_digits)
    use_strategy("loop")
    looped = train("autoencoder", few_digits)
    assert np.array(losses(found)) == pytest.approx(np.array(losses(looped)), rel=0.01)


@needs_gpu
def test_fastest_strategy_is_measured():
    (model,) = initialise(lambda: Autoencoder(autoencoder.Config(3, **SMALL).shape), 0, range(1))
    models = Replicates([model, copy.deepcopy(model)], "cuda", "fastest")
    batch = 2 * (torch.rand(2, 16, 1, 28, 28, device="cuda"),)
    before = {name: value.clone() for name, value in models.parameters.items()}
    assert fastest(models, reconstruction_loss, batch) in ("vectorised", "products", "loop")
    assert models.strategy == "fastest"
    for name, value in models.parameters.items():
        assert torch.equal(value, before[name])
