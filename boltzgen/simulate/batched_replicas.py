"""Dynamics of many replicas (walkers) at once on batched target energies, with replica exchange.

OpenMM moves one configuration at a time; where its forces take long (generalised Born, custom forces), a
hundred configurations in one pass of torch take little more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from boltzgen.potential import Potential, make_potential
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.runtime.random_streams import numbered_generator
from boltzgen.simulate.bias import Bias
from boltzgen.simulate.exchange_levels import ExchangeLevels
from boltzgen.simulate.hybrid_monte_carlo import HybridMonteCarlo, Part, number_of_parts
from boltzgen.simulate.sampling_masses import sampling_masses
from boltzgen.system.molecular_system import MolecularSystem

BATCHED = "batched"
"""Name of this way of simulating among OpenMM's platforms."""
_COLUMNS = ("x", "v", "acceleration", "kT", "strength", "energy", "bias")
_COUNTS = (
    *("level", "ends_seen", "round_trips", "n_accepted", "n_proposed", "n_exchanges"),
    *("n_moves", "n_moves_accepted"),
)


@dataclass
class BatchedReplicas:
    """``n`` replicas, each at one of R levels of temperature and bias, and how they move.

    The first ``n // R`` times R of them are sets that exchange: a replica keeps its row, and changes its
    level. The others only move. The last part may hold more replicas than asked for, so that all parts are of
    one size.

    level
        The number of its level for each replica of each set, ``(n_sets, R)``.
    ends_seen, round_trips
        Which end of the levels each replica was at last (-1 first, 1 last, 0 none), and how often replicas
        have come back to the first from the last.
    n_accepted, n_proposed
        Exchanges.
    n_moves_accepted, n_moves
        Stretches of dynamics of all replicas.
    """

    dynamics: HybridMonteCarlo
    parts: list[Part]
    n: int
    generator: torch.Generator
    levels: ExchangeLevels
    level: Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.long))
    ends_seen: Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.long))
    round_trips: int = 0
    n_accepted: int = 0
    n_proposed: int = 0
    n_exchanges: int = 0
    n_moves: int = 0
    n_moves_accepted: int = 0

    @classmethod
    def at_reference(
        cls,
        system: MolecularSystem,
        levels: ExchangeLevels,
        n: int,
        seed: int,
        *,
        compiled: bool,
        bias: Bias | None = None,
    ) -> BatchedReplicas:
        """``n`` replicas in sets, all at the reference configuration."""
        evaluator = batched_potential(system, n, compiled=False).evaluator
        assert isinstance(evaluator, BatchedEvaluator)
        masses = sampling_masses(system)
        dynamics = HybridMonteCarlo(evaluator, masses, compiled, bias)
        n_parts = number_of_parts(n) if compiled else 1
        each = -(-n // n_parts)
        kT = levels.kT[:1].expand(each).contiguous()
        x = torch.as_tensor(system.positions)[:, :, None].expand(-1, -1, each).contiguous()
        generators = [numbered_generator(seed, 1 + part) for part in range(n_parts)]
        parts = [dynamics.started(x, kT, generator) for generator in generators]
        replicas = cls(dynamics, parts, n, numbered_generator(seed, 0), levels)
        replicas.set_levels(levels)
        return replicas

    def set_levels(self, levels: ExchangeLevels) -> None:
        """Put replicas in sets at these levels, in order; counts begin anew."""
        self.levels = levels
        self.level = torch.arange(len(levels)).repeat(self.n // len(levels), 1)
        self.count_anew()
        self._take_levels()

    def set_bias(self, parameters: Tensor) -> None:
        """Of the bias from now on [kJ/mol]."""
        self.dynamics.parameters = parameters.float()
        for part in self.parts:
            self.dynamics.find_forces(part)

    def count_anew(self) -> None:
        """Forget exchanges, round trips and moves so far."""
        self.ends_seen = torch.zeros_like(self.level)
        self.round_trips = self.n_accepted = self.n_proposed = self.n_exchanges = 0
        self.n_moves = self.n_moves_accepted = 0

    @property
    def n_sets(self) -> int:
        return len(self.level)

    @property
    def x(self) -> Tensor:
        """Positions [nm] ``(n, n_atoms, 3)``, float64."""
        return self._joined("x").permute(2, 0, 1)[: self.n].contiguous()

    @property
    def energy(self) -> Tensor:
        """Energies of the molecule [kJ/mol] ``(n,)``."""
        return self._joined("energy")[: self.n]

    @property
    def bias(self) -> Tensor:
        """Energies of the bias at full strength [kJ/mol] ``(n,)``."""
        return self._joined("bias")[: self.n]

    def by_level(self, values: Tensor) -> Tensor:
        """Values of every replica ``(n,)`` as those of each set in the order of levels, ``(n_sets, R)``."""
        return values[: self.level.numel()].view_as(self.level).gather(1, self.level.argsort(1))

    def move(self, n: int, dt: float, friction: float) -> None:
        """A stretch of ``n`` steps of ``dt`` [ps] with ``friction`` [1/ps], which each replica may reject."""
        accepted = self.dynamics.propose(self.parts, n, dt, friction)
        self.n_moves += len(accepted)
        self.n_moves_accepted += int(accepted.sum())

    @property
    def share_moved(self) -> float:
        """Of stretches that were accepted."""
        return self.n_moves_accepted / max(self.n_moves, 1)

    def exchange(self) -> None:
        """Every other pair of neighbours exchanges by the Metropolis rule; the others next time."""
        holder = self.level.argsort(1)  # the replica at each level
        u = self.levels.reduced(self.by_level(self.energy), self.by_level(self.bias))  # (level, set, holder)
        low = torch.arange(self.n_exchanges % 2, len(self.levels) - 1, 2)
        high = low + 1
        self.n_exchanges += 1
        log_ratio = (u[low, :, low] + u[high, :, high] - u[low, :, high] - u[high, :, low]).T
        uniform = torch.rand(log_ratio.shape, dtype=log_ratio.dtype, generator=self.generator)
        which, pair = (uniform.log() < log_ratio).nonzero(as_tuple=True)
        self.n_accepted, self.n_proposed = self.n_accepted + len(pair), self.n_proposed + log_ratio.numel()
        self.level[which, holder[which, low[pair]]] = high[pair]
        self.level[which, holder[which, high[pair]]] = low[pair]
        self._take_levels()
        self._count_round_trips()

    def _take_levels(self) -> None:
        """Temperatures, velocities scaled alike, and strengths of the bias of the levels."""
        level = torch.zeros(sum(len(part.kT) for part in self.parts), dtype=torch.long)
        level[: self.level.numel()] = self.level.flatten()  # those in no set are at the first
        for part, rows in zip(self.parts, level.chunk(len(self.parts)), strict=True):
            kT, strength = self.levels.kT[rows], self.levels.strengths[rows]
            part.v.mul_((kT / part.kT).sqrt())
            part.kT = kT
            if not torch.equal(strength, part.strength):
                part.strength = strength
                self.dynamics.find_forces(part)

    def _count_round_trips(self) -> None:
        first, last = self.level == 0, self.level == len(self.levels) - 1
        self.round_trips += int((first & (self.ends_seen == 1)).sum())
        self.ends_seen = torch.where(last, 1, torch.where(first, -1, self.ends_seen))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and numbers."""
        generators = (self.generator, *(part.generator for part in self.parts))
        return {
            "columns": {name: self._joined(name) for name in _COLUMNS},
            "random": [generator.get_state() for generator in generators],
            "counts": {name: getattr(self, name) for name in _COUNTS},
            "levels": {"temperatures_k": self.levels.temperatures_k, "strengths": self.levels.strengths},
            "bias": self.dynamics.parameters,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for name, values in state["columns"].items():
            self._spread(name, values)
        generators = (self.generator, *(part.generator for part in self.parts))
        for generator, random in zip(generators, state["random"], strict=True):
            generator.set_state(random)
        for name, value in state["counts"].items():
            setattr(self, name, value)
        self.levels = ExchangeLevels(**state["levels"])
        self.dynamics.parameters = state["bias"]

    def _joined(self, name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in self.parts], -1)

    def _spread(self, name: str, whole: Tensor) -> None:
        for part, columns in zip(self.parts, whole.chunk(len(self.parts), -1), strict=True):
            setattr(part, name, columns.contiguous())


def batched_potential(system: MolecularSystem, n: int, compiled: bool) -> Potential:
    """Energies of ``n`` configurations at a time; raises UserError where the system cannot be batched."""
    return make_potential(system, backend="batched", dtype=torch.float32, compiled=compiled, chunk=n)
