"""Expressions whose derivatives are computed with their values, for a compiler that merges operations.

Left to the derivative of the whole, a compiler would compute most of an expression again where its
derivatives are needed: it stores little of what it merges.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from boltzgen.potential.coordinates import kept
from boltzgen.potential.expressions import Expression


class Sloped(Expression):
    """An expression that is to be differentiated once."""

    def __call__(self, **variables: Tensor) -> Tensor:
        """Values ``(R, B)``, or a constant's own shape where no variable appears."""
        leaves = {name: value.detach().requires_grad_() for name, value in variables.items()}
        for name, reciprocal in variables.items():
            if name.startswith("1/"):
                leaves[name] = _Reciprocal.apply(leaves[name[2:]], reciprocal.detach())
        value = super().__call__(**leaves)
        if not value.requires_grad:
            return value
        free = {name: leaf for name, leaf in leaves.items() if leaf.is_leaf}
        slopes = torch.autograd.grad(value.sum(), list(free.values()), allow_unused=True)
        given: list[Tensor] = []
        for name, slope in zip(free, slopes, strict=True):
            if slope is not None:
                given += [variables[name], kept(slope)]
        return _Known.apply(kept(value.detach()), *given)


class _Reciprocal(torch.autograd.Function):
    """``1/r`` where it is known already."""

    @staticmethod
    def forward(r: Tensor, reciprocal: Tensor) -> Tensor:
        return reciprocal.view_as(reciprocal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (reciprocal,) = ctx.saved_tensors
        return -gradient * reciprocal * reciprocal, None


class _Known(torch.autograd.Function):
    """A value of variables that are given with its derivatives: variable, slope, variable, slope."""

    @staticmethod
    def forward(value: Tensor, *given: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[2::2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [(gradient * slope, None) for slope in ctx.saved_tensors]
        return None, *(each for pair in gradients for each in pair)
