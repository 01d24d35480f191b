"""Masses and time steps of batched replicas: configurations depend on neither.

The fastest vibration limits the step, and is that of a hydrogen. With one mass for all atoms, the mean, it is
slower by half, and what is slow is as fast as before: molecules change their shape as often in a picosecond,
which has half the steps (`benchmarks/time_step.py`). The System and everything that is written keep the
physical masses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from boltzgen.config.schema import SimulateSettings
from boltzgen.system.molecular_system import MolecularSystem

LONGEST_FS = 2.0
"""Time step with equal masses of molecules up to `_LARGE` atoms."""
_LARGE = 80
"""Atoms from which steps are shorter: the variance of the error of the energy goes with the number of atoms
and the fourth power of the step, and at 2 fs and 72 atoms two thirds of stretches are still accepted."""
PHYSICAL_FS = 1.0
"""Time step of OpenMM with the masses of the System, where none is asked for."""


def sampling_masses(system: MolecularSystem) -> Tensor:
    """The mean mass for every atom ``(n_atoms,)`` [dalton], float64."""
    masses = physical_masses(system)
    return torch.full_like(masses, float(masses.mean()))


def physical_masses(system: MolecularSystem) -> Tensor:
    """Those of the System ``(n_atoms,)`` [dalton], float64."""
    openmm_system = system.openmm_system
    masses = [openmm_system.getParticleMass(i)._value for i in range(system.n_atoms)]
    return torch.tensor(masses, dtype=torch.float64)


def openmm_time_step_fs(settings: SimulateSettings) -> float:
    """Of dynamics with physical masses."""
    return settings.timestep_fs or PHYSICAL_FS


def steps_in(interval_ps: float, settings: SimulateSettings, n_atoms: int) -> int:
    """Time steps of batched replicas in an interval: as asked for, or none longer than is worth it."""
    if settings.timestep_fs is not None:
        return max(1, round(1000 * interval_ps / settings.timestep_fs))
    longest_fs = LONGEST_FS * min(1.0, (_LARGE / n_atoms) ** 0.25)
    return max(1, math.ceil(1000 * interval_ps / longest_fs - 1e-6))
