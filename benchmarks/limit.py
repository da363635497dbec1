"""The distance of training steps from the machine's limit.

Floating-point operations of one unfused member are multiplied by the number of members, because
PyTorch's counter overcounts grouped weight gradients, and divided by the machine's measured matrix
product rate for the same dtype and threads. Bytes are those of every operator's inputs and outputs,
as if nothing were cached, divided by the measured copy bandwidth. A convolution can be faster than
a matrix product: PyTorch uses different libraries for them on a CPU, and only the one for
convolutions uses 512-bit vectors on every make of processor.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fusion import workloads
from benchmarks.machine import copy_rate, matmul_rate, synchronised
from benchmarks.measure import Line, Options, Sample, time_in_turns
from benchmarks.steps import Workload, single_member, study_step
from trainables.allocator import keep_freed_memory


class BytesMoved(TorchDispatchMode):
    """Adds up the bytes that operators read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            touched = tree_leaves((args, kwargs, result))
            self.total += sum(t.nbytes for t in touched if isinstance(t, Tensor))
        return result


def flops_of(workload: Workload) -> int:
    """Floating-point operations of a forward and backward pass of one member."""
    model, batch = single_member(workload)
    with FlopCounterMode(display=False) as counter:
        workload.loss(model, *batch).backward()
    return counter.get_total_flops()


def bytes_of(workload: Workload) -> int:
    """Bytes moved by a forward and backward pass of one member."""
    model, batch = single_member(workload)
    with BytesMoved() as counter:
        workload.loss(model, *batch).backward()
    return counter.total


def measure(options: Options) -> list[Line]:
    """One line per network and size: the share of the matrix product rate that its step reaches."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Processor time on a CPU: other processes disturb it less.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = []
    try:
        operations = matmul_rate(device, torch.float32, 64 if options.tiny else 1024)
        bandwidth = copy_rate(device, 2**20 if options.tiny else 2**28)
        for workload in workloads(options.tiny):
            options.say(f"limit: {workload.name}")
            step = synchronised(study_step(workload, device), device)
            repeats = 3 if options.tiny else 40
            seconds = time_in_turns({"step": step}, repeats, warm_up=3, clock=clock)["step"]
            flops = workload.replicates * flops_of(workload)
            moved = workload.replicates * bytes_of(workload)
            lines.append(
                Line(
                    f"{workload.name}, R = {workload.replicates}: of the matrix product rate",
                    Sample(tuple(100 * flops / s / operations for s in seconds.values)),
                    "%",
                    note=f"{flops / 1e6:.0f} MFLOP a step at {operations / 1e9:.0f} GFLOP/s would "
                    f"take {1000 * flops / operations:.2f} ms, its {moved / 2**20:.0f} MiB at "
                    f"{bandwidth / 2**30:.1f} GiB/s {1000 * moved / bandwidth:.2f} ms; "
                    f"it takes {1000 * seconds.median:.2f}",
                    details={
                        "flops": flops,
                        "bytes": moved,
                        "matmul_rate": operations,
                        "copy_rate": bandwidth,
                        "seconds": seconds.median,
                    },
                )
            )
    finally:
        torch.set_num_threads(threads)
    return lines
