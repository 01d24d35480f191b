"""Dynamics of many replicas (walkers) at once on batched target energies: Langevin, parallel tempering.

OpenMM moves one configuration at a time; where its forces take long (generalised Born, custom forces), a
hundred configurations in one pass of torch take little more than one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from boltzgen.config.schema import SimulateSettings
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.runtime.random_streams import numbered_generator
from boltzgen.simulate.langevin import Langevin, Part, number_of_parts
from boltzgen.simulate.recorder import Advance, Recorder
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.units import thermal_energy

BATCHED = "batched"
"""Name of this way of simulating among OpenMM's platforms."""
COMPILE_ENERGIES_FROM = 1_000_000
"""Evaluations from which compiling wins its time back. Never by the clock: rounding would depend on it."""


@dataclass
class BatchedReplicas:
    """Configurations of ``n_independent`` sets of replicas at ``R`` temperatures each, and how they move.

    Row ``set * R + temperature`` of positions and energies. The last part may hold replicas more than asked
    for, so that all are of one size.

    temperatures
        Of a set of replicas [K], ``(R,)``.
    """

    dynamics: Langevin
    parts: list[Part]
    temperatures: Tensor
    n_independent: int
    generator: torch.Generator
    n_accepted: int = 0
    n_proposed: int = 0
    n_exchanges: int = 0

    @classmethod
    def at_reference(
        cls, system: MolecularSystem, temperatures: Tensor, n_independent: int, seed: int, *, compiled: bool
    ) -> BatchedReplicas:
        """All replicas, at ``temperatures`` [K] ``(R,)``, at the reference configuration."""
        n = n_independent * len(temperatures)
        evaluator = batched_potential(system, n, compiled=False).evaluator
        assert isinstance(evaluator, BatchedEvaluator)
        masses = torch.tensor(
            [system.openmm_system.getParticleMass(i)._value for i in range(system.n_atoms)],
            dtype=torch.float64,
        )
        dynamics = Langevin(evaluator, masses, compiled)
        n_parts = number_of_parts(n) if compiled else 1
        each = -(-n // n_parts)
        kT = thermal_energy(1.0) * temperatures.repeat(n_independent + n_parts)[: each * n_parts]
        thermal = (kT / masses[:, None, None]).sqrt()
        x = torch.as_tensor(system.positions)[:, :, None].expand(-1, -1, each)
        parts = [
            dynamics.started(x.contiguous(), thermal[..., k * each : (k + 1) * each].contiguous(), generator)
            for k, generator in enumerate(numbered_generator(seed, 1 + part) for part in range(n_parts))
        ]
        return cls(dynamics, parts, temperatures, n_independent, numbered_generator(seed, 0))

    @property
    def x(self) -> Tensor:
        """Positions [nm] ``(n_independent * R, n_atoms, 3)``, float64."""
        return self._joined("x").permute(2, 0, 1)[: self._n].contiguous()

    @property
    def energy(self) -> Tensor:
        """Energies [kJ/mol] ``(n_independent * R,)``."""
        return self._joined("energy")[: self._n]

    def step(self, n: int, dt: float, friction: float) -> None:
        """``n`` steps of ``dt`` [ps] with ``friction`` [1/ps]."""
        self.dynamics.move(self.parts, n, dt, friction)

    def exchange(self) -> None:
        """Every other pair of neighbours exchanges by the Metropolis rule; the others next time."""
        n_temperatures, kT = len(self.temperatures), thermal_energy(1.0) * self.temperatures
        energy = self.energy.view(self.n_independent, n_temperatures)
        order = torch.arange(n_temperatures).repeat(self.n_independent, 1)
        low = torch.arange(self.n_exchanges % 2, n_temperatures - 1, 2)
        self.n_exchanges += 1
        log_ratio = (1.0 / kT[low] - 1.0 / kT[low + 1]) * (energy[:, low] - energy[:, low + 1])
        uniform = torch.rand(log_ratio.shape, dtype=log_ratio.dtype, generator=self.generator)
        which, pair = (uniform.log() < log_ratio).nonzero(as_tuple=True)
        order[which, low[pair]], order[which, low[pair] + 1] = low[pair] + 1, low[pair]
        self.n_accepted, self.n_proposed = self.n_accepted + len(pair), self.n_proposed + log_ratio.numel()
        rows = (order + n_temperatures * torch.arange(self.n_independent)[:, None]).flatten()
        scale = (self.temperatures / self.temperatures[order]).sqrt().flatten()
        self._reorder(rows, scale)

    def _reorder(self, rows: Tensor, scale: Tensor) -> None:
        """Give each replica the configuration of ``rows``, with velocities times ``scale``."""
        for name in ("x", "v", "acceleration", "energy"):
            whole = self._joined(name)
            whole[..., : self._n] = whole[..., rows] * (scale if name == "v" else 1.0)
            for part, columns in zip(self.parts, whole.chunk(len(self.parts), -1), strict=True):
                setattr(part, name, columns.contiguous())

    @property
    def _n(self) -> int:
        return self.n_independent * len(self.temperatures)

    def _joined(self, name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in self.parts], -1)


def run_batched(
    system: MolecularSystem, settings: SimulateSettings, seed: int, frames: Recorder, advance: Advance
) -> None:
    """One run: ``settings.n_replicas`` replicas share its production; ``frames`` gets it, one by one.

    Each starts at the reference configuration and is equilibrated by itself. Raises FloatingPointError
    where the dynamics blow up, and UserError where the system cannot be batched.
    """
    ratios = settings.temperature_ratio ** torch.arange(n_temperatures_of(settings), dtype=torch.float64)
    compiled = evaluations(settings) >= COMPILE_ENERGIES_FROM
    temperatures = system.temperature_k * ratios
    replicas = BatchedReplicas.at_reference(
        system, temperatures, settings.n_replicas, seed, compiled=compiled
    )
    found = _moved(replicas, settings, advance)
    for replica in range(settings.n_replicas):
        for positions, energies in found:
            frames.add(positions[replica].numpy(), float(energies[replica]))


def _moved(
    replicas: BatchedReplicas, settings: SimulateSettings, advance: Advance
) -> list[tuple[Tensor, Tensor]]:
    """Carry out a run; positions and energies at the lowest temperature at the times of its frames."""
    n_temperatures, dt = len(replicas.temperatures), settings.timestep_fs / 1000
    piece = min(settings.frame_interval_ps, settings.swap_interval_ps)
    frame_every = max(1, round(settings.frame_interval_ps / piece))
    swap_every = max(1, round(settings.swap_interval_ps / piece))
    n_discarded = round(settings.equilibration_ps / settings.frame_interval_ps) * frame_every
    n_pieces = n_discarded + _frames_of_replica(settings) * frame_every
    whole_ps = settings.equilibration_ps + settings.production_ps
    found, told = [], time.monotonic()
    for k in range(1, n_pieces + 1):
        replicas.step(max(1, round(piece / dt)), dt, settings.friction_per_ps)
        if not replicas.energy.isfinite().all():
            raise FloatingPointError("energy is not finite")
        if k > n_discarded and k % frame_every == 0:
            found.append((replicas.x[::n_temperatures].clone(), replicas.energy[::n_temperatures].clone()))
        if n_temperatures > 1 and k % swap_every == 0:
            replicas.exchange()
        if time.monotonic() - told > 0.2 or k == n_pieces:
            told = time.monotonic()
            advance(whole_ps * k / n_pieces, _in_words(replicas))
    return found


def _in_words(replicas: BatchedReplicas) -> str:
    """What one watches."""
    n_temperatures = len(replicas.temperatures)
    if n_temperatures == 1:
        return f"{replicas.n_independent} replicas"
    accepted = replicas.n_accepted / max(replicas.n_proposed, 1)
    return (
        f"{replicas.n_independent} replicas x {n_temperatures} temperatures, swap acceptance {accepted:.2f}"
    )


def batched_potential(system: MolecularSystem, n: int, compiled: bool) -> Potential:
    """Energies of ``n`` configurations at a time; raises UserError where the system cannot be batched."""
    return make_potential(system, backend="batched", dtype=torch.float32, compiled=compiled, chunk=n)


def n_temperatures_of(settings: SimulateSettings) -> int:
    """Temperatures that are simulated."""
    return settings.n_temperatures if settings.method == "parallel_tempering" else 1


def _frames_of_replica(settings: SimulateSettings) -> int:
    return max(1, round(settings.production_ps / settings.n_replicas / settings.frame_interval_ps))


def evaluations(settings: SimulateSettings) -> float:
    """Target energies of one run."""
    length_ps = settings.equilibration_ps + _frames_of_replica(settings) * settings.frame_interval_ps
    return settings.n_replicas * n_temperatures_of(settings) * length_ps * 1000 / settings.timestep_fs
