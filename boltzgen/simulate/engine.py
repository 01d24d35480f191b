"""Which engine simulates: the faster one on this machine of OpenMM's platforms and batched replicas."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from boltzgen.config.schema import SimulateSettings
from boltzgen.errors import UserError
from boltzgen.potential.platforms import fastest_platform, installed_platforms, steps_per_second
from boltzgen.potential.timing import configurations_per_second
from boltzgen.runtime.checkpoints import Checkpoints
from boltzgen.runtime.context import unheard
from boltzgen.runtime.cores import usable_cores
from boltzgen.simulate.batched_replicas import BATCHED, batched_potential
from boltzgen.simulate.run_plan import SHORTEST_REPLICA, RunPlan
from boltzgen.simulate.sampling_masses import openmm_time_step_fs
from boltzgen.simulate.temperature_ladder import temperatures_of
from boltzgen.system.molecular_system import MolecularSystem

_COMPILED_GAIN = 4.0
"""Speed of compiled over eager evaluation, typically (`benchmarks/target_energy.py` has 4 to 11)."""
_WORTH_SECONDS = 60.0
"""Simulations that OpenMM does in less are left to it."""
_WORTH_FACTOR = 2.0


def choose_platform(system: MolecularSystem, settings: SimulateSettings, resume: Path | None = None) -> str:
    """The platform asked for, or that of the runs kept in ``resume``, or the fastest on this machine."""
    if settings.platform != "auto":
        return settings.platform
    if only_batched(settings):
        return BATCHED
    kept = (Checkpoints(resume).load(f"run_{run}", unheard) for run in range(settings.n_runs))
    used = next((piece["platform"] for piece in kept if piece), None)
    if used in (BATCHED, *installed_platforms()):
        return str(used)
    return BATCHED if by_batched_replicas(system, settings) else fastest_platform(system).getName()


def by_batched_replicas(system: MolecularSystem, settings: SimulateSettings) -> bool:
    """Whether batched replicas were asked for, or are long enough and much faster than OpenMM here."""
    if settings.platform != "auto" or only_batched(settings):
        return only_batched(settings)
    plan = RunPlan.of(settings, system)
    if plan.replica_ps < SHORTEST_REPLICA * settings.equilibration_ps:
        return False
    by_openmm = _openmm_seconds(system, settings)
    return by_openmm >= _WORTH_SECONDS and by_openmm > _WORTH_FACTOR * _batched_seconds(system, settings)


def only_batched(settings: SimulateSettings) -> bool:
    """Whether these settings leave no choice but batched replicas."""
    does_more = settings.method == "flat_histogram" or settings.minutes is not None
    return settings.platform == BATCHED or (settings.platform == "auto" and does_more)


def expected(system: MolecularSystem, settings: SimulateSettings) -> tuple[float, float]:
    """Time steps of all runs and temperatures together, and roughly the seconds they take here."""
    if by_batched_replicas(system, settings):
        return settings.n_runs * RunPlan.of(settings, system).evaluations, _batched_seconds(system, settings)
    return _openmm_steps(system, settings), _openmm_seconds(system, settings)


def _openmm_steps(system: MolecularSystem, settings: SimulateSettings) -> float:
    n_temperatures = len(temperatures_of(settings, system.n_atoms, system.temperature_k))
    length_ps = settings.equilibration_ps + settings.production_ps
    return settings.n_runs * n_temperatures * length_ps * 1000 / openmm_time_step_fs(settings)


@functools.lru_cache(maxsize=4)
def _openmm_seconds(system: MolecularSystem, settings: SimulateSettings) -> float:
    """By one process for each run, from the speed of 0.2 s of dynamics."""
    workers = max(1, min(settings.n_runs, usable_cores()))
    return _openmm_steps(system, settings) / (steps_per_second(system) * workers)


@functools.lru_cache(maxsize=4)
def _batched_seconds(system: MolecularSystem, settings: SimulateSettings) -> float:
    """One run after the other, from the speed of eager evaluation; infinite where that is not possible."""
    plan = RunPlan.of(settings, system)
    n = plan.n_replicas
    try:
        potential = batched_potential(system, n, compiled=False)
    except UserError:
        return float("inf")
    x = torch.as_tensor(system.positions).expand(n, -1, -1).contiguous()
    speed = configurations_per_second(potential.energy_and_forces, x, seconds=0.1)
    gain = _COMPILED_GAIN if plan.compiled else 1.0
    return settings.n_runs * plan.evaluations / (speed * gain)
