"""Markov chain moves that leave a level's target invariant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from boltzgen.geometry import remove_centroid, squared_norm

if TYPE_CHECKING:
    from boltzgen.sampler.ladder import Level, Particles


@dataclass(frozen=True)
class Moves:
    """How a level moves its particles: Hamiltonian Monte Carlo (Duane et al. 1987).

    n
        Moves at this level.
    step
        Leapfrog step ``epsilon`` [nm] of an atom with scale one, at unit temperature and mass.
    n_leapfrog
        Leapfrog steps of a move; with one it is MALA with ``h = epsilon^2 / 2``.
    scales
        Factor of the step of each atom, ``(n_atoms, 1)``; None is one for all.
    """

    n: int = 0
    step: float = 0.0
    n_leapfrog: int = 1
    scales: Tensor | None = None


def combined(columns: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Linear combination over dimension 1, skipping zero coefficients (so that 0 times inf is 0)."""
    terms = [c * columns[:, k] for k, c in enumerate(coefficients) if c != 0.0]
    return torch.stack(terms).sum(0)


def hmc(level: Level, particles: Particles, generator: torch.Generator) -> tuple[Particles, float]:
    """One HMC move of every particle; returns them and the acceptance rate.

    Atoms that move by different steps move the centroid too, so the proposal is made in 3N dimensions for
    the energy ``U(P q)``, P the projection to zero centroid, and projected afterwards. A non-finite energy
    is rejected.
    """
    moves = level.moves
    step = moves.step * (1.0 if moves.scales is None else moves.scales.to(particles.x))
    energies, gradients = particles.energies, particles.gradients
    start, gradient = _energy(level, energies, gradients)
    q, x = particles.x, particles.x
    noise = torch.randn(tuple(x.shape), generator=generator, dtype=x.dtype, device=generator.device)
    p = noise.to(x.device)
    kinetic = squared_norm(p).double()
    for _ in range(moves.n_leapfrog):
        p = p - 0.5 * step * gradient
        q = q + step * p
        x = remove_centroid(q)
        energies, gradients = level.evaluate(x)
        end, gradient = _energy(level, energies, gradients)
        p = p - 0.5 * step * gradient
    log_ratio = start - end + 0.5 * (kinetic - squared_norm(p).double())
    uniform = torch.rand(len(x), generator=generator, dtype=torch.float64).to(x.device)
    accepted = torch.isfinite(end) & (uniform.log() < log_ratio)
    moved = replace(
        particles,
        x=_where(accepted, x, particles.x),
        energies=_where(accepted, energies, particles.energies),
        gradients=_where(accepted, gradients, particles.gradients),
    )
    return moved, float(accepted.double().mean())


def _energy(level: Level, energies: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    return combined(energies, level.coefficients), combined(gradients, level.coefficients)


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)
