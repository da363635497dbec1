"""A training step as one CUDA graph.

An autoencoder's step has a hundred small kernels, which a GPU computes faster than a CPU launches
them one by one. A graph launches all of them at once, on the same memory each time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

Step = Callable[[Tensor], None]
"""A training step. It takes the indices (R, B) of a minibatch; their shape never changes."""

EAGER_STEPS = 3
"""Steps before the capture, in which libraries allocate memory and choose algorithms."""


class CaptureFailed(RuntimeError):
    """No CUDA graph can record this function; the function can still run without one."""


class NeedsNewerTorch(Exception):
    """No CUDA graph can record this function, and this torch can't continue after the attempt."""


@cache
def side_stream() -> torch.cuda.Stream:
    """The stream of all captures. cuBLAS never frees its workspace (32 MiB on an H200) of a stream,
    so a worker with a stream per training would come to hold a GiB of them."""
    return torch.cuda.Stream()


class CudaGraph:
    """Records the kernels of a function and launches them again."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        """`generators` are those on the GPU that the function draws from."""
        self.graph = torch.cuda.CUDAGraph()
        self.generators = generators
        self.stream = side_stream()

    def run_eagerly(self, function: Callable[[], object]) -> None:
        """Call `function` without recording it, to prepare a capture.

        It runs on a side stream, because the default stream can't be captured.
        """
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            function()
        torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, function: Callable[[], object]) -> None:
        """Record the kernels of `function` without launching them.

        Raises `torch.OutOfMemoryError`, or else `CaptureFailed` (before torch 2.12:
        `NeedsNewerTorch`).
        """
        self.function = function  # its tensors must outlive the graph
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer torch registers them itself, with a warning
            for generator in self.generators:
                self.graph.register_generator_state(generator)
        try:
            # `thread_local`: other threads of a worker may use the GPU meanwhile.
            with torch.cuda.graph(
                self.graph, stream=self.stream, capture_error_mode="thread_local"
            ):
                function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error.__context__ or error).partition("\n")[0]
            if torch.__version__ < "2.12":  # the allocator stays in the capture: pytorch#180395
                raise NeedsNewerTorch(
                    f"a training step can't be a CUDA graph ({reason}); with torch 2.12 or later "
                    "training goes on without one"
                ) from error
            raise CaptureFailed(reason) from error

    def replay(self) -> None:
        """Launch the recorded kernels."""
        self.graph.replay()


def capture(
    function: Callable[[], object], generators: Sequence[torch.Generator] = ()
) -> CudaGraph:
    """Call `function` `EAGER_STEPS` times, then record it. It draws only from `generators`."""
    graph = CudaGraph(generators)
    for _ in range(EAGER_STEPS):
        graph.run_eagerly(function)
    graph.capture(function)
    return graph


class ReplayedStep:
    """A step that is recorded in `graph` at its fourth call and replayed from then on.

    If it can't be recorded, it warns and runs without a graph. Raises `torch.OutOfMemoryError`, and
    before torch 2.12 `NeedsNewerTorch`.
    """

    def __init__(self, step: Step, graph: CudaGraph) -> None:
        self.step = step
        self.graph = graph
        self.calls = 0
        self.indices: Tensor | None = None
        """Input of the captured step; None before the capture."""

    def __call__(self, indices: Tensor) -> None:
        self.calls += 1
        if self.calls == EAGER_STEPS + 1:
            static, step = indices.clone(), self.step
            try:
                # The graph keeps this function. With `self` in it, they would keep each other, and
                # the memory of a finished training, until Python's next collection of cycles.
                self.graph.capture(lambda: step(static))
                self.indices = static
            except CaptureFailed as error:
                message = f"training goes on without a CUDA graph, slower: {error}"
                warnings.warn(message, stacklevel=1)
        if self.indices is None:
            self.graph.run_eagerly(lambda: self.step(indices))
            return
        self.indices.copy_(indices)
        self.graph.replay()


def as_graph(step: Step, device: torch.device, generators: Sequence[torch.Generator]) -> Step:
    """Return `step` as a `ReplayedStep`; unchanged on a CPU, or if a generator is on the CPU."""
    on_device = all(generator.device.type == device.type for generator in generators)
    if device.type == "cuda" and on_device:
        return ReplayedStep(step, CudaGraph(generators))
    return step
