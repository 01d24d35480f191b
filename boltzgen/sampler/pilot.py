"""The pilot run that places noise levels, bridge values and step sizes; production then keeps them fixed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from boltzgen.diffusion import EnergyAndScore, MeanFreeGaussian, denoise, perturb
from boltzgen.geometry import dof, squared_norm
from boltzgen.sampler.ladder import BridgeLevel, FoldLevel, Ladder, Level, NoiseLevel, Particles
from boltzgen.sampler.resampling import conditional_ess_fraction
from boltzgen.sampler.smc import run_smc, start

MALA_ACCEPTANCE = 0.6
"""Acceptance that step sizes are tuned to (0.574 is optimal in high dimension: Roberts, Rosenthal 1998)."""
MAX_BRIDGE = 200
"""A bridge that needs more steps than this ends with one last jump."""


def spaced_levels(
    sigma_max: float, sigma_min: float, density: Callable[[np.ndarray], np.ndarray], n: int
) -> list[float]:
    """``n + 1`` decreasing levels with equal integrals of ``density(sigma)`` over log sigma between them."""
    grid = np.linspace(np.log(sigma_max), np.log(sigma_min), 2001)
    values = density(np.exp(grid))
    steps = 0.5 * (values[1:] + values[:-1]) * -np.diff(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    placed = np.interp(np.linspace(0.0, cumulative[-1], n + 1), cumulative, grid)
    levels = np.exp(placed)
    levels[0], levels[-1] = sigma_max, sigma_min
    return [float(v) for v in levels]


def denoising_errors(
    model: EnergyAndScore, x0: Tensor, sigmas: list[float], generator: torch.Generator
) -> list[float]:
    """Mean squared error per degree of freedom [nm^2] of the denoiser on data ``x0`` at each level."""
    errors = []
    for sigma in sigmas:
        level = x0.new_full((len(x0),), sigma)
        y = perturb(x0, level, generator)
        _, score = model(y, level.log())
        errors.append(float((squared_norm(denoise(y, level, score) - x0) / dof(x0.shape[1])).mean()))
    return errors


def interpolated(
    x: list[float], y: list[float], at: list[float], smallest: float = 1e-12
) -> tuple[float, ...]:
    """Log-log interpolation of positive values; x need not be sorted."""
    order = np.argsort(x)
    logs = np.log(np.maximum(np.asarray(y)[order], smallest))
    return tuple(float(v) for v in np.exp(np.interp(np.log(at), np.log(np.asarray(x)[order]), logs)))


@dataclass
class Adaptation:
    """Step sizes and bridge values as the pilot goes; an observer of `run_smc`."""

    step: float
    bridge_cess: float
    noise_steps: list[float] = field(default_factory=list)
    bridge_steps: list[float] = field(default_factory=list)
    lambdas: list[float] = field(default_factory=lambda: [0.0])
    particles: Particles | None = None
    log_weights: Tensor | None = None

    def observe(
        self, level: Level, particles: Particles, log_weights: Tensor, record: dict[str, float]
    ) -> None:
        self.particles, self.log_weights = particles, log_weights
        if "acceptance" in record:
            self.step *= float(np.exp(record["acceptance"] - MALA_ACCEPTANCE))
        (self.noise_steps if "sigma" in record else self.bridge_steps).append(self.step)

    def noise_levels(self, levels: list[NoiseLevel]) -> Iterator[NoiseLevel]:
        """The given levels with the step size of the moment, which shrinks along with sigma."""
        for level in levels:
            if level.n_moves:
                self.step *= level.sigma / level.previous
                yield replace(level, step_size=self.step)
            else:
                self.step = level.sigma**2 / 4.0
                yield level

    def bridge(self, entrance: FoldLevel, n_moves: int) -> Iterator[Level]:
        """The fold, then bridge values each chosen for the wanted conditional ESS."""
        yield entrance
        while self.lambdas[-1] < 1.0:
            assert self.particles is not None and self.log_weights is not None
            gap = self.particles.energies[:, 0] - self.particles.energies[:, 1]
            value = self._next_lambda(torch.nan_to_num(gap, nan=-torch.inf, posinf=-torch.inf))
            self.lambdas.append(value)
            yield BridgeLevel(entrance, self.lambdas[-2], value, max(n_moves, 1), self.step)

    def _next_lambda(self, gap: Tensor) -> float:
        """Bisection for the largest step whose conditional ESS is at least the wanted one."""
        assert self.log_weights is not None
        now, low, high = self.lambdas[-1], self.lambdas[-1], 1.0
        alive = torch.isfinite(gap)
        gap, log_weights = gap[alive], self.log_weights[alive]
        if len(self.lambdas) >= MAX_BRIDGE or len(gap) == 0:
            return 1.0
        if conditional_ess_fraction(log_weights, (1.0 - now) * gap) >= self.bridge_cess:
            return 1.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            good = conditional_ess_fraction(log_weights, (middle - now) * gap) >= self.bridge_cess
            low, high = (middle, high) if good else (low, middle)
        return max(low, now + 1e-6)


def plan_ladder(
    model: EnergyAndScore,
    gaussian: MeanFreeGaussian,
    entrance: FoldLevel,
    x0: Tensor,
    information: Callable[[np.ndarray], np.ndarray],
    *,
    sigma_max: float,
    n_levels: int,
    n_pilot: int,
    ladder_moves: int,
    move_below: float,
    bridge_moves: int,
    bridge_cess: float,
    with_mse: bool,
    resample_below: float,
    generator: torch.Generator,
) -> Ladder:
    """Levels, bridge values and step sizes from a pilot population that is then thrown away.

    Levels start equally spaced in ``sqrt(F) d log sigma`` (F: ``information``) and are moved to where
    the pilot's increments spread most.
    """
    sigma_min = entrance.sigma

    def by_information(sigma: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(information(sigma), 1.0))

    grid = spaced_levels(sigma_max, sigma_min, lambda s: np.ones_like(s), 24)
    errors = denoising_errors(model, x0, grid, generator) if with_mse else []
    first = spaced_levels(sigma_max, sigma_min, by_information, n_levels)
    zeros = tuple(0.0 for _ in first)

    def mse(sigmas: list[float]) -> tuple[float, ...]:
        return interpolated(grid, errors, sigmas) if with_mse else zeros

    ladder = Ladder(tuple(first), mse(first), zeros, (0.0, 1.0), (0.0, 0.0))
    adaptation = Adaptation(step=move_below**2 / 4.0, bridge_cess=bridge_cess)
    population = start(model, gaussian, sigma_max, n_pilot, generator)
    levels = adaptation.noise_levels(ladder.noise_levels(model, ladder_moves, move_below))
    run = functools.partial(
        run_smc, resample_below=resample_below, generator=generator, observe=adaptation.observe
    )
    population = run(population, levels)
    spread = [record["sd_increment"] for record in population.history]
    run(population, adaptation.bridge(entrance, bridge_moves))

    final = spaced_levels(sigma_max, sigma_min, _refined(first, spread, by_information), n_levels)
    return Ladder(
        sigmas=tuple(final),
        mse=mse(final),
        noise_steps=interpolated(first[1:], adaptation.noise_steps, final),
        lambdas=tuple(adaptation.lambdas),
        bridge_steps=tuple(adaptation.bridge_steps),
    )


def _refined(
    sigmas: list[float], spread: list[float], base: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Density of levels for equal spread of the increments, smoothed and mixed with the base density."""
    log_sigmas = np.log(sigmas)
    middle, widths = 0.5 * (log_sigmas[1:] + log_sigmas[:-1]), -np.diff(log_sigmas)
    rate = np.minimum(np.asarray(spread), 5.0) / widths
    kernel = np.exp(-0.5 * ((middle[:, None] - middle[None, :]) / 0.15) ** 2)
    rate = kernel @ rate / kernel.sum(1)

    def density(sigma: np.ndarray) -> np.ndarray:
        measured = np.interp(-np.log(sigma), -middle, rate)
        prior = base(sigma)
        return measured / measured.mean() + 0.3 * prior / prior.mean()

    return density
