"""Compiled functions of an energy that is known: their gradients, and what they may be called with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from boltzgen.model.compiled import COMPILATION_FAILED, compile_derivatives

N = 6


class Spring(nn.Module):
    """``U = stiffness |x|^2 / 2 sigma^2``."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        return 0.5 * self.stiffness * x.square().sum((1, 2)) / (2.0 * log_sigma).exp()

    energy = forward


@pytest.mark.filterwarnings(f"error:{COMPILATION_FAILED}")
def test_a_compiled_score_is_differentiable_however_its_inputs_lie_in_memory() -> None:
    """Score matching needs d score / d stiffness = -x / sigma^2, and no copies made by the caller."""
    g = torch.Generator().manual_seed(0)
    x, log_sigma = torch.randn((N, 2, 3), generator=g), torch.randn(N, generator=g)
    spring = Spring()
    function = compile_derivatives(spring, x, log_sigma)
    inputs = [
        (x + 1.0, log_sigma + 0.5),
        (x, log_sigma[:1].expand(N)),
        (torch.randn((N, 2, 6), generator=g)[..., ::2], torch.randn(2 * N, generator=g)[::2]),
    ]
    for x, log_sigma in inputs:
        slope = x / (2.0 * log_sigma).exp().view(-1, 1, 1)
        u, score = function(x, log_sigma)
        torch.testing.assert_close(u, 1.5 * (x * slope).sum((1, 2)))
        torch.testing.assert_close(score, -3.0 * slope)
        (gradient,) = torch.autograd.grad(score.sum(), spring.stiffness)
        assert gradient.item() == pytest.approx(-float(slope.sum()), rel=1e-4)
