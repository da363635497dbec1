"""A pretended GPU refuses what a GPU refuses, so that tests on it can fail."""

import numpy as np
import pytest
import torch

from tests.trainables.stand_ins import pretend_gpu
from trainables import graph
from trainables.replicates import pick_device


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    with pretend_gpu(monkeypatch):
        yield


@pytest.fixture
def on_gpu():
    return torch.ones(2, 3, 3, device="cuda")


def test_tensors_stay_on_their_device(on_gpu):
    layer = torch.nn.Linear(3, 3).to(pick_device())
    batched = torch.vmap(lambda matrix: matrix @ matrix)(on_gpu)
    for tensor in (on_gpu, on_gpu[0].T + 1, layer(on_gpu), layer.weight.detach(), batched):
        assert tensor.device.type == "cuda"
    for tensor in (torch.ones(3), on_gpu.cpu(), torch.ones(3).to(torch.ones(2))):
        assert tensor.device.type == "cpu"
    layer(on_gpu).sum().backward()
    assert layer.weight.grad.cpu().numpy() == pytest.approx(np.full((3, 3), 6.0))
    assert torch.ones(3).to(on_gpu).device.type == on_gpu.cpu().to("cuda").device.type == "cuda"


WRONG = {
    "two devices": (lambda gpu: gpu + torch.ones(3), "same device"),
    "two devices in vmap": (lambda gpu: torch.vmap(lambda one: one @ torch.ones(3))(gpu), "same"),
    "indices on the CPU": (lambda gpu: gpu[torch.tensor([0])], "same device"),
    "number on the CPU": (lambda gpu: gpu.take(torch.tensor(0)), "same device"),
    "NumPy": (lambda gpu: gpu.numpy(), "to NumPy"),
    "generator": (lambda gpu: gpu.uniform_(generator=torch.Generator()), "generator is on cpu"),
    "generator on the GPU": (lambda gpu: torch.rand(2, generator=torch.Generator("cuda")), "is on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistake_is_refused(name, on_gpu):
    mistake, message = WRONG[name]
    with pytest.raises((RuntimeError, TypeError), match=message):
        mistake(on_gpu)


NOT_IN_A_GRAPH = {
    "number": (lambda gpu: gpu.sum().item(), "capturing: item"),
    "condition": (lambda gpu: bool(gpu.sum()), "capturing: __bool__"),
    "copy to the CPU": (lambda gpu: gpu.cpu(), "capturing: cpu"),
    "copy to the GPU": (lambda gpu: torch.ones(3).to("cuda"), "capturing: to"),
    "number on the CPU": (lambda gpu: gpu + torch.tensor(1.0), "same device|capturing"),
    "generator": (lambda gpu: gpu.uniform_(generator=torch.Generator("cuda")), "doesn't know"),
}


@pytest.mark.parametrize("name", NOT_IN_A_GRAPH)
def test_mistake_in_a_graph_is_refused(name, on_gpu):
    mistake, message = NOT_IN_A_GRAPH[name]
    mistake(on_gpu)
    with pytest.raises(graph.CaptureFailed, match=message):
        graph.CudaGraph([]).capture(lambda: mistake(on_gpu))


def test_graph_draws_from_its_generator(on_gpu):
    generator = torch.Generator("cuda")
    recorded = graph.CudaGraph([generator])
    recorded.capture(lambda: on_gpu.uniform_(generator=generator))
    recorded.replay()
    first = on_gpu.clone()
    recorded.replay()
    assert not torch.equal(on_gpu, first)
