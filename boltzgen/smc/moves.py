"""Markov chain moves that leave a level's target invariant; `register` adds one."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from boltzgen.config.choices import MOVE_NAMES
from boltzgen.geometry import remove_centroid, squared_norm
from boltzgen.smc.base import Level, Moves, Particles

MALA_ACCEPTANCE = 0.6
"""Acceptance that steps are tuned to (0.574 is optimal in high dimension: Roberts, Rosenthal 1998)."""
HMC_ACCEPTANCE = 0.7
"""The same with several leapfrog steps (0.651 is optimal in high dimension: Beskos et al. 2013)."""


class Move(Protocol):
    """A Markov kernel with ``exp(-level's energy)`` as its stationary density; steps are ``level.moves``."""

    def acceptance(self, moves: Moves) -> float:
        """The acceptance rate that a pilot run tunes the step to."""

    def __call__(
        self, level: Level, particles: Particles, generator: torch.Generator
    ) -> tuple[Particles, float]:
        """One move of every particle; returns them, energies and gradients included, and the rate."""


def combined(columns: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Linear combination over dimension 1, skipping zero coefficients (so that 0 times inf is 0)."""
    terms = [c * columns[:, k] for k, c in enumerate(coefficients) if c != 0.0]
    return torch.stack(terms).sum(0)


class Hmc:
    """Hamiltonian Monte Carlo (Duane et al. 1987); with one leapfrog step MALA with ``h = epsilon^2 / 2``."""

    def acceptance(self, moves: Moves) -> float:
        return MALA_ACCEPTANCE if moves.n_leapfrog == 1 else HMC_ACCEPTANCE

    def __call__(
        self, level: Level, particles: Particles, generator: torch.Generator
    ) -> tuple[Particles, float]:
        """One move of every particle; returns them and the acceptance rate.

        Atoms that move by different steps move the centroid too, so the proposal is made in 3N dimensions
        for the energy ``U(P q)``, P the projection to zero centroid, and projected afterwards. A non-finite
        energy is rejected.
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


MOVES: dict[str, Move] = {}


def register(name: str, move: Move) -> None:
    """Let ``sample.move`` name another move, or replace one."""
    MOVES[name] = move
    if name not in MOVE_NAMES:
        MOVE_NAMES.append(name)


register("hmc", Hmc())
