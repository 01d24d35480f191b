"""How high the torsional terms of a force field stand against rotation about a bond."""

from __future__ import annotations

import math

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from boltzgen.system.molecular_system import MolecularSystem

N_ANGLES = 72
TORSIONS = (openmm.PeriodicTorsionForce, openmm.RBTorsionForce, openmm.CustomTorsionForce)


def has_terms(system: MolecularSystem) -> bool:
    """Whether a force field has terms by which barriers are told: an energy in one piece has none."""
    return not any(type(force).__name__ == "PythonForce" for force in system.openmm_system.getForces())


def rotation_barriers(system: MolecularSystem, bonds: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """Barrier [kJ/mol] of half a turn about each bond, by its proper torsions alone; 0 without any.

    The lower one of the two ways round, above the lowest energy. Periodic, Ryckaert-Bellemans and custom
    torsions count; bond angles and what is not bonded do not.
    """
    neighbours = {atom: set(system.graph.neighbors(atom)) for atom in system.graph}
    return {bond: _barrier(system, bond, neighbours) for bond in bonds}


def _barrier(system: MolecularSystem, bond: tuple[int, int], neighbours: dict[int, set[int]]) -> float:
    probe = openmm.System()
    for _ in range(system.n_atoms):
        probe.addParticle(1.0)
    for force in system.openmm_system.getForces():
        terms = _terms_about(force, bond, neighbours) if isinstance(force, TORSIONS) else []
        if terms:
            probe.addForce(_with_terms(force, terms))
    if not probe.getNumForces():
        return 0.0
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(probe, openmm.VerletIntegrator(0.001), platform)
    energies = []
    for angle in np.linspace(0.0, 2 * math.pi, N_ANGLES, endpoint=False):
        context.setPositions(_turned(system.positions, bond, neighbours[bond[1]] - {bond[0]}, angle))
        energy = context.getState(energy=True).getPotentialEnergy()
        energies.append(energy.value_in_unit(unit.kilojoule_per_mole))
    half = N_ANGLES // 2
    return float(min(max(energies[:half]), max(energies[half:])) - min(energies))


def _terms_about(force: openmm.Force, bond: tuple[int, int], neighbours: dict[int, set[int]]) -> list[int]:
    """Numbers of a force's torsions whose four atoms are a chain with ``bond`` in its middle."""
    found = []
    for k in range(force.getNumTorsions()):
        a, b, c, d = force.getTorsionParameters(k)[:4]
        if {b, c} == set(bond) and a in neighbours[b] and d in neighbours[c]:
            found.append(k)
    return found


def _with_terms(force: openmm.Force, terms: list[int]) -> openmm.Force:
    """A copy of a torsion force that has some of its terms only."""
    if isinstance(force, openmm.CustomTorsionForce):
        copy = openmm.CustomTorsionForce(force.getEnergyFunction())
        for k in range(force.getNumPerTorsionParameters()):
            copy.addPerTorsionParameter(force.getPerTorsionParameterName(k))
        for k in range(force.getNumGlobalParameters()):
            value = force.getGlobalParameterDefaultValue(k)
            copy.addGlobalParameter(force.getGlobalParameterName(k), value)
    else:
        copy = type(force)()
    for k in terms:
        copy.addTorsion(*force.getTorsionParameters(k))
    return copy


def _turned(
    positions: NDArray[np.float64], bond: tuple[int, int], moving: set[int], angle: float
) -> NDArray[np.float64]:
    """Positions with some atoms turned about a bond (Rodrigues' formula)."""
    turned, rows, origin = positions.copy(), sorted(moving), positions[bond[0]]
    axis = positions[bond[1]] - origin
    axis = axis / np.linalg.norm(axis)
    v = positions[rows] - origin
    along = (v @ axis)[:, None] * axis
    turned[rows] = origin + along + math.cos(angle) * (v - along) + math.sin(angle) * np.cross(axis, v)
    return turned
