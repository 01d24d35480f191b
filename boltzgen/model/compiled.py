"""Compile an energy and its score, differentiable once more, into fused kernels of a fixed batch size.

``torch.compile`` cannot differentiate twice through a compiled region. So the function (parameters, x,
log_sigma) -> (energy, score), gradient included, is traced once into a flat graph of tensor operations;
compiling that graph needs only its own first-order backward. On a CPU a batch is evaluated, and
differentiated, in parts beside each other (`boltzgen.cores`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map

from boltzgen.cores import LARGEST_PART, ONE_CORE, workers
from boltzgen.model.energy import derivatives

BatchFunction = Callable[[Tensor, Tensor], Any]
COMPILATION_FAILED = "compilation failed, going on without it"
"""How the warning begins where the eager function is returned."""


class Energy(Protocol):
    """A module whose forward pass is ``(x, log_sigma) -> U``."""

    def energy(self, x: Tensor, log_sigma: Tensor) -> Tensor: ...

    def energy_and_score(self, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]: ...


def eager_derivatives(model: Energy, *, slope: bool = False) -> BatchFunction:
    """``(x, log_sigma) -> (U, score)``, with ``slope`` dU/dlog_sigma too; differentiable in parameters."""
    return lambda x, log_sigma: derivatives(model.energy, x, log_sigma, slope)


def compile_energy(model: Energy, x: Tensor, log_sigma: Tensor) -> BatchFunction:
    """Compiled ``(x, log_sigma) -> U`` for the shapes of the examples, or eager with a warning."""

    def of(energy: BatchFunction, x: Tensor, log_sigma: Tensor) -> tuple[Tensor]:
        return (energy(x, log_sigma),)

    def build() -> BatchFunction:
        compiled = _compile_traced(model, x, log_sigma, of)
        return lambda x, log_sigma: compiled(x, log_sigma)[0]

    return _checked(build, model.energy, x, log_sigma)


def compile_derivatives(model: Energy, x: Tensor, log_sigma: Tensor, *, slope: bool = False) -> BatchFunction:
    """Compiled `eager_derivatives` for the shapes of the examples, or that itself with a warning."""

    def of(energy: BatchFunction, x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        return derivatives(energy, x, log_sigma, slope)

    eager = eager_derivatives(model, slope=slope)
    return _checked(lambda: _compile_traced(model, x, log_sigma, of), eager, x, log_sigma)


def compile_energy_and_score(model: Energy, x: Tensor, log_sigma: Tensor) -> BatchFunction:
    """Compiled ``(x, log_sigma) -> (U, score)`` where gradients stop, or eager with a warning.

    Of any number of rows, in chunks like the examples or smaller ones.
    """

    def build() -> BatchFunction:
        compiled = torch.no_grad()(_compile_traced(model, x, log_sigma, derivatives))
        return in_chunks(compiled, len(x)) if x.is_cuda else compiled

    return _checked(build, in_chunks(model.energy_and_score, len(x)), x, log_sigma)


def _compile_traced(
    model: Any, x: Tensor, log_sigma: Tensor, of: Callable[..., tuple[Tensor, ...]]
) -> BatchFunction:
    """``of(energy, x, log_sigma)`` traced with the parameters as inputs, and compiled."""
    names, parameters = zip(*model.named_parameters(), strict=True)

    def function(parameters: list[Tensor], columns: Tensor, log_sigma: Tensor) -> Any:
        values = dict(zip(names, parameters, strict=True))
        x = columns.permute(2, 0, 1)

        def energy(x: Tensor, log_sigma: Tensor) -> Tensor:
            return torch.func.functional_call(model, values, (x, log_sigma))

        return of(energy, x, log_sigma)

    on_cpu, n = not x.is_cuda, len(x)
    size = min(LARGEST_PART, -(-n // torch.get_num_threads())) if on_cpu else n
    # make_fx tells its inputs apart by identity, so every example must be a tensor of its own.
    example = [p.detach().clone().requires_grad_(True) for p in parameters]
    traced = make_fx(function)(example, _columns(x[:size]), log_sigma[:size].clone())
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    current = list(model.parameters())
    if on_cpu:
        compiled = torch.compile(traced, dynamic=False, options=ONE_CORE)
        return in_parts(lambda x, log_sigma: compiled(current, _columns(x), log_sigma), size, current)
    # Kernels this small take longer to launch than to run: replay them as one CUDA graph, whose outputs
    # the next replay overwrites.
    compiled = torch.compile(traced, dynamic=False, mode="reduce-overhead")
    return lambda x, log_sigma: tree_map(torch.clone, compiled(current, _columns(x), log_sigma))


def in_parts(function: BatchFunction, size: int, parameters: Iterable[Tensor]) -> BatchFunction:
    """``function``, a tuple for ``size`` rows, of any number of rows in parts beside each other.

    Differentiable in the parameters, once.
    """
    parameters = tuple(parameters)

    def parted(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            return _Parts.apply(function, size, x, log_sigma, *parameters)
        return _joined(workers().map(torch.no_grad()(function), *_split(size, x, log_sigma)), len(x))

    return parted


class _Parts(torch.autograd.Function):
    """Differentiates a function of many rows by its parameters as it was evaluated: in parts."""

    @staticmethod
    def forward(
        ctx: Any, function: BatchFunction, size: int, x: Tensor, log_sigma: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.size, ctx.parameters = size, parameters
        ctx.parts = list(workers().map(torch.enable_grad()(function), *_split(size, x, log_sigma)))
        return _joined(ctx.parts, len(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        def differentiate(outputs: tuple[Tensor, ...], *gradients: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(outputs, ctx.parameters, gradients, allow_unused=True)

        parts = workers().map(differentiate, ctx.parts, *_split(ctx.size, *gradients, weight=0.0))
        sums = [None if each[0] is None else sum(each) for each in zip(*parts, strict=True)]
        return None, None, None, None, *sums


def _split(size: int, *tensors: Tensor, weight: float = 1.0) -> list[list[Tensor]]:
    """Parts of exactly ``size`` rows of each tensor: what is missing, its last row times ``weight``."""

    def full(rows: Tensor) -> Tensor:
        missing = size - len(rows)
        return torch.cat([rows, weight * rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows

    return [[full(rows) for rows in tensor.detach().split(size)] for tensor in tensors]


def _joined(parts: Iterable[tuple[Tensor, ...]], n: int) -> tuple[Tensor, ...]:
    """The first ``n`` rows of each result."""
    return tuple(torch.cat([part.detach() for part in each])[:n] for each in zip(*parts, strict=True))


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
        ours, reference = compiled(fresh_x, fresh_sigma), eager(fresh_x, fresh_sigma)
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


def in_chunks(function: BatchFunction, size: int) -> BatchFunction:
    """Evaluate ``(x, log_sigma) -> (U, score)`` on any number of rows in batches of exactly ``size``.

    The last batch is padded with copies of its last row, so a compiled function sees one shape only.
    """

    def chunked(x: Tensor, log_sigma: Tensor) -> tuple[Tensor, ...]:
        return _joined(map(function, *_split(size, x, log_sigma)), len(x))

    return chunked
