"""Functions of tensors as flat graphs of their operations, fused for one core of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def traced(function: Callable[..., Any], example: Sequence[Tensor]) -> GraphModule:
    """The tensor operations of ``function(*example)``, gradients that it takes included.

    Inputs are told apart by identity: every example must be a tensor of its own.
    """
    with tracing(TracingContext(FakeTensorMode())):  # else each operation makes a mode of its own
        return make_fx(function)(*example)


def compiled_part(graph: GraphModule, example: Sequence[Tensor]) -> Callable[..., Any]:
    """A graph fused into code that runs on one core without the interpreter's lock (see `threads`).

    It takes tensors with the shapes and strides of the examples, is differentiable in those that need
    gradients unless compiled under ``no_grad``, and is read from disk in seconds where it was compiled
    before. ``torch.compile`` would analyse the graph anew each time, and guard every call under the lock.
    """
    # With cpp_wrapper the compiler prefers what the trace noted of its inputs: not that they need gradients.
    for node in graph.graph.find_nodes(op="placeholder"):
        node.meta.clear()
    return torch._inductor.standalone_compile(
        graph,
        list(example),
        dynamic_shapes="from_example_inputs",
        options={"config_patches": {"cpp_wrapper": True, "cpp.threads": 1}},
    )
