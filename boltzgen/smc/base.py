"""What all of the sampler speaks of: particles, the levels that they pass, and how a level moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """How a level moves its particles, by a move of `boltzgen.smc.moves`.

    n
        Moves at this level.
    step
        Step ``epsilon`` [nm] of an atom with scale one, at unit temperature and mass.
    n_leapfrog
        Leapfrog steps of a move.
    scales
        Factor of the step of each atom, ``(n_atoms, 1)``; None is one for all.
    kind
        Name of the move.
    """

    n: int = 0
    step: float = 0.0
    n_leapfrog: int = 1
    scales: Tensor | None = None
    kind: str = "hmc"


@dataclass(frozen=True)
class Particles:
    """Configurations and what is known about them.

    x
        Configurations of zero centroid [nm] ``(n, n_atoms, 3)``.
    energies, gradients
        One column per term of the current target: ``(n, c)`` float64 and ``(n, c, n_atoms, 3)``.
    ancestors
        Index of the initial particle each descends from, ``(n,)``.
    """

    x: Tensor
    energies: Tensor
    gradients: Tensor
    ancestors: Tensor

    def take(self, rows: Tensor) -> Particles:
        return Particles(self.x[rows], self.energies[rows], self.gradients[rows], self.ancestors[rows])


class Level(Protocol):
    """One target of the sequence: how particles get to it, and its energy for MCMC moves."""

    @property
    def coordinate(self) -> dict[str, float]:
        """What names it in the history: ``sigma`` or ``lambda``."""

    @property
    def moves(self) -> Moves: ...

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The target's energy is this combination of the columns of `Particles.energies`."""

    def enter(self, particles: Particles, generator: torch.Generator) -> tuple[Particles, Tensor]:
        """Carry particles to this level; returns them with their log-weight increments ``(n,)``."""

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n, c)`` and gradients ``(n, c, n_atoms, 3)`` of the columns."""
