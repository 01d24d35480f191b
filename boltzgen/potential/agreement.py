"""Comparing compiled energies and forces with OpenMM's Reference platform."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import unit

from boltzgen.potential.batched import BatchedEvaluator
from boltzgen.potential.openmm import OpenMMEvaluator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Largest accepted deviations: energies ``absolute + relative |E|``, forces ``force max(|F|, 100)``.

    The floor of 100 kJ/mol/nm keeps a minimum, where forces vanish, from having a bound of zero.
    """

    absolute: float
    relative: float
    force: float


BOUNDS = {torch.float64: Bound(1e-6, 1e-9, 1e-6), torch.float32: Bound(1e-2, 1e-5, 1e-3)}
"""Accepted deviations [kJ/mol] by dtype."""


_FORCE_FLOOR = 100.0


@dataclass(frozen=True)
class Agreement:
    """Largest deviations from the Reference platform over the configurations compared.

    energy_error
        Largest deviation of an energy [kJ/mol] among configurations of thermal energy.
    force_error
        Largest deviation of a force component, relative to the largest one of its configuration or
        100 kJ/mol/nm.
    excess
        Largest energy or force deviation in units of its bound: at most 1 if all is well.
    """

    energy_error: float
    force_error: float
    excess: float

    @property
    def ok(self) -> bool:
        """Whether every configuration is within the bound."""
        return self.excess <= 1.0


def compare(evaluator: BatchedEvaluator, positions: Array, temperature_k: float) -> Agreement:
    """Deviations at ``positions`` ``(n_atoms, 3)`` [nm], at thermal and at strongly distorted frames."""
    thermal = thermal_frames(evaluator.system, positions, temperature_k, n=4)
    generator = np.random.default_rng(0)
    distorted = [thermal + scale * generator.standard_normal(thermal.shape) for scale in (0.02, 0.05)]
    x = torch.from_numpy(np.concatenate([positions[None], thermal, *distorted]))
    reference = OpenMMEvaluator(evaluator.system, "Reference")
    energy, force = (value.double() for value in evaluator.energy_and_forces(x))
    exact_energy, exact_force = reference.energy_and_forces(x)
    comparable = exact_energy.isfinite()
    if not comparable.any():
        raise openmm.OpenMMException("OpenMM gives no finite energy near the reference configuration")
    energy, force, exact_energy, exact_force = (
        value[comparable] for value in (energy, force, exact_energy, exact_force)
    )
    bound = BOUNDS[evaluator.dtype]
    energy_deviation = (energy - exact_energy).abs()
    scale = exact_force.abs().flatten(1).amax(1).clamp_min(_FORCE_FLOOR)
    force_deviation = (force - exact_force).abs().flatten(1).amax(1) / scale
    excess = torch.maximum(
        energy_deviation / (bound.absolute + bound.relative * exact_energy.abs()),
        force_deviation / bound.force,
    )
    n_thermal = int(comparable[: 1 + len(thermal)].sum())
    return Agreement(
        float(energy_deviation[:n_thermal].max()) if n_thermal else float("nan"),
        float(force_deviation.max()),
        float(excess.nan_to_num(torch.inf).max()),
    )


def thermal_frames(system: openmm.System, positions: Array, temperature_k: float, n: int) -> Array:
    """``n`` frames of short dynamics without constraints, ``(n, n_atoms, 3)`` [nm].

    Where dynamics fails, copies of ``positions``.
    """
    context = _dynamics(system, temperature_k)
    frames = []
    try:
        context.setPositions(positions)
        context.setVelocitiesToTemperature(temperature_k * unit.kelvin, 1)
        for _ in range(n):
            context.getIntegrator().step(20)
            frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    except openmm.OpenMMException:
        frames = []
    frames = [frame for frame in frames if np.isfinite(frame).all()]
    return np.array(frames) if frames else np.array([positions] * n)


def embedding(system: openmm.System, temperature_k: float) -> Array:
    """Some configuration of moderate energy ``(n_atoms, 3)`` [nm]: a jittered lattice, minimised."""
    n = system.getNumParticles()
    side = int(np.ceil(n ** (1 / 3)))
    lattice = 0.15 * np.array(list(np.ndindex(side, side, side))[:n], dtype=np.float64)
    start = lattice + 0.02 * np.random.default_rng(0).standard_normal(lattice.shape)
    context = _dynamics(system, temperature_k)
    try:
        context.setPositions(start)
        openmm.LocalEnergyMinimizer.minimize(context, 10.0, 500)
    except openmm.OpenMMException:
        return start
    minimised = context.getState(positions=True).getPositions(asNumpy=True)._value
    return minimised if np.isfinite(minimised).all() else start


def _dynamics(system: openmm.System, temperature_k: float) -> openmm.Context:
    free = copy.deepcopy(system)
    for index in reversed(range(free.getNumConstraints())):
        free.removeConstraint(index)
    integrator = openmm.LangevinMiddleIntegrator(
        temperature_k * unit.kelvin, 5.0 / unit.picosecond, 0.5 * unit.femtosecond
    )
    integrator.setRandomNumberSeed(1)
    return openmm.Context(free, integrator, openmm.Platform.getPlatformByName("Reference"))
