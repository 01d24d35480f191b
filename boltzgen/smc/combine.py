"""Independent populations combined: island m's particles carry weight Z_m W, and Z is the mean of Z_m."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.smc.algorithm import Population
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.smc.resampling import descended_weights


@dataclass(frozen=True)
class Combined:
    """All islands as one weighted sample.

    log_weights ``(n,)`` float64 whose log mean exp is ``log_z``; ``islands`` and ``ancestors`` ``(n,)``, the
    latter with numbers that no other island has. ``log_z_dof`` are the degrees of freedom of
    ``log_z_error``, which is None where too few ancestors support the weight to have one.
    """

    x: Tensor
    energies: Tensor
    log_weights: Tensor
    islands: Tensor
    ancestors: Tensor
    log_z: float
    log_z_error: float | None
    log_z_dof: float
    genealogical_ess: float


def combine(populations: list[Population]) -> Combined:
    """Combine islands of equal size; one whose particles are all lost has Z = 0, and counts in the mean.

    The standard error of log Z is the larger of two estimates, from the spread of Z over the islands and from
    each island's genealogy (Lee and Whiteley 2018), by the delta method. The first one is known from as few
    numbers as there are islands, and has M - 1 degrees of freedom. Neither can exceed 1, however far off log
    Z is: below `MIN_INDEPENDENT` effective ancestors there is none, but a bound (`boltzgen.smc.bounds`).
    """
    log_zs = torch.tensor([p.log_z for p in populations], dtype=torch.float64)
    m = len(populations)
    log_z = float(torch.logsumexp(log_zs, 0)) - math.log(m)
    ratios = torch.exp(log_zs - log_z)
    genealogy = sum(float(r) ** 2 * p.relative_variance for r, p in zip(ratios, populations, strict=True))
    error, dof = math.sqrt(genealogy) / m, math.inf
    spread = float(ratios.std()) / math.sqrt(m) if m > 1 else 0.0
    if spread > error:
        error, dof = spread, m - 1.0
    weights: list[Tensor] = []
    ancestors: list[Tensor] = []
    shares: list[Tensor] = []
    offset = 0
    for population, island_log_z in zip(populations, log_zs, strict=True):
        n = len(population.log_weights)
        total = torch.logsumexp(population.log_weights, 0)
        within = population.log_weights - torch.where(total.isfinite(), total, 0.0) + math.log(n)
        weights.append(within + torch.where(total.isfinite(), island_log_z, 0.0))
        ancestors.append(population.particles.ancestors + offset)
        shares.append(
            descended_weights(population.log_weights, population.particles.ancestors) * ratios[len(shares)]
        )
        offset += n
    descended = torch.cat(shares)
    ess = float(descended.sum().square() / descended.square().sum())
    return Combined(
        x=torch.cat([p.particles.x for p in populations]),
        energies=torch.cat([p.particles.energies for p in populations]),
        log_weights=torch.cat(weights),
        islands=torch.repeat_interleave(torch.arange(m), torch.tensor([len(w) for w in weights])),
        ancestors=torch.cat(ancestors),
        log_z=log_z,
        log_z_error=None if ess < MIN_INDEPENDENT else error,
        log_z_dof=dof,
        genealogical_ess=ess,
    )
