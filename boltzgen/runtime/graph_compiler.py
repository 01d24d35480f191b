"""Functions of tensors as flat graphs of their operations, fused for one core of a CPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
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
    _pack_constants(graph)
    options = {
        "cpp_wrapper": True,
        "cpp.threads": 1,
        "size_asserts": False,
        "memory_planning": not torch.is_grad_enabled(),  # a handful of allocations in place of dozens
    }
    return torch._inductor.standalone_compile(
        graph,
        list(example),
        dynamic_shapes="from_example_inputs",
        options={"config_patches": options},
    )


def _pack_constants(graph: GraphModule) -> None:
    """One tensor for all constants of a kind: a compiled part spends a microsecond on each in every call."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Node]] = defaultdict(list)
    for node in graph.graph.find_nodes(op="get_attr"):
        value = getattr(graph, str(node.target))
        if isinstance(value, Tensor) and not value.requires_grad:
            kinds[value.dtype, value.device].append(node)
    for number, nodes in enumerate(kinds.values()):
        name, values = f"_packed_{number}", [getattr(graph, str(node.target)) for node in nodes]
        graph.register_buffer(name, torch.cat([value.flatten() for value in values]))
        with graph.graph.inserting_before(next(iter(graph.graph.nodes))):
            packed = graph.graph.get_attr(name)
        first = 0
        for node, value in zip(nodes, values, strict=True):
            layout = list(value.shape), list(value.contiguous().stride()), first
            with graph.graph.inserting_before(node):
                view = graph.graph.call_function(torch.ops.aten.as_strided.default, (packed, *layout))
            node.replace_all_uses_with(view)
            graph.graph.erase_node(node)
            first += value.numel()
    for name in {str(node.target) for nodes in kinds.values() for node in nodes}:
        delattr(graph, name)
    graph.recompile()
