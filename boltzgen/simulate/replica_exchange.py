"""Parallel tempering with openmmtools, its frames taken at the target temperature between exchanges."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import unit

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.weighted import Array
from boltzgen.potential.platforms import properties
from boltzgen.simulate.recorder import Advance, Recorder, Task
from boltzgen.simulate.sampling_masses import openmm_time_step_fs
from boltzgen.simulate.temperature_ladder import temperatures_of

for _noisy in ("pymbar", "openmmtools"):  # they greet every import and every run
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)

from openmmtools import cache, mcmc, multistate, states  # noqa: E402


def run_parallel_tempering(task: Task, frames: Recorder, advance: Advance) -> None:
    """One parallel-tempering run; ``frames`` gets the target-temperature ones of its production part.

    Temperatures are those of `boltzgen.simulate.temperature_ladder.temperatures_of`. After every
    ``swap_interval_ps`` neighbouring temperatures exchange configurations by the Metropolis rule, and
    velocities are scaled to the new temperature. The task's directory holds a small scratch file during the
    run.
    """
    settings = task.settings
    n_swaps, n_discarded = _iterations(settings)
    with tempfile.TemporaryDirectory(dir=task.scratch) as scratch, _global_numpy_seed(task.seed):
        sampler = _sampler(task, Path(scratch), frames)
        per_call = max(1, round(1.0 / settings.swap_interval_ps))
        message, done = f"{len(_temperatures_k(task))} temperatures, ", 0
        while done < n_swaps:
            block = min(per_call, (n_discarded if done < n_discarded else n_swaps) - done)
            try:
                sampler.run(block)
            except multistate.utils.SimulationNaNError as error:
                raise FloatingPointError("energy is not finite") from error
            done += block
            if done <= n_discarded:
                frames.clear()
            advance(done * settings.swap_interval_ps, message + f"swap acceptance {sampler.acceptance:.2f}")
        del sampler  # closes its file


@contextmanager
def _global_numpy_seed(seed: int) -> Iterator[None]:
    """openmmtools draws its exchanges from NumPy's global state: seed that, and put it back afterwards."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


class _RecordedMove(mcmc.LangevinDynamicsMove):
    """Langevin dynamics over one exchange interval in equal pieces; every ``keep_every``-th leaves a frame.

    Velocities go on from interval to interval. Those of the integrator lag half a step behind positions:
    drawn anew without the half kick that this makes of forces, they heat stiff bonds each time (a C-H bond
    at 1 fs by 0.16 kT). So a configuration that comes from another temperature keeps its own, scaled at
    full step.
    """

    def __init__(
        self, n_pieces: int, seed: int, frames: Recorder | None = None, keep_every: int = 1, **options: Any
    ) -> None:
        super().__init__(reassign_velocities=False, n_restart_attempts=0, **options)
        self.n_pieces, self.frames, self.keep_every, self.seed = n_pieces, frames, keep_every, seed
        self.n_done = 0
        self.came_from: float | None = None
        """Temperature [K] that the velocities were made for; None where there are none yet."""

    def __deepcopy__(self, memo: dict[int, object]) -> _RecordedMove:
        """The sampler copies its moves; the record must stay the caller's."""
        return self

    def apply(self, thermodynamic_state: Any, sampler_state: Any, context_cache: Any = None) -> None:
        """Move ``sampler_state`` on by one exchange interval."""
        for _ in range(self.n_pieces):
            self.came_from = getattr(sampler_state, "velocities_of_k", None)
            super().apply(thermodynamic_state, sampler_state, context_cache=context_cache)
            sampler_state.velocities_of_k = thermodynamic_state.temperature._value
            self.n_done += 1
            if self.frames is not None and self.n_done % self.keep_every == 0:
                self.frames.add(sampler_state.positions._value, sampler_state.potential_energy._value)

    def _get_integrator(self, thermodynamic_state: Any) -> openmm.Integrator:
        integrator = super()._get_integrator(thermodynamic_state)
        integrator.setRandomNumberSeed(1 + self.seed % (2**31 - 2))
        return integrator

    def _before_integration(self, context: openmm.Context, thermodynamic_state: Any) -> None:
        temperature = thermodynamic_state.temperature._value
        if self.came_from is None:
            context.setVelocitiesToTemperature(temperature, 1 + self.seed % (2**31 - 2))
        elif self.came_from != temperature:
            state, system = context.getState(velocities=True, forces=True), context.getSystem()
            masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
            forces = state.getForces(asNumpy=True)._value
            half_kick = (
                0.5 * self.timestep.value_in_unit(unit.picosecond) * forces / np.array(masses)[:, None]
            )
            scale = (temperature / self.came_from) ** 0.5
            velocities = scale * (state.getVelocities(asNumpy=True)._value + half_kick) - half_kick
            context.setVelocities(velocities)


class _Sampler(multistate.ParallelTemperingSampler):
    """openmmtools' sampler, which counts exchanges instead of writing every iteration to disk."""

    _global_citation_silence = True

    def _report_iteration_items(self) -> None:
        self.n_accepted = getattr(self, "n_accepted", 0) + self._n_accepted_matrix.sum()
        self.n_proposed = getattr(self, "n_proposed", 0) + self._n_proposed_matrix.sum()

    @property
    def acceptance(self) -> float:
        """Fraction of exchange attempts accepted so far."""
        return float(self.n_accepted / max(self.n_proposed, 1))


def _sampler(task: Task, scratch: Path, frames: Recorder) -> _Sampler:
    """The sampler with its moves and contexts; the lowest temperature's move fills ``frames``."""
    system, settings, platform, seed = task.system, task.settings, task.platform, task.seed
    steps, pieces = _steps(settings)
    options = {
        "timestep": openmm_time_step_fs(settings) * unit.femtosecond,
        "collision_rate": settings.friction_per_ps / unit.picosecond,
    }
    keep_every = max(1, round(settings.frame_interval_ps / settings.swap_interval_ps))
    lowest = _RecordedMove(pieces, seed, frames, keep_every, n_steps=steps // pieces, **options)
    temperatures_k = _temperatures_k(task)
    moves = [lowest] + [
        _RecordedMove(1, seed + k, n_steps=steps, **options) for k in range(1, len(temperatures_k))
    ]
    sampler = _Sampler(
        mcmc_moves=moves,
        number_of_iterations=float("inf"),
        replica_mixing_scheme="swap-neighbors",
        online_analysis_interval=None,
    )
    reporter = multistate.MultiStateReporter(str(scratch / "exchange.nc"), checkpoint_interval=10**6)
    sampler.create(
        states.ThermodynamicState(system.openmm_system, system.temperature_k * unit.kelvin),
        [states.SamplerState(system.positions * unit.nanometer)],
        reporter,
        temperatures=[t * unit.kelvin for t in temperatures_k],
        n_temperatures=len(temperatures_k),
    )
    contexts = cache.ContextCache(
        platform=openmm.Platform.getPlatformByName(platform),
        platform_properties=properties(platform) or None,
        capacity=None,
        time_to_live=None,
    )
    sampler.sampler_context_cache = sampler.energy_context_cache = contexts
    return sampler


def _temperatures_k(task: Task) -> Array:
    return temperatures_of(task.settings, task.system.n_atoms, task.system.temperature_k)


def _steps(settings: SimulateSettings) -> tuple[int, int]:
    """Time steps per exchange interval, and into how many pieces frames divide it."""
    pieces = max(1, round(settings.swap_interval_ps / settings.frame_interval_ps))
    per_piece = max(1, round(1000 * settings.swap_interval_ps / openmm_time_step_fs(settings) / pieces))
    return per_piece * pieces, pieces


def _iterations(settings: SimulateSettings) -> tuple[int, int]:
    """Exchange intervals of the whole run and of its equilibration."""
    discarded = max(1, round(settings.equilibration_ps / settings.swap_interval_ps))
    return discarded + max(1, round(settings.production_ps / settings.swap_interval_ps)), discarded
