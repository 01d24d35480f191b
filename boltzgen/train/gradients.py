"""The gradient of a sum over samples, part by part: what backward passes need is held for few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from boltzgen.runtime.threads import in_parts

T = TypeVar("T")


def add_gradients(
    loss: Callable[..., tuple[Tensor, T]],
    parameters: Sequence[nn.Parameter],
    rows: Sequence[Tensor],
    size: int,
) -> list[T]:
    """Add the gradient of a sum over rows to ``grad`` of the parameters; what else the parts come to.

    ``loss`` of up to ``size`` rows of each tensor is their share of the sum, a scalar, and a result. On a
    CPU, parts are worked on beside each other (`boltzgen.runtime.threads`).
    """

    def differentiate(*part: Tensor) -> tuple[tuple[Tensor | None, ...], T]:
        share, result = loss(*part)
        return torch.autograd.grad(share, parameters, allow_unused=True), result

    results = []
    for gradients, result in in_parts(differentiate, rows, size):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                # In memory of its own: what a CUDA graph returned is overwritten by its next replay.
                before = parameter.grad
                parameter.grad = gradient.clone() if before is None else before + gradient
        results.append(result)
    return results
