"""Dynamics of many replicas (walkers) at once on batched target energies: Langevin, replica exchange.

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
from boltzgen.simulate.langevin import Langevin, Part, number_of_parts
from boltzgen.simulate.sampling_masses import sampling_masses
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.units import thermal_energy

BATCHED = "batched"
"""Name of this way of simulating among OpenMM's platforms."""
_COLUMNS = ("x", "v", "acceleration", "thermal", "energy", "bias")


@dataclass
class BatchedReplicas:
    """``n`` replicas, each at one of ``R`` temperatures, and how they move.

    The first ``n // R`` times R of them are sets that exchange: a replica keeps its row, and changes its
    temperature. The others only move. The last part may hold more replicas than asked for, so that all
    parts are of one size.

    temperatures
        Of a set [K], ``(R,)``.
    level
        The number of its temperature for each replica of each set, ``(n_sets, R)``.
    ends_seen, round_trips
        Which end of the temperatures each replica was at last (-1 lowest, 1 highest, 0 none), and how often
        replicas have come back to the lowest from the highest.
    """

    dynamics: Langevin
    parts: list[Part]
    n: int
    generator: torch.Generator
    temperatures: Tensor = field(default_factory=lambda: torch.zeros(1))
    level: Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.long))
    ends_seen: Tensor = field(default_factory=lambda: torch.zeros(1, 1, dtype=torch.long))
    round_trips: int = 0
    n_accepted: int = 0
    n_proposed: int = 0
    n_exchanges: int = 0

    @classmethod
    def at_reference(
        cls,
        system: MolecularSystem,
        temperatures: Tensor,
        n: int,
        seed: int,
        *,
        compiled: bool,
        bias: Bias | None = None,
    ) -> BatchedReplicas:
        """``n`` replicas in sets at ``temperatures`` [K] ``(R,)``, all at the reference configuration."""
        evaluator = batched_potential(system, n, compiled=False).evaluator
        assert isinstance(evaluator, BatchedEvaluator)
        masses = sampling_masses(system)
        dynamics = Langevin(evaluator, masses, compiled, bias)
        n_parts = number_of_parts(n) if compiled else 1
        each = -(-n // n_parts)
        kT = thermal_energy(1.0) * temperatures.repeat(-(-each * n_parts // len(temperatures)))
        thermal = (kT[: each * n_parts] / masses[:, None, None]).sqrt()
        x = torch.as_tensor(system.positions)[:, :, None].expand(-1, -1, each)
        parts = [
            dynamics.started(x.contiguous(), thermal[..., k * each : (k + 1) * each].contiguous(), generator)
            for k, generator in enumerate(numbered_generator(seed, 1 + part) for part in range(n_parts))
        ]
        replicas = cls(dynamics, parts, n, numbered_generator(seed, 0))
        replicas._in_sets(temperatures)
        return replicas

    def set_temperatures(self, temperatures: Tensor) -> None:
        """Put replicas in sets at ``temperatures`` [K] ``(R,)``, velocities scaled; counts begin anew."""
        before = self._joined("thermal")
        self._in_sets(temperatures)
        kT = thermal_energy(1.0) * temperatures[self.level].flatten()
        rest = kT.new_full((before.shape[-1] - len(kT),), thermal_energy(1.0) * float(temperatures[0]))
        thermal = (torch.cat([kT, rest]) / self.dynamics.masses[:, None, None]).sqrt()
        self._spread("v", self._joined("v") * thermal / before)
        self._spread("thermal", thermal)

    def set_bias(self, parameters: Tensor) -> None:
        """Of the bias from now on [kJ/mol]."""
        self.dynamics.parameters = parameters.float()
        for part in self.parts:
            self.dynamics.find_forces(part)

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
        """Energies of the bias [kJ/mol] ``(n,)``."""
        return self._joined("bias")[: self.n]

    def step(self, n: int, dt: float, friction: float) -> None:
        """``n`` steps of ``dt`` [ps] with ``friction`` [1/ps]."""
        self.dynamics.move(self.parts, n, dt, friction)

    def exchange(self) -> None:
        """Every other pair of neighbours exchanges by the Metropolis rule; the others next time."""
        n_temperatures, kT = len(self.temperatures), thermal_energy(1.0) * self.temperatures
        holder = self.level.argsort(1)  # the replica at each temperature
        energy = (self.energy + self.bias)[: self.level.numel()].view_as(self.level).gather(1, holder)
        low = torch.arange(self.n_exchanges % 2, n_temperatures - 1, 2)
        self.n_exchanges += 1
        log_ratio = (1.0 / kT[low] - 1.0 / kT[low + 1]) * (energy[:, low] - energy[:, low + 1])
        uniform = torch.rand(log_ratio.shape, dtype=log_ratio.dtype, generator=self.generator)
        which, pair = (uniform.log() < log_ratio).nonzero(as_tuple=True)
        self.n_accepted, self.n_proposed = self.n_accepted + len(pair), self.n_proposed + log_ratio.numel()
        before = self.level.clone()
        self.level[which, holder[which, low[pair]]] = low[pair] + 1
        self.level[which, holder[which, low[pair] + 1]] = low[pair]
        self._scale((self.temperatures[self.level] / self.temperatures[before]).sqrt().flatten())
        self._count_round_trips()

    def _scale(self, factor: Tensor) -> None:
        """Thermal and present velocities of exchanging replicas times a factor."""
        whole = torch.ones(self.parts[0].x.shape[-1] * len(self.parts), dtype=torch.float64)
        whole[: len(factor)] = factor
        for part, columns in zip(self.parts, whole.chunk(len(self.parts)), strict=True):
            part.v, part.thermal = part.v * columns, part.thermal * columns

    def _count_round_trips(self) -> None:
        lowest, highest = self.level == 0, self.level == len(self.temperatures) - 1
        self.round_trips += int((lowest & (self.ends_seen == 1)).sum())
        self.ends_seen = torch.where(highest, 1, torch.where(lowest, -1, self.ends_seen))

    def _in_sets(self, temperatures: Tensor) -> None:
        n_sets = self.n // len(temperatures)
        self.temperatures = temperatures
        self.level = torch.arange(len(temperatures)).repeat(n_sets, 1)
        self.count_anew()

    def count_anew(self) -> None:
        """Forget exchanges and round trips so far."""
        self.ends_seen = torch.zeros_like(self.level)
        self.round_trips = self.n_accepted = self.n_proposed = self.n_exchanges = 0

    def state(self) -> dict[str, object]:
        """Everything that the next step depends on, as tensors and numbers."""
        kept = {name: self._joined(name) for name in _COLUMNS}
        states = [generator.get_state() for generator in (self.generator, *(p.generator for p in self.parts))]
        names = (
            "temperatures",
            "level",
            "ends_seen",
            "round_trips",
            "n_accepted",
            "n_proposed",
            "n_exchanges",
        )
        counts = {name: getattr(self, name) for name in names}
        return {"columns": kept, "random": states, "counts": counts, "bias": self.dynamics.parameters}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for name, values in state["columns"].items():
            self._spread(name, values)
        generators = (self.generator, *(part.generator for part in self.parts))
        for generator, random in zip(generators, state["random"], strict=True):
            generator.set_state(random)
        for name, value in state["counts"].items():
            setattr(self, name, value)
        self.dynamics.parameters = state["bias"]

    def _joined(self, name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in self.parts], -1)

    def _spread(self, name: str, whole: Tensor) -> None:
        for part, columns in zip(self.parts, whole.chunk(len(self.parts), -1), strict=True):
            setattr(part, name, columns.contiguous())


def batched_potential(system: MolecularSystem, n: int, compiled: bool) -> Potential:
    """Energies of ``n`` configurations at a time; raises UserError where the system cannot be batched."""
    return make_potential(system, backend="batched", dtype=torch.float32, compiled=compiled, chunk=n)
