"""Forward paths: noised data weighed along the same ladder, which see modes that the sampler has lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from boltzgen.diffusion import EnergyAndScore, MeanFreeGaussian
from boltzgen.geometry import mean_free_noise
from boltzgen.sampler.ladder import Ladder, Level, Particles, at_level
from boltzgen.sampler.resampling import normalised
from boltzgen.sampler.smc import run_smc, start

LOST_BELOW = 100.0
"""A path this far [nat] below the median log weight is lost: counted, and left out of means and spreads.

A single configuration with a broken bond can weigh exp(-10^5), and would hide all the others.
"""
Populations = Callable[[Tensor], dict[str, Tensor]]
"""``x -> {state: membership (n,) as 0 or 1}``."""


@dataclass(frozen=True)
class Paths:
    """Log weights at every level of a ladder, along paths in one direction.

    log_weights
        ``(n_levels + 1, n)`` float64, cumulative from sigma_max; row k is at ``sigmas[k]``.
    populations
        Weighted share of each state at every level, ``{state: (n_levels + 1,)}``.
    """

    log_weights: Tensor
    populations: dict[str, list[float]]


def forward_paths(
    model: EnergyAndScore,
    gaussian: MeanFreeGaussian,
    ladder: Ladder,
    x0: Tensor,
    populations: Populations,
    generator: torch.Generator,
) -> Paths:
    """Noise data up the ladder with the forward kernel and weigh each path as the sampler would."""
    sigmas = ladder.sigmas
    x = x0 + sigmas[-1] * mean_free_noise(tuple(x0.shape), generator, x0.dtype, x0.device)
    u, gradient = at_level(model, x, sigmas[-1])
    increments: list[Tensor] = []
    shares = [_shares(populations(x))]
    for k in range(len(sigmas) - 2, -1, -1):
        a, b = sigmas[k], sigmas[k + 1]
        forward = ladder.kernel.forward(x, -gradient, a, b)
        noisier, log_density = forward.sample(generator)
        u_noisier, gradient = at_level(model, noisier, a)
        reverse = ladder.kernel.reverse(noisier, -gradient, a, b, ladder.errors[k])
        increments.append(u_noisier - u + log_density - reverse.log_density(x))
        x, u = noisier, u_noisier
        shares.append(_shares(populations(x)))
    first = gaussian.energy(x, x.new_full((len(x),), sigmas[0])).double() - u
    log_weights = torch.stack([first, *reversed(increments)]).cumsum(0)
    return Paths(log_weights, _transpose(shares[::-1]))


def reverse_paths(
    model: EnergyAndScore,
    gaussian: MeanFreeGaussian,
    ladder: Ladder,
    n: int,
    populations: Populations,
    generator: torch.Generator,
) -> Paths:
    """Plain annealed importance sampling down the ladder, no moves and no resampling."""
    population = start(model, gaussian, ladder.sigmas[0], n, generator)
    weights, shares = [population.log_weights], []

    def observe(_: Level, particles: Particles, log_weights: Tensor, __: dict[str, float]) -> None:
        weights.append(log_weights)
        shares.append(_shares(populations(particles.x), log_weights))

    shares.append(_shares(populations(population.particles.x), population.log_weights))
    run_smc(population, ladder.noise_levels(model), resample_below=0.0, generator=generator, observe=observe)
    return Paths(torch.stack(weights), _transpose(shares))


def surviving(log_weights: Tensor) -> Tensor:
    """Log weights of the paths ``(n,)`` that are not lost (see LOST_BELOW)."""
    finite = log_weights[torch.isfinite(log_weights)]
    return finite[finite > finite.median() - LOST_BELOW] if len(finite) else finite


def jeffreys(forward: Paths, reverse: Paths) -> list[float]:
    """``J = E_forward[log w] - E_reverse[log w]`` at every level, over paths that are not lost.

    It measures how far paths from data and paths from noise disagree about the same energies.
    """
    rows = zip(forward.log_weights, reverse.log_weights, strict=True)
    return [float(surviving(f).mean() - surviving(r).mean()) for f, r in rows]


def bar_log_z(forward: Tensor, reverse: Tensor) -> float | None:
    """log Z from log weights ``(n,)`` in both directions: Bennett's equation; None without finite ones.

    Paths from noise that have come to nothing are samples of weight zero. Paths from data cannot be, and
    those with a weight that is not finite are left out.
    """
    forward = forward[torch.isfinite(forward)]
    reverse = torch.where(torch.isfinite(reverse), reverse, -torch.inf)
    alive = reverse[torch.isfinite(reverse)]
    if not len(forward) or not len(alive):
        return None
    shift = math.log(len(forward) / len(reverse))

    def imbalance(c: float) -> float:
        from_forward = torch.sigmoid(c - forward - shift).mean() * len(forward)
        from_reverse = torch.sigmoid(reverse - c + shift).mean() * len(reverse)
        return float(from_forward - from_reverse)

    values = np.concatenate([forward.numpy(), alive.numpy()])
    margin = 50.0 + math.log(len(reverse))
    return float(brentq(imbalance, values.min() - margin, values.max() + margin))


def _shares(members: dict[str, Tensor], log_weights: Tensor | None = None) -> dict[str, float]:
    if log_weights is None:
        return {name: float(member.double().mean()) for name, member in members.items()}
    weights = normalised(log_weights)
    return {name: float((weights * member.double()).sum()) for name, member in members.items()}


def _transpose(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
