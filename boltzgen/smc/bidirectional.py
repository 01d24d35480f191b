"""Forward paths: noised data weighed along the same schedule, which see modes that the sampler has lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, ZeroCentroidGaussian
from boltzgen.geometry import zero_centroid_noise
from boltzgen.smc.algorithm import run_smc, start
from boltzgen.smc.base import Level, Particles
from boltzgen.smc.levels import Schedule, at_level
from boltzgen.smc.resampling import normalised

StateMembers = Callable[[Tensor], dict[str, Tensor]]
"""``x -> {state: membership (n,) as 0 or 1}``."""


@dataclass(frozen=True)
class Paths:
    """Log weights at every level of a schedule, along paths in one direction.

    log_weights
        ``(n_levels + 1, n)`` float64, cumulative from sigma_max; row k is at ``sigmas[k]``.
    populations
        Weighted share of each state at every level, ``{state: (n_levels + 1,)}``.
    """

    log_weights: Tensor
    populations: dict[str, list[float]]


def forward_paths(
    model: EnergyAndScore,
    gaussian: ZeroCentroidGaussian,
    schedule: Schedule,
    x0: Tensor,
    populations: StateMembers,
    generator: torch.Generator,
) -> Paths:
    """Noise data up the schedule with the forward kernel and weigh each path as the sampler would."""
    sigmas = schedule.sigmas
    x = x0 + sigmas[-1] * zero_centroid_noise(tuple(x0.shape), generator, x0.dtype, x0.device)
    u, gradient = at_level(model, x, sigmas[-1])
    increments: list[Tensor] = []
    shares = [_shares(populations(x))]
    for k in range(len(sigmas) - 2, -1, -1):
        a, b = sigmas[k], sigmas[k + 1]
        forward = schedule.kernel.forward(x, -gradient, a, b)
        noisier, log_density = forward.sample(generator)
        u_noisier, gradient = at_level(model, noisier, a)
        reverse = schedule.kernel.reverse(noisier, -gradient, a, b, schedule.errors[k])
        increments.append(u_noisier - u + log_density - reverse.log_density(x))
        x, u = noisier, u_noisier
        shares.append(_shares(populations(x)))
    first = gaussian.energy(x, x.new_full((len(x),), sigmas[0])).double() - u
    log_weights = torch.stack([first, *reversed(increments)]).cumsum(0)
    return Paths(log_weights, _transpose(shares[::-1]))


def reverse_paths(
    model: EnergyAndScore,
    gaussian: ZeroCentroidGaussian,
    schedule: Schedule,
    n: int,
    populations: StateMembers,
    generator: torch.Generator,
) -> Paths:
    """Plain annealed importance sampling down the schedule, no moves and no resampling."""
    population = start(model, gaussian, schedule.sigmas[0], n, generator)
    weights, shares = [population.log_weights], []

    def observe(_: Level, particles: Particles, log_weights: Tensor, __: dict[str, float]) -> None:
        weights.append(log_weights)
        shares.append(_shares(populations(particles.x), log_weights))

    shares.append(_shares(populations(population.particles.x), population.log_weights))
    run_smc(
        population, schedule.noise_levels(model), resample_below=0.0, generator=generator, observe=observe
    )
    return Paths(torch.stack(weights), _transpose(shares))


def _shares(members: dict[str, Tensor], log_weights: Tensor | None = None) -> dict[str, float]:
    if log_weights is None:
        return {name: float(member.double().mean()) for name, member in members.items()}
    weights = normalised(log_weights)
    return {name: float((weights * member.double()).sum()) for name, member in members.items()}


def _transpose(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
