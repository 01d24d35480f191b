"""Markov chain moves that leave a level's target invariant."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from boltzgen.geometry import mean_free_noise, squared_norm
from boltzgen.sampler.ladder import Level, Particles


def combined(columns: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Linear combination over dimension 1, skipping zero coefficients (so that 0 times inf is 0)."""
    terms = [c * columns[:, k] for k, c in enumerate(coefficients) if c != 0.0]
    return torch.stack(terms).sum(0)


def mala(level: Level, particles: Particles, generator: torch.Generator) -> tuple[Particles, float]:
    """One Metropolis-adjusted Langevin move of every particle; returns them and the acceptance rate.

    ``x' = x - h dU/dx + sqrt(2 h) z`` on the mean-free space, accepted with the Metropolis-Hastings
    ratio (Roberts and Tweedie 1996). A non-finite energy is rejected.
    """
    h = level.step_size
    energy, gradient = _energy(level, particles.energies, particles.gradients)
    x = particles.x
    noise = mean_free_noise(tuple(x.shape), generator, x.dtype, x.device)
    proposal = x - h * gradient + (2.0 * h) ** 0.5 * noise
    energies, gradients = level.evaluate(proposal)
    new_energy, new_gradient = _energy(level, energies, gradients)
    forward = squared_norm(proposal - x + h * gradient).double()
    backward = squared_norm(x - proposal + h * new_gradient).double()
    log_ratio = energy - new_energy + (forward - backward) / (4.0 * h)
    uniform = torch.rand(len(x), generator=generator, dtype=torch.float64).to(x.device)
    accepted = torch.isfinite(new_energy) & (uniform.log() < log_ratio)
    moved = replace(
        particles,
        x=_where(accepted, proposal, x),
        energies=_where(accepted, energies, particles.energies),
        gradients=_where(accepted, gradients, particles.gradients),
    )
    return moved, float(accepted.double().mean())


def _energy(level: Level, energies: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    return combined(energies, level.coefficients), combined(gradients, level.coefficients)


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)
