"""Which noise levels a training sample is noised to: pairs that can be told apart, but not for certain."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from boltzgen.config.choices import LevelChoice

LevelInformation = Callable[[Tensor], Tensor]
"""``F(sigma)``: the KL divergence between neighbouring levels is ``F (d log sigma)^2``."""

DIVERGENCE = (0.05, 10.0)
"""Range of the KL divergence between two levels of a sample [nats]: overlapping and yet different."""
WIDEST = 1.5
"""Largest gap in log sigma."""
N_GRID_LEVELS = 512
"""Levels of the table that ``neighbouring`` and ``uniform`` choose from, as in the DiffCLF paper."""


def draw_levels(
    choice: LevelChoice,
    k: int,
    n: int,
    log_sigma_range: tuple[float, float],
    information: LevelInformation,
    generator: torch.Generator,
) -> Tensor:
    """Log levels ``(k, n)``, those of a sample in random order; one of them is log-uniform.

    ``kl``: the others at a KL divergence from it that is log-uniform in DIVERGENCE. ``neighbouring``: the
    next ones of a table of N_GRID_LEVELS levels. ``uniform``: any of the table. In any other order a loss
    with points of one level only (`losses.nce`) would learn how often that one comes first.
    """
    low, high = log_sigma_range
    # Stratified over the range: lower variance of the loss than independent draws.
    first = low + (high - low) * (torch.randperm(n, generator=generator) + _uniform(1, n, generator)[0]) / n
    order = torch.argsort(_uniform(k, n, generator), dim=0)
    if choice == "kl":
        others = _at_divergence(first, k - 1, log_sigma_range, information, generator)
        return torch.cat([first[None], others]).gather(0, order)
    spacing = (high - low) / (N_GRID_LEVELS - 1)
    row = ((first - low) / spacing).round()
    if choice == "uniform":
        others = torch.randint(N_GRID_LEVELS, (k - 1, n), generator=generator)
        rows = torch.cat([row[None], others.to(row)])
    else:
        rows = row.clamp_max(N_GRID_LEVELS - k) + torch.arange(k)[:, None]
    return low + spacing * rows.gather(0, order)


def _at_divergence(
    first: Tensor,
    k: int,
    log_sigma_range: tuple[float, float],
    information: LevelInformation,
    generator: torch.Generator,
) -> Tensor:
    """``k`` levels for each of ``first``, above or below it, within the range."""
    low, high = log_sigma_range
    log_kl = torch.log(torch.tensor(DIVERGENCE))
    kl = torch.exp(log_kl[0] + (log_kl[1] - log_kl[0]) * _uniform(k, len(first), generator))
    gap = (kl / information(first.exp()).clamp_min(1e-6)).sqrt().clamp_max(WIDEST)
    step = torch.where(_uniform(k, len(first), generator) < 0.5, -gap, gap)
    second = first + step
    second = torch.where((second < low) | (second > high), first - step, second)
    return second.clamp(low, high)


def _uniform(k: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand((k, n), generator=generator)
