"""A step can be captured, and replayed from then on. A `Tape` stands in for the CUDA graph."""

import gc
import weakref

import numpy as np
import pytest
import torch

from tests.trainables.helpers import no_report, without_time
from tests.trainables.stand_ins import Tape
from tests.trainables.test_golden import BLOCK, CELLS, train_cell
from trainables import graph, training
from trainables.autoencoder import train as autoencoder


@pytest.fixture
def tapes(monkeypatch):
    """The stand-ins for the graphs of every training."""
    made = []

    def as_graph(step, device, generators):
        made.append(Tape())
        return graph.ReplayedStep(step, made[-1])

    monkeypatch.setattr(training, "as_graph", as_graph)
    monkeypatch.setattr(graph, "EAGER_STEPS", 1)  # some of these cells have four steps in all
    return made


TRAINED = [name for name in CELLS if name not in ("logistic", "svm", "neighbours")]


@pytest.mark.parametrize("name", TRAINED)
def test_replayed_steps_compute_the_same_bits(name, few_digits, request):
    expected = train_cell(name, few_digits)
    tapes = request.getfixturevalue("tapes")
    replayed = train_cell(name, few_digits)
    assert sum(tape.replays for tape in tapes) >= 2
    assert without_time(replayed.rows) == without_time(expected.rows)
    assert replayed.history == expected.history
    assert np.array_equal(replayed.predictions, expected.predictions)
    for key, value in expected.weights.items():
        assert torch.equal(replayed.weights[key], value), key


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_replayed_steps_resume_from_a_checkpoint(optimiser, few_digits, tapes, first_epoch):
    config = autoencoder.Config(
        3, depth=2, width=2, batch_size=20, epochs=3, augment=1.0, optimiser=optimiser
    )

    def train(**options):
        return autoencoder.train(config, BLOCK, few_digits, no_report, **options)

    undisturbed = train()
    train(checkpoint=first_epoch)
    resumed = train(checkpoint=first_epoch)
    assert [tape.replays for tape in tapes] == [14, 14, 9]
    for name, value in undisturbed.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


def test_finished_training_frees_its_graph(few_digits, monkeypatch):
    """And with it the memory on the GPU, even if Python collects no cycles."""
    made = []

    def as_graph(step, device, generators):
        tape = Tape()
        made.append(weakref.ref(tape))
        return graph.ReplayedStep(step, tape)

    monkeypatch.setattr(training, "as_graph", as_graph)
    config = autoencoder.Config(3, depth=2, width=2, batch_size=20, epochs=2)
    gc.collect()
    gc.disable()
    try:
        autoencoder.train(config, BLOCK, few_digits, no_report)
        assert [tape() for tape in made] == [None]
    finally:
        gc.enable()


def test_graph_freezes_python_numbers():
    """So a learning rate computed by Python would never change: the stand-in shows it."""
    value, calls = torch.zeros(2), iter(range(1, 100))
    step = graph.ReplayedStep(lambda indices: value.add_(indices).mul_(next(calls)), Tape())
    for _ in range(graph.EAGER_STEPS + 3):
        step(torch.ones(2))
    by_hand = 0
    for factor in [*range(1, graph.EAGER_STEPS + 1), *3 * [graph.EAGER_STEPS + 1]]:
        by_hand = (by_hand + 1) * factor
    assert value.tolist() == [by_hand, by_hand]


def test_uncapturable_step_runs_without_graph():
    seen = []
    step = graph.ReplayedStep(lambda indices: seen.append(indices.sum().item()), Tape())
    for number in range(graph.EAGER_STEPS):
        step(torch.tensor([number]))
    with pytest.warns(UserWarning, match="goes on without a CUDA graph, slower: not permitted"):
        step(torch.tensor([10]))
    step(torch.tensor([11]))
    assert seen == [*range(graph.EAGER_STEPS), 10, 11]


def test_running_out_of_memory_is_raised():
    class Full(Tape):
        def capture(self, function):
            raise torch.OutOfMemoryError("CUDA out of memory")

    step = graph.ReplayedStep(lambda indices: None, Full())
    for _ in range(graph.EAGER_STEPS):
        step(torch.zeros(1))
    with pytest.raises(torch.OutOfMemoryError):
        step(torch.zeros(1))


def test_cpu_has_no_graphs():
    def step(indices):
        pass

    assert graph.as_graph(step, torch.device("cpu"), []) is step
    on_the_cpu = [torch.Generator()]
    assert graph.as_graph(step, torch.device("cuda"), on_the_cpu) is step
