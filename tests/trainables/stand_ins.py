"""What stands in for a GPU and its graphs on a CPU, so that tests of them run everywhere."""

from contextlib import contextmanager

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


def place_of(tensor):
    """`cuda` on the pretended GPU, else `cpu`; in `torch.vmap`, where the whole batch is."""
    while not hasattr(tensor, "place") and _functorch.is_batchedtensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return getattr(tensor, "place", "cpu")


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
        counted = [each for each in tensors if strict or each.dim() or place_of(each) == "cuda"]
        places = set(map(place_of, counted))
        if func == torch.Tensor.device.__get__ and "cuda" in places:
            return torch.device("cuda", 0)
        if func == torch.Tensor.data.__set__:
            func(*args)
            args[0].place = place_of(args[1])
            return None

        target = target_of(name, tensors, [*args, *kwargs.values()])
        place = target or ("cuda" if "cuda" in places else "cpu")
        if len(places) == 2 and target is None:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if name in ("numpy", "__array__") and place == "cuda":
            raise TypeError("can't convert a tensor on a GPU to NumPy")
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != place:
            raise RuntimeError(f"{name}: the generator is on {generator.device}")
        if self.graph is not None:
            copied = target and places - {target}
            if copied or (name in TO_NUMBERS and place == "cuda"):
                raise RuntimeError(f"not permitted when stream is capturing: {name}")
            if generator is not None and generator not in self.graph.generators:
                raise RuntimeError(f"the graph doesn't know the generator of {name}")

        args = [on_the_cpu(each) for each in args]
        result = func(*args, **{key: on_the_cpu(each) for key, each in kwargs.items()})
        if name in ("to", "cpu") and result is tensors[0] and place_of(result) != place:
            result = result.clone()  # for the CPU there was nothing to copy

        def mark(tensor):
            if place_of(tensor) != place:
                tensor.place = place
            return tensor

        return tree_map_only(torch.Tensor, mark, result)


def target_of(name, tensors, arguments):
    """The device on which a call asks for its result; None: where its tensors are."""
    if name == "cpu":
        return "cpu"
    for argument in arguments:
        if is_device(argument):
            return torch.device(argument).type
    if name == "copy_":
        return place_of(tensors[0])
    return place_of(tensors[-1]) if name == "to" else None  # `to` another tensor's device


def is_device(argument):
    return isinstance(argument, torch.device) or (
        isinstance(argument, str) and argument in ("cpu", "cuda")
    )


def on_the_cpu(argument):
    """The CPU instead of the GPU; other arguments are unchanged."""
    if is_device(argument) and torch.device(argument).type == "cuda":
        return torch.device("cpu")
    return argument


@contextmanager
def pretend_gpu(monkeypatch):
    """In the block `pick_device` finds a `PretendedGpu`, whose graphs are each a `Tape`."""
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
            made.place = place_of(arguments[position])
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
        yield
