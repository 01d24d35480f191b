"""Weight algebra in log space and the resampling of particles."""

from __future__ import annotations

import torch
from torch import Tensor

from boltzgen.config.choices import Scheme


def normalised(log_weights: Tensor) -> Tensor:
    """Weights summing to one, ``(n,)``; all zero if every log weight is minus infinity."""
    return torch.nan_to_num(torch.softmax(log_weights, dim=0), nan=0.0)


def ess_fraction(log_weights: Tensor) -> float:
    """Kish's effective sample size divided by n, 0 to 1."""
    total = normalised(log_weights).square().sum()
    return float(1.0 / (len(log_weights) * total)) if total > 0 else 0.0


def conditional_ess_fraction(log_weights: Tensor, increments: Tensor) -> float:
    """Conditional ESS of a reweighting (Zhou, Johansen and Aston 2016), 0 to 1."""
    weights = normalised(log_weights)
    shifted = torch.exp(increments - increments[weights > 0].max())
    shifted = torch.where(weights > 0, shifted, torch.zeros_like(shifted))
    second = (weights * shifted.square()).sum()
    return float((weights * shifted).sum().square() / second) if second > 0 else 0.0


def resampled(scheme: Scheme, log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices ``(n,)`` of the particles that survive resampling by a scheme."""
    if scheme == "systematic":
        return systematic(log_weights, generator)
    weights = normalised(log_weights.cpu())
    rows = torch.multinomial(weights, len(weights), replacement=True, generator=generator)
    return rows.to(log_weights.device)


def systematic(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices ``(n,)`` of the particles that survive systematic resampling."""
    n = len(log_weights)
    cumulative = normalised(log_weights.cpu()).cumsum(0)
    offset = torch.rand((), generator=generator, dtype=cumulative.dtype)
    points = (torch.arange(n, dtype=cumulative.dtype) + offset) / n * cumulative[-1]
    return torch.searchsorted(cumulative, points).clamp_max(n - 1).to(log_weights.device)


def genealogical_variance(log_weights: Tensor, ancestors: Tensor, n_multinomial: int = 0) -> float:
    """Relative variance of the estimate of Z from one run, by its surviving ancestors.

    ``1 - (n / (n - 1))^(r + 1) (1 - S)``, S the sum of squares over initial particles of the normalised
    weight that descends from each (Lee and Whiteley 2018), for ``r = n_multinomial`` times of multinomial
    resampling. Systematic resampling adds next to no variance and needs no correction.
    """
    n = len(log_weights)
    shares = float(descended_weights(log_weights, ancestors).square().sum())
    return max(1.0 - (n / (n - 1)) ** (n_multinomial + 1) * (1.0 - shares), 0.0)


def descended_weights(log_weights: Tensor, ancestors: Tensor) -> Tensor:
    """Normalised weight that descends from each initial particle, ``(n,)``."""
    weights = normalised(log_weights)
    return torch.zeros_like(weights).index_add_(0, ancestors, weights)
