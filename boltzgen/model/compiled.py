"""Compile an energy and its score, differentiable once more, into fused kernels of a fixed batch size.

``torch.compile`` cannot differentiate twice through a compiled region. So the function (parameters, x,
log_sigma) -> (energy, score), gradient included, is traced once into a flat graph of tensor operations;
compiling that graph needs only its own first-order backward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from boltzgen.model.energy import derivatives
from boltzgen.runtime.graph_compiler import compiled_part, traced
from boltzgen.runtime.threads import mapper, part_size

BatchFunction = Callable[[Tensor, Tensor], Any]
COMPILATION_FAILED = "compilation failed, going on without it"
"""How the warning begins where the eager function is returned."""


class Energy(Protocol):
    """A module whose forward pass is ``(x, log_sigma) -> U``."""

    def energy(self, x: Tensor, log_sigma: Tensor) -> Tensor: ...

    def energy_and_score(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]: ...


def eager_derivatives(model: Energy, *, d_log_sigma: bool = False) -> BatchFunction:
    """``(x, log_sigma) -> (U, score)``, or dU/dlog_sigma too; differentiable in parameters."""
    return lambda x, log_sigma: derivatives(model.energy, x, log_sigma, d_log_sigma)


def compile_energy(model: Energy, x: Tensor, log_sigma: Tensor) -> BatchFunction:
    """Compiled ``(x, log_sigma) -> U`` of as many rows as the examples, or fewer; or eager with a warning."""

    def of(energy: BatchFunction, x: Tensor, log_sigma: Tensor) -> tuple[Tensor]:
        return (energy(x, log_sigma),)

    def build() -> BatchFunction:
        compiled = _compile_traced(model, x, log_sigma, of)
        return lambda x, log_sigma: compiled(x, log_sigma)[0]

    return _checked(build, model.energy, x, log_sigma)


def compile_derivatives(
    model: Energy, x: Tensor, log_sigma: Tensor, *, d_log_sigma: bool = False
) -> BatchFunction:
    """Compiled `eager_derivatives` of as many rows as the examples, or fewer; or that, with a warning."""

    def of(energy: BatchFunction, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        return derivatives(energy, x, log_sigma, d_log_sigma)

    eager = eager_derivatives(model, d_log_sigma=d_log_sigma)
    return _checked(lambda: _compile_traced(model, x, log_sigma, of), eager, x, log_sigma)


def compile_energy_and_score(model: Energy, x: Tensor, log_sigma: Tensor) -> BatchFunction:
    """Compiled ``(x, log_sigma) -> (U, score)`` where gradients stop, or eager with a warning.

    Of any number of rows: in chunks like the examples, on a CPU in smaller ones beside each other.
    """
    size = part_size(len(x), x.shape[1], x.device)
    x, log_sigma = x[:size], log_sigma[:size]

    def build() -> BatchFunction:
        with torch.no_grad():  # without a backward; on a GPU compiled at the first call
            return torch.no_grad()(_compile_traced(model, x, log_sigma, derivatives))

    return in_chunks(_checked(build, model.energy_and_score, x, log_sigma), size, mapper(x.device))


def _compile_traced(
    model: Any, x: Tensor, log_sigma: Tensor, of: Callable[..., tuple[Tensor, ...]]
) -> BatchFunction:
    """``of(energy, x, log_sigma)`` traced with the parameters as inputs, and compiled for that many rows."""
    names, current = zip(*model.named_parameters(), strict=True)

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        *parameters, columns, log_sigma = inputs
        values = dict(zip(names, parameters, strict=True))
        x = columns.permute(2, 0, 1)

        def energy(x: Tensor, log_sigma: Tensor) -> Tensor:
            return torch.func.functional_call(model, values, (x, log_sigma))

        return of(energy, x, log_sigma)

    example = [*(p.detach().clone().requires_grad_(True) for p in current), _columns(x), log_sigma.clone()]
    module = traced(function, example)
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    compiled = _replayed(module) if x.is_cuda else compiled_part(module, example)
    return _padded(lambda x, log_sigma: compiled(*current, _columns(x), log_sigma.contiguous()), len(x))


def _replayed(module: GraphModule) -> Callable[..., Any]:
    """Compiled for a GPU, as one CUDA graph: kernels this small take longer to launch than to run.

    Its next replay overwrites the outputs, so they are copied.
    """
    replay = torch.compile(module, dynamic=False, mode="reduce-overhead")
    return lambda *inputs: tree_map(torch.clone, replay(*inputs))


def _columns(x: Tensor) -> Tensor:
    """Configurations along the last, contiguous axis: the compiler lays out its loops as its inputs are."""
    return x.permute(1, 2, 0).contiguous()


def _checked(
    build: Callable[[], BatchFunction], eager: BatchFunction, x: Tensor, log_sigma: Tensor
) -> BatchFunction:
    """What ``build`` compiles if it agrees with ``eager`` on fresh inputs; ``eager`` otherwise."""
    fresh_x, fresh_sigma = x.flip(0) * 1.01, log_sigma.flip(0) + 0.01
    try:
        compiled = build()
        ours = compiled(fresh_x, fresh_sigma)
        reference = eager(fresh_x, fresh_sigma)
        if isinstance(reference, Tensor):
            ours, reference = (ours,), (reference,)
        for value, expected in zip(ours, reference, strict=True):
            # Scores of each configuration by its own size: they differ by orders of magnitude between levels.
            size = expected.detach().abs()
            scale = size.flatten(1).amax(1).view(-1, 1, 1) if size.ndim == 3 else size.max()
            if bool(((value - expected).abs() > 1e-3 * (size + scale)).any()):
                raise RuntimeError("the compiled function disagrees with the eager one")
    except Exception as error:  # any failure of the compiler leaves a working, slower program
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{COMPILATION_FAILED}: {message}", stacklevel=2)
        return eager
    return compiled


def in_chunks(
    function: BatchFunction, size: int, run: Callable[..., Iterable[tuple[Tensor, ...]]] = map
) -> BatchFunction:
    """``function``, a tuple for ``size`` rows, of any number of rows in chunks, which ``run`` maps it over.

    The last chunk is padded with copies of its last row, so a compiled function sees one shape only.
    """

    def chunked(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        chunks = run(_padded(function, size), x.detach().split(size), log_sigma.detach().split(size))
        return tuple(torch.cat([value.detach() for value in each]) for each in zip(*chunks, strict=True))

    return chunked


def _padded(function: BatchFunction, size: int) -> BatchFunction:
    """``function`` of exactly ``size`` rows, of as many or fewer: what is missing is the last row."""

    def full(rows: Tensor) -> Tensor:
        return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])

    def padded(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        if len(x) == size:
            return tuple(function(x, log_sigma))
        return tuple(value[: len(x)] for value in function(full(x), full(log_sigma)))

    return padded
