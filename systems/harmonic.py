"""Harmonic systems whose partition function is known: a dimer, a chain and a well about the centroid."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import openmm
from openmm import app
from scipy.integrate import quad

from boltzgen import CollectiveVariable, MolecularSystem, MolecularSystemError, minimise, thermal_energy

MASS_DALTON = 12.0


def build_dimer(
    stiffness: float = 10000.0, length_nm: float = 0.2, temperature_k: float = 300.0
) -> MolecularSystem:
    """Two atoms joined by a harmonic bond, with a closed-form partition function.

    stiffness
        k of ``U = k/2 (r - length_nm)^2`` [kJ/mol/nm^2].
    """
    return build_chain(2, stiffness, length_nm, temperature_k)


def build_chain(
    n: int = 4, stiffness: float = 10000.0, length_nm: float = 0.2, temperature_k: float = 300.0
) -> MolecularSystem:
    """A freely jointed chain of n atoms and harmonic bonds, with a closed-form partition function.

    stiffness
        k of ``U = k/2 (r - length_nm)^2`` for each of the n - 1 bonds [kJ/mol/nm^2].
    """
    force, pairs = openmm.HarmonicBondForce(), [(i, i + 1) for i in range(n - 1)]
    for i, j in pairs:
        force.addBond(i, j, length_nm, stiffness)
    zigzag = length_nm * np.array([[math.sqrt(0.75) * i, 0.5 * (i % 2), 0.0] for i in range(n)])
    parameters = {"n": n, "stiffness": stiffness, "length_nm": length_nm, "temperature_k": temperature_k}
    variables = [CollectiveVariable("bond", "distance", (0, 1))] if n > 1 else []
    if n > 2:
        variables.append(CollectiveVariable("end_to_end", "distance", (0, n - 1)))
    name = "harmonic_dimer" if n == 2 else f"harmonic_chain/{n}"
    return _build(name, force, pairs, zigzag, tuple(variables), parameters)


def build_well(n: int = 4, stiffness: float = 250.0, temperature_k: float = 300.0) -> MolecularSystem:
    """n atoms in a harmonic well about their centroid, with a closed-form partition function.

    stiffness
        k of ``U = k/2 sum_i |x_i - centroid|^2`` [kJ/mol/nm^2], built from pairs so that it is
        translation invariant.
    """
    force = openmm.CustomBondForce("0.5*stiffness*r^2")
    force.addGlobalParameter("stiffness", stiffness / n)
    for i in range(n):
        for j in range(i):
            force.addBond(j, i, [])
    angles = 2 * math.pi * np.arange(n) / n
    ring = 0.1 * np.stack([np.cos(angles), np.sin(angles), 0.0 * angles], axis=-1)
    parameters = {"n": n, "stiffness": stiffness, "temperature_k": temperature_k}
    variables = (CollectiveVariable("radius_of_gyration", "radius_of_gyration"),)
    return _build(f"harmonic_well/{n}", force, [], ring, variables, parameters)


def chain_log_z(n: int, stiffness: float, length_nm: float, temperature_k: float = 300.0) -> float:
    """Log partition function of ``build_chain`` on the zero-centroid space, nm^dof.

    ``Z = n^(-3/2) [integral of 4 pi r^2 exp(-k (r - r0)^2 / 2 kT) dr]^(n - 1)``: bond vectors are
    independent coordinates, and the Jacobian from them to zero-centroid coordinates is ``n^(-3/2)``.
    """
    return (n - 1) * math.log(_radial_moment(2, stiffness, length_nm, temperature_k)) - 1.5 * math.log(n)


def dimer_log_z(stiffness: float, length_nm: float, temperature_k: float = 300.0) -> float:
    """Log partition function of ``build_dimer`` on the zero-centroid space, nm^3."""
    return chain_log_z(2, stiffness, length_nm, temperature_k)


def mean_bond_length(stiffness: float, length_nm: float, temperature_k: float = 300.0) -> float:
    """Mean length [nm] of a bond of ``build_dimer`` or ``build_chain``."""
    third = _radial_moment(3, stiffness, length_nm, temperature_k)
    return third / _radial_moment(2, stiffness, length_nm, temperature_k)


def well_log_z(n: int, stiffness: float, temperature_k: float = 300.0) -> float:
    """Log partition function of ``build_well``: ``(dof / 2) log(2 pi kT / k)``, nm^dof."""
    return 1.5 * (n - 1) * math.log(2 * math.pi * thermal_energy(temperature_k) / stiffness)


def _radial_moment(power: int, stiffness: float, length_nm: float, temperature_k: float) -> float:
    """Integral of ``4 pi r^power exp(-k (r - r0)^2 / 2 kT)`` over r > 0."""
    width = math.sqrt(thermal_energy(temperature_k) / stiffness)
    low, high = max(0.0, length_nm - 12 * width), length_nm + 12 * width

    def integrand(r: float) -> float:
        return 4 * math.pi * r**power * math.exp(-0.5 * ((r - length_nm) / width) ** 2)

    value, _ = quad(integrand, low, high, epsabs=0.0, epsrel=1e-12, points=[length_nm])
    return float(value)


def _build(
    name: str,
    force: openmm.Force,
    bonds: list[tuple[int, int]],
    positions: np.ndarray,
    variables: tuple[CollectiveVariable, ...],
    parameters: Mapping[str, object],
) -> MolecularSystem:
    n = len(positions)
    if n < 2:
        raise MolecularSystemError(name, f"n is {n}", "use at least 2")
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("HAR", topology.addChain())
    carbon = app.Element.getBySymbol("C")
    atoms = [topology.addAtom(f"C{i + 1}", carbon, residue) for i in range(n)]
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
    for _ in range(n):
        system.addParticle(MASS_DALTON)
    system.addForce(force)
    return MolecularSystem(
        name=name,
        topology=topology,
        openmm_system=system,
        positions=minimise(system, positions) if bonds else positions,
        temperature_k=float(str(parameters["temperature_k"])),
        collective_variables=variables,
        description=f"{n} atoms, {type(force).__name__}",
        parameters=dict(parameters),
    )
