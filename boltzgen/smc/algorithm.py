"""One loop for AIS and SMC: enter a level, reweight, resample if told to, move."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from boltzgen.diffusion.process import EnergyAndScore, ZeroCentroidGaussian
from boltzgen.smc.base import Level, Particles
from boltzgen.smc.moves import MOVES
from boltzgen.smc.resampling import Scheme, ess_fraction, genealogical_variance, normalised, resampled

Observer = Callable[[Level, Particles, Tensor, dict[str, float]], None]
"""Called after every level with it, the particles, their log weights and the level's record."""


@dataclass
class Population:
    """Particles on their way, with the bookkeeping that makes the estimate of Z.

    log_weights
        ``(n,)`` float64, since the last resampling.
    log_z
        Log of the estimated ratio of normalisers so far.
    n_multinomial
        How often it was resampled multinomially, which adds to the variance.
    """

    particles: Particles
    log_weights: Tensor
    log_z: float = 0.0
    n_non_finite: int = 0
    n_multinomial: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def relative_variance(self) -> float:
        """Estimated Var(Z_hat) / Z^2 from the genealogy."""
        return genealogical_variance(self.log_weights, self.particles.ancestors, self.n_multinomial)

    def reweight(self, increments: Tensor) -> None:
        """``log_z += log sum_i W_i exp(d_i)``; increments that are not finite become weight zero."""
        dead = torch.isnan(increments) | (increments == torch.inf)
        self.n_non_finite += int((dead & torch.isfinite(self.log_weights)).sum())
        increments = torch.where(dead, -torch.inf, increments)
        weights = normalised(self.log_weights)
        self.log_z += float(torch.logsumexp(weights.log() + increments, dim=0))
        self.log_weights = self.log_weights + increments

    def resample(self, scheme: Scheme, generator: torch.Generator) -> None:
        """Resample; the weights become equal and log_z is unchanged."""
        self.particles = self.particles.take(resampled(scheme, self.log_weights, generator))
        self.n_multinomial += scheme == "multinomial"
        self.log_weights = torch.zeros_like(self.log_weights)


def start(
    model: EnergyAndScore, gaussian: ZeroCentroidGaussian, sigma: float, n: int, generator: torch.Generator
) -> Population:
    """Particles from the exact Gaussian at sigma_max, weighted by ``-U(x, sigma_max) - log N(x)``."""
    x = gaussian.sample(n, sigma, generator)
    log_sigma = torch.full((n,), sigma, dtype=x.dtype, device=x.device).log()
    u, score = model(x, log_sigma)
    particles = Particles(x, u.double().unsqueeze(1), -score.unsqueeze(1), torch.arange(n, device=x.device))
    population = Population(particles, torch.zeros(n, dtype=torch.float64, device=x.device))
    population.reweight((gaussian.energy(x, log_sigma.exp()) - u).double())
    return population


def run_smc(
    population: Population,
    levels: Iterable[Level],
    *,
    resample_below: float,
    generator: torch.Generator,
    scheme: Scheme = "systematic",
    observe: Observer | None = None,
) -> Population:
    """Carry a population through all levels; ``resample_below = 0`` is annealed importance sampling.

    Particles are resampled where ESS / n falls below the threshold. Z is unbiased if levels, step sizes
    and threshold were fixed in advance (Del Moral, Doucet and Jasra 2006).
    """
    for level in levels:
        population.particles, increments = level.enter(population.particles, generator)
        before = population.log_z
        population.reweight(increments)
        record = level.coordinate | {
            "ess": ess_fraction(population.log_weights),
            "sd_increment": _spread(increments, population.log_weights),
            "log_z_increment": population.log_z - before,
            "resampled": 0.0,
        }
        if record["ess"] < resample_below and record["ess"] > 0.0:
            population.resample(scheme, generator)
            record["resampled"] = 1.0
        move = MOVES[level.moves.kind]
        for _ in range(level.moves.n):
            population.particles, record["acceptance"] = move(level, population.particles, generator)
        population.history.append(record)
        if observe is not None:
            observe(level, population.particles, population.log_weights, record)
    return population


def _spread(increments: Tensor, log_weights: Tensor) -> float:
    """Standard deviation of the finite increments, whatever the particles weigh."""
    finite = increments[torch.isfinite(increments) & torch.isfinite(log_weights)]
    return float(finite.std()) if len(finite) > 1 else 0.0
