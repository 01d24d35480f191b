"""Configurations of real molecules at which batched energies and forces are compared with OpenMM's."""

from __future__ import annotations

import copy

import numpy as np
import openmm
import torch
from openmm import unit

from boltzgen.potential import potential_of_openmm
from boltzgen.potential.openmm import OpenMMEvaluator

N_CONFIGURATIONS = 100
NOISE_NM = 0.02


def thermal_and_noisy(system: openmm.System, positions: np.ndarray, n: int) -> np.ndarray:
    """``n`` frames of unconstrained dynamics at 300 K, and the same with noise on every atom."""
    free = copy.deepcopy(system)
    for index in reversed(range(free.getNumConstraints())):
        free.removeConstraint(index)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    integrator.setRandomNumberSeed(7)
    platform = openmm.Platform.getPlatformByName("CPU")  # Reference takes most of the test's time
    context = openmm.Context(free, integrator, platform, {"Threads": "1"})
    context.setPositions(positions)
    context.setVelocitiesToTemperature(300.0, 7)
    frames = []
    for _ in range(n):
        integrator.step(5)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    thermal = np.array(frames)
    noise = NOISE_NM * np.random.default_rng(7).standard_normal(thermal.shape)
    return np.concatenate([thermal, thermal + noise])


def assert_agreement(
    system: openmm.System, positions: np.ndarray, n: int = N_CONFIGURATIONS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The float64 energies and forces of 2n configurations are those of the Reference platform.

    Returns the first half, which are thermal, and their energies there [kJ/mol].
    """
    potential = potential_of_openmm(system, 300.0, positions)
    assert potential.backend == "batched", potential.reason
    x = torch.from_numpy(thermal_and_noisy(system, positions, n))
    energy, force = potential.energy_and_forces(x)
    exact_energy, exact_force = OpenMMEvaluator(system, "Reference").energy_and_forces(x)
    assert bool(exact_energy.isfinite().all()) and float(exact_energy.std()) > 0
    assert bool(((energy - exact_energy).abs() <= 1e-6 + 1e-9 * exact_energy.abs()).all())
    deviation = (force - exact_force).abs().flatten(1).amax(1)
    assert bool((deviation <= 1e-6 * exact_force.abs().flatten(1).amax(1)).all())
    return x[:n], exact_energy[:n]
