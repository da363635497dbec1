"""Replicates trained together equal those trained alone.

The loops that train one alone are written out here, in plain PyTorch, and share nothing with the
code under test but the networks, the seeds and the label subsets.
"""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainables.helpers import no_report, state, untrained_parent
from trainables.autoencoder import train as autoencoder
from trainables.data import label_subset
from trainables.fewshot import train as fewshot
from trainables.fewshot.stages import cross_entropy
from trainables.networks import Autoencoder, Classifier, Encoder, Head, Shape
from trainables.replicates import Replicates, fastest_strategy
from trainables.seeds import generators, initialise, seed_of
from trainables.training import Minibatches, Recipe, fit

STRATEGIES = ["loop", "vectorised", "products"]


# --- replicates trained alone ----------------------------------------------------------------


class PlainMuon(torch.optim.Optimizer):
    """Muon one matrix at a time, filters as matrices, and AdamW for all not in `matrices`."""

    def __init__(self, groups, weight_decay, matrices):
        super().__init__(groups, {"weight_decay": weight_decay})
        self.matrices = {id(parameter) for parameter in matrices}
        others = [
            {**group, "params": [p for p in group["params"] if id(p) not in self.matrices]}
            for group in groups
        ]
        self.adamw = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=weight_decay)

    @torch.no_grad()
    def step(self):
        for group, others in zip(self.param_groups, self.adamw.param_groups, strict=True):
            others["lr"] = group["lr"]
            for parameter in group["params"]:
                if id(parameter) in self.matrices:
                    self._step(parameter, group["lr"], group["weight_decay"])
        self.adamw.step()

    def _step(self, parameter, rate, decay):
        gradient = parameter.grad
        state = self.state[parameter]
        momentum = 0.9 * state.get("momentum", 0) + 0.1 * gradient
        state["momentum"] = momentum
        x = (0.1 * gradient + 0.9 * momentum).flatten(1)
        x = x / x.norm()
        for _ in range(3):
            x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
        length = 0.2 * max(x.shape) ** 0.5
        parameter.copy_((1 - rate * decay) * parameter - rate * length * x.view_as(parameter))


def train_alone(model, parts, data, loss, config, replicate):
    """An ordinary training loop; `parts` are (module, peak learning rate), `data` are inputs and
    targets. Mean loss by epoch."""
    (inputs, targets), epochs = data, config.epochs
    groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in parts]
    if getattr(config, "optimiser", "adamw") == "adamw":
        optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    else:
        matrices = [parameter for parameter in model.decoder.parameters() if parameter.ndim > 1]
        optimiser = PlainMuon(groups, config.weight_decay, matrices)
    batch_size = config.batch_size or len(inputs)
    steps = len(inputs) // batch_size
    assert epochs * steps >= 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[rate for _, rate in parts],
        total_steps=epochs * steps + 1,
        pct_start=0.1,
        cycle_momentum=False,
    )
    shuffle = torch.Generator().manual_seed(seed_of(config.seed, replicate, "order"))
    losses = []
    for _ in range(epochs):
        order = torch.arange(len(inputs))
        if batch_size < len(inputs):
            order = torch.randperm(len(inputs), generator=shuffle)
        total = 0.0
        for step in range(steps):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            optimiser.zero_grad()
            value = loss(model(inputs[chosen]), targets[chosen])
            value.backward()
            optimiser.step()
            schedule.step()
            total += value.item()
        losses.append(total / steps)
    return losses


def images_of(split):
    return torch.tensor(split.images).double() / 255


def largest_difference(state, other):
    assert state.keys() == other.keys()
    return max((state[name] - other[name]).abs().max().item() for name in state)


AUTOENCODER = autoencoder.Config(latent_dim=3, depth=2, width=2, batch_size=16, epochs=9, seed=5)


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_autoencoder_replicate_equals_one_trained_alone(
    strategy, optimiser, few_digits, use_strategy
):
    use_strategy(strategy)
    config = dataclasses.replace(AUTOENCODER, optimiser=optimiser)
    outcome = autoencoder.train(config, range(3), few_digits, no_report)
    images, validation, test = map(
        images_of, (few_digits.train, few_digits.validation, few_digits.test)
    )
    for replicate in range(3):
        torch.manual_seed(seed_of(config.seed, replicate, "initialisation"))
        model = Autoencoder(config.shape)
        at_first = copy.deepcopy(model.state_dict())
        parts, data = [(model, config.learning_rate)], (images, images)
        losses = train_alone(model, parts, data, functional.mse_loss, config, replicate)
        trained = {name: stacked[replicate] for name, stacked in outcome.weights.items()}
        assert largest_difference(model.state_dict(), trained) < 1e-8
        assert largest_difference(model.state_dict(), at_first) > 1e-2  # it has learnt something
        history = [line for line in outcome.history if line["replicate"] == replicate]
        assert [line["train_mse"] for line in history] == pytest.approx(losses, abs=1e-8)
        with torch.no_grad():
            errors = {
                "val_mse": functional.mse_loss(model(validation), validation).item(),
                "test_mse": functional.mse_loss(model(test), test).item(),
            }
        row = outcome.rows[replicate]
        assert {name: row[name] for name in errors} == pytest.approx(errors, abs=1e-8)


def few_shot_config(freeze, **settings):
    return fewshot.Config(
        **{
            "latent_dim": 3, "labels": 20, "freeze": freeze, "depth": 2, "width": 2, "hidden": 6,
            "batch_size": 5, "epochs": 25, "encoders": 2, "seed": 5,
        }
        | settings
    )  # fmt: skip


@pytest.fixture
def few_shot_models(monkeypatch):
    """The `Replicates` that the few-shot experiment makes."""
    instances = []

    def record(*args):
        instances.append(Replicates(*args))
        return instances[-1]

    monkeypatch.setattr(fewshot, "Replicates", record)
    return instances


def few_shot_alone(config, data, parent, replicate):
    """An encoder and a head trained by themselves, their losses and predicted test classes."""
    torch.manual_seed(seed_of(config.seed, replicate, "initialisation"))
    encoder = Encoder(config.shape)
    if config.freeze != "scratch":
        source = replicate % 2  # two pretrained encoders for three replicates
        for name, parameter in encoder.named_parameters():
            parameter.data.copy_(parent[source][f"encoder.{name}"])
    torch.manual_seed(seed_of(config.seed, replicate, "head"))
    head = Head(config.latent_dim, config.hidden)
    images = images_of(data.train)
    with torch.no_grad():
        codes = encoder(images)
    mean, deviation = codes.mean(dim=0), codes.std(dim=0)

    def classify(inputs):
        return head((encoder(inputs) - mean) / deviation)

    parts = [(head, config.learning_rate)]
    if config.freeze != "fixed":
        parts.insert(0, (encoder, config.encoder_learning_rate))
    chosen = label_subset(data.train.labels, config.labels, config.seed, replicate)
    labelled = images[chosen], torch.tensor(data.train.labels[chosen]).long()
    losses = train_alone(classify, parts, labelled, functional.cross_entropy, config, replicate)
    with torch.no_grad():
        predictions = classify(images_of(data.test)).argmax(dim=1)
    return encoder, head, losses, predictions


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    ("freeze", "strategy"),
    [("fixed", "batched"), *((freeze, s) for freeze in ("full", "scratch") for s in STRATEGIES)],
)
@pytest.mark.parametrize("batches", ["minibatches", "all at once"])
def test_few_shot_replicate_equals_one_trained_alone(
    freeze, strategy, batches, few_digits, few_shot_models, use_strategy
):
    use_strategy(strategy)
    config = few_shot_config(freeze)
    if batches == "all at once":
        config = few_shot_config(freeze, batch_size=0, epochs=50)
    parent = untrained_parent(config.shape, 2) if freeze != "scratch" else None
    outcome = fewshot.train(config, range(3), few_digits, no_report, parent)
    (models,) = few_shot_models
    for replicate in range(3):
        encoder, head, losses, predictions = few_shot_alone(config, few_digits, parent, replicate)
        member = models.members[replicate]
        if freeze == "fixed":
            assert largest_difference(member.state_dict(), head.state_dict()) < 1e-8
        else:
            assert largest_difference(member.encoder.state_dict(), encoder.state_dict()) < 1e-8
            assert largest_difference(member.head.state_dict(), head.state_dict()) < 1e-8
        stacked = {name: value[replicate] for name, value in state(models).items()}
        assert largest_difference(stacked, member.state_dict()) == 0
        history = [line for line in outcome.history if line["replicate"] == replicate]
        assert len(history) >= 2
        for line in history:
            assert line["train_loss"] == pytest.approx(losses[line["epoch"] - 1], abs=1e-8)
        assert outcome.predictions[replicate].tolist() == predictions.tolist()


# --- the stack -------------------------------------------------------------------------------


def squared_error(model, inputs, targets):
    return (model(inputs) - targets).square().mean()


@pytest.fixture
def three_models(double_precision):
    """Three small convolutional classifiers, and what each of them sees: (3, 4, …)."""
    shape = Shape(latent_dim=2, depth=1, width=2)
    members = initialise(lambda: Classifier.untrained(shape, hidden=3), 0, range(3))
    torch.manual_seed(1)
    return members, torch.rand(3, 4, 1, 28, 28), torch.rand(3, 4, 10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_are_of_each_replicates_own_loss(strategy, three_models):
    members, inputs, targets = three_models
    alone = copy.deepcopy(members)
    losses = []
    for model, x, y in zip(alone, inputs, targets, strict=True):
        losses.append(squared_error(model, x, y))
        losses[-1].backward()
    models = Replicates(members, strategy=strategy)
    for _ in range(2):  # gradients don't add up from one call to the next
        found = models.backward(squared_error, inputs, targets)
    assert found.requires_grad is False
    assert found.tolist() == pytest.approx([loss.item() for loss in losses], abs=1e-12)
    for name, stacked in models.parameters.items():
        expected = torch.stack([dict(m.named_parameters())[name].grad for m in alone])
        assert torch.allclose(stacked.grad, expected, rtol=0, atol=1e-12)


def test_all_strategies_train_the_same(three_models):
    members, inputs, targets = three_models
    trained = []
    for strategy in STRATEGIES:
        models = Replicates(copy.deepcopy(members), strategy=strategy)
        rows = torch.arange(3)[:, None]
        losses = []
        fit(
            models,
            squared_error,
            Minibatches(
                4,
                2,
                generators(0, range(3), "order"),
                lambda chosen, rows=rows: (inputs[rows, chosen], targets[rows, chosen]),
            ),
            Recipe(10, {"encoder.": 1e-3, "head.": 1e-2}, 0.01),
            after_epoch=lambda epoch, values, losses=losses: losses.append(values),
        )
        trained.append({**state(models), "losses": torch.stack(losses)})
    assert trained[0]["losses"].shape == (10, 3)
    for other in trained[1:]:
        assert largest_difference(trained[0], other) < 1e-12


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_are_views_of_the_stack(strategy, three_models):
    members, inputs, targets = three_models
    models = Replicates(members, strategy=strategy)
    models.backward(squared_error, inputs, targets)
    for replicate, member in enumerate(models.members):
        for name, own in member.named_parameters():
            stacked = models.parameters[name]
            assert torch.equal(own, stacked[replicate])
            assert own.data_ptr() == stacked[replicate].data_ptr()
            assert own.grad.data_ptr() == stacked.grad[replicate].data_ptr()
            assert own.grad.abs().sum() > 0 or "bias" in name
    before = copy.deepcopy([member.state_dict() for member in models.members])
    torch.optim.SGD(models.parameters.values(), lr=1.0).step()
    for replicate, member in enumerate(models.members):
        assert largest_difference(member.state_dict(), before[replicate]) > 1e-4
        stacked = {name: value[replicate] for name, value in state(models).items()}
        assert largest_difference(member.state_dict(), stacked) == 0


def test_state_is_every_members_state_stacked(three_models):
    members, _, _ = three_models
    states = copy.deepcopy([member.state_dict() for member in members])
    found = state(Replicates(members))
    assert set(found) == set(states[0])  # buffers too
    for name, stacked in found.items():
        assert torch.equal(stacked, torch.stack([state[name] for state in states]))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batching_of_an_evaluation_has_no_effect(strategy, three_models):
    members, inputs, targets = three_models

    def errors(model, x, y):
        return (model(x) - y).square().mean(dim=1)

    x, y = inputs.flatten(0, 1), targets.flatten(0, 1)
    models = Replicates(members, strategy=strategy)
    expected = torch.stack([errors(member, x, y) for member in members]).detach()
    for batch_size in (1, 5, 12, 1000):
        found = models.evaluate(errors, x, y, batch_size=batch_size)
        assert found.shape == (3, 12)
        assert not found.requires_grad
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def train_heads(strategy, codes, labels, *weights):
    """Losses and state of heads after 20 steps on the codes (R, N, d) and labels (R, N)."""
    models = Replicates(
        initialise(lambda: Head(codes.shape[2], 8), 0, range(len(codes))), strategy=strategy
    )
    rows = torch.arange(len(codes))[:, None]
    everything = (codes, labels, *weights)
    losses = []
    fit(
        models,
        cross_entropy,
        Minibatches(
            codes.shape[1],
            codes.shape[1] // 2,
            generators(0, range(len(codes)), "order"),
            lambda chosen: tuple(part[rows, chosen] for part in everything),
        ),
        Recipe(10, {"": 1e-2}, 0.01),
        after_epoch=lambda epoch, values: losses.append(values),
    )
    scores = models.evaluate(lambda model, inputs: model(inputs), codes[0])
    return {**state(models), "losses": torch.stack(losses), "scores": scores}


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("replicates", "images"), [(1, 20), (3, 40), (8, 160)])
def test_batched_heads_match_vectorised_and_looped_ones(replicates, images, weighted):
    torch.manual_seed(1)
    codes = torch.randn(replicates, images, 5)
    labels = torch.randint(0, 10, (replicates, images))
    weights = (torch.rand(replicates, images),) if weighted else ()
    batched, vectorised, looped = (
        train_heads(strategy, codes, labels, *weights)
        for strategy in ("batched", "vectorised", "loop")
    )
    assert batched["losses"].shape == (10, replicates)
    assert batched["scores"].shape == (replicates, images, 10)
    assert largest_difference(batched, vectorised) < 1e-12
    assert largest_difference(batched, looped) < 1e-12


def test_fastest_strategy_depends_on_network_and_device():
    convolutional, plain = Autoencoder(Shape(2, 1, 2)), nn.Linear(2, 1)
    assert fastest_strategy(convolutional, torch.device("cpu")) == "loop"
    assert fastest_strategy(convolutional, torch.device("cuda")) == "fastest"
    assert fastest_strategy(plain, torch.device("cpu")) == "loop"
    assert fastest_strategy(Head(2), torch.device("cpu")) == "batched"
    assert fastest_strategy(Head(2), torch.device("cuda")) == "batched"
