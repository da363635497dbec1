"""What stands in for a GPU and its graphs on a CPU, so that tests of them run everywhere."""

import pytest
import torch
from torch._C import _functorch
from torch._functorch import vmap
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from trainables import graph, training

aten = torch.ops.aten

WAITS_FOR_THE_GPU = (
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.lift_fresh.default,  # a number that becomes a tensor on the CPU first
)


class Tape(TorchDispatchMode):
    """A `CudaGraph` on a CPU: a replay computes the same operations on the same memory with the
    same numbers. The capture computes the step, so that the replay after it need not."""

    def __init__(self, generators=()):
        super().__init__()
        self.generators = generators
        self.calls = []
        self.computed = False
        self.replays = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in WAITS_FOR_THE_GPU:
            raise RuntimeError(f"not permitted when stream is capturing: {operation}")
        result = operation(*args, **(kwargs or {}))
        self.calls.append((operation, args, kwargs or {}, result))
        return result

    def run_eagerly(self, function):
        function()

    def capture(self, function):
        self.function = function
        try:
            with self:
                function()
        except RuntimeError as error:
            raise graph.CaptureFailed(str(error)) from error
        self.computed = True

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        if self.computed:
            self.computed = False
            return
        for operation, args, kwargs, result in self.calls:
            new = operation(*args, **kwargs)
            returned = operation._schema.returns
            if not returned or returned[0].alias_info is not None:
                continue  # in place, or a view
            places = result if isinstance(result, (tuple, list)) else [result]
            values = new if isinstance(new, (tuple, list)) else [new]
            for place, value in zip(places, values, strict=True):
                if isinstance(place, torch.Tensor):
                    place.copy_(value)


def is_on_gpu(tensor):
    """True for a tensor on the pretended GPU, and for one replicate's part within `torch.vmap`."""
    while not hasattr(tensor, "on_gpu") and _functorch.is_batchedtensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return getattr(tensor, "on_gpu", False)


class Generator(torch.Generator):
    """A generator that is on the pretended GPU or on the CPU, and draws the CPU's numbers."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return self.place


TO_NUMBERS = ("item", "tolist", "__bool__", "__float__", "__int__")
"""Methods of a tensor that wait for the GPU."""


class PretendedGpu(TorchFunctionMode):
    """Tensors in the block can be on a GPU that isn't there; the CPU computes with them.

    Like a GPU, it refuses tensors of both devices in one operation (numbers without a dimension may
    be on the CPU), generators of the other device, and NumPy arrays of tensors on the GPU. While a
    graph is captured, it also refuses copies between the devices, numbers on the CPU (the graph
    would keep them), and generators that the graph doesn't know. Operations of the backward pass
    aren't checked.
    """

    def __init__(self):
        super().__init__()
        self.graph = None
        """The one that is being captured."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if func is torch.device or name in ("_parse_to", "_has_compatible_shallow_copy_type"):
            return func(*args, **kwargs)
        # The second argument of `__deepcopy__` holds all tensors that are copied already.
        given = args[:1] if name == "__deepcopy__" else (args, kwargs)
        tensors = [each for each in tree_iter(given) if isinstance(each, torch.Tensor)]
        strict = self.graph or name in ("take", "_fused_adamw_")
        places = {is_on_gpu(each) for each in tensors if each.dim() or is_on_gpu(each) or strict}
        if func == torch.Tensor.device.__get__ and True in places:
            return torch.device("cuda", 0)
        if func == torch.Tensor.data.__set__:
            func(*args)
            args[0].on_gpu = is_on_gpu(args[1])
            return None

        wanted = [torch.device(each).type for each in (*args, *kwargs.values()) if is_device(each)]
        if name == "cpu":
            wanted = ["cpu"]
        elif name in ("copy_", "to") and not wanted:  # to where another tensor is
            like = tensors[0] if name == "copy_" else tensors[-1]
            wanted = ["cuda" if is_on_gpu(like) else "cpu"]
        to_gpu = wanted == ["cuda"] if wanted else True in places
        self.check(name, places, bool(wanted), to_gpu, kwargs.get("generator"))
        args = [on_the_cpu(each) for each in args]
        kwargs = {key: on_the_cpu(each) for key, each in kwargs.items()}
        result = func(*args, **kwargs)
        if wanted and name != "copy_" and any(result is each for each in tensors):
            if is_on_gpu(result) == to_gpu:
                return result
            result = result.clone()  # no copy for the CPU, but one for a GPU

        def mark(tensor):
            if to_gpu or is_on_gpu(tensor):
                tensor.on_gpu = to_gpu
            return tensor

        return tree_map_only(torch.Tensor, mark, result)

    def check(self, name, places, moves, to_gpu, generator):
        """Raise what a GPU would: `places` says for each tensor whether it is there."""
        if len(places) == 2 and not moves:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if name in ("numpy", "__array__") and True in places:
            raise TypeError("can't convert a tensor on a GPU to NumPy")
        if generator is not None and (generator.device.type == "cuda") != to_gpu:
            raise RuntimeError(f"{name}: the generator is on {generator.device}")
        if self.graph is None:
            return
        if (moves and places - {to_gpu}) or (name in TO_NUMBERS and True in places):
            raise RuntimeError(f"not permitted when stream is capturing: {name}")
        if generator is not None and generator not in self.graph.generators:
            raise RuntimeError(f"the graph doesn't know the generator of {name}")


def is_device(argument):
    return isinstance(argument, torch.device) or (
        isinstance(argument, str) and argument in ("cpu", "cuda")
    )


def on_the_cpu(argument):
    """The CPU instead of the GPU; other arguments are unchanged."""
    if is_device(argument) and torch.device(argument).type == "cuda":
        return torch.device("cpu")
    return argument


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A `PretendedGpu` that `pick_device` finds, with a `Tape` for every graph."""
    gpu = PretendedGpu()

    class Graph(Tape):
        def capture(self, function):
            gpu.graph = self
            try:
                super().capture(function)
            finally:
                gpu.graph = None

        def replay(self):
            with torch._C.DisableTorchFunction():
                super().replay()

    def keep_place(function, position):
        """Let the tensor that `function` makes be where its argument at this position is."""

        def keeping(*arguments):
            made = function(*arguments)
            made.on_gpu = is_on_gpu(arguments[position])
            return made

        return keeping

    def by_place(*arguments):
        return {
            (tensors[0][0].device, dtype): (tensors, indices)
            for (_, dtype), (tensors, indices) in by_device(*arguments).items()
        }

    # PyTorch asks no mode about these, which divide an optimiser's tensors, make a parameter, and
    # end a `torch.vmap`.
    by_device = torch.optim.Optimizer._group_tensors_by_device_and_dtype
    patched = staticmethod(by_place)
    monkeypatch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", patched)
    make = staticmethod(keep_place(torch.Tensor._make_subclass, 1))
    monkeypatch.setattr(torch.Tensor, "_make_subclass", make)
    unbatch = keep_place(vmap._remove_batch_dim, 0)
    monkeypatch.setattr(vmap, "_remove_batch_dim", unbatch)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(graph, "CudaGraph", Graph)
    monkeypatch.setattr(training, "fastest", lambda *arguments: "vectorised")
    with gpu:
        yield gpu
