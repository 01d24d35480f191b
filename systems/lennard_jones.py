"""Lennard-Jones clusters in reduced units, held together by a harmonic oscillator about their centroid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from boltzgen import (
    CollectiveVariable,
    MolecularSystem,
    MolecularSystemError,
    State,
    minimise,
    thermal_energy,
)

RG = CollectiveVariable("radius_of_gyration", "radius_of_gyration")


def build(
    n: int = 13,
    pair_factor: float = 1.0,
    oscillator: float = 1.0,
    temperature_k: float = 300.0,
    mass_dalton: float = 0.1,
) -> MolecularSystem:
    """Lennard-Jones cluster of n particles in reduced units, with an oscillator about the centroid.

    ``u(x) = pair_factor sum_{i<j} [(rm/r)^12 - 2 (rm/r)^6] + oscillator/2 sum_i |x_i - centroid|^2``
    with rm = eps = kT = 1: the unit of length is 1 nm and eps is kT at ``temperature_k``, so the
    distribution does not depend on the temperature. The states ``compact`` and ``expanded`` meet at 1.5
    times the radius of gyration of the minimised icosahedral cluster, the reference configuration.

    n
        Number of particles.
    pair_factor
        1 counts every pair once (bgflow's ``LennardJonesPotential``); 2 counts it twice, as the iDEM line
        of data-free samplers does. The two are different Hamiltonians.
    oscillator
        Force constant in kT/nm^2: 1 for bgflow; 0.5 or 1 for the iDEM line, depending on the code.
    mass_dalton
        Sets the clock of molecular dynamics, not the distribution. At 0.1 dalton and pair_factor 1 a pair
        vibrates with a period of 0.1 ps and the oscillator with 1.3 ps, so a 1 fs step is a careful one.
    """
    if n < 2:
        raise MolecularSystemError("lennard_jones", f"n is {n}", "use at least 2")
    system = _openmm_system(n, pair_factor, oscillator, temperature_k, mass_dalton)
    positions = minimise(system, icosahedral_sites(n))
    compact = 1.5 * float(np.sqrt(np.square(positions).sum(axis=-1).mean()))
    return MolecularSystem(
        name=f"lj{n}/pair_factor={pair_factor:g},oscillator={oscillator:g}",
        topology=_topology(n),
        openmm_system=system,
        positions=positions,
        temperature_k=temperature_k,
        collective_variables=(RG,),
        states=(State("compact", RG, ((0.0, compact),)), State("expanded", RG, ((compact, math.inf),))),
        description=f"{n} Lennard-Jones particles, pair factor {pair_factor:g}, oscillator {oscillator:g}",
        parameters={
            "n": n,
            "pair_factor": pair_factor,
            "oscillator": oscillator,
            "temperature_k": temperature_k,
            "mass_dalton": mass_dalton,
        },
    )


def build_lj13(pair_factor: float = 1.0, oscillator: float = 1.0) -> MolecularSystem:
    """LJ13: 13 Lennard-Jones particles in reduced units, by default in bgflow's convention."""
    return build(13, pair_factor, oscillator)


def build_lj55(pair_factor: float = 1.0, oscillator: float = 1.0) -> MolecularSystem:
    """LJ55: 55 Lennard-Jones particles in reduced units, by default in bgflow's convention."""
    return build(55, pair_factor, oscillator)


def icosahedral_sites(n: int) -> NDArray[np.float64]:
    """The ``n`` innermost sites of nested icosahedra, ``(n, 3)``, neighbours about one unit apart.

    The sites of shell k lie on a triangular grid, k steps to the edge, on the twenty faces of an
    icosahedron; 13 and 55 close the first and second shell (Mackay's construction).
    """
    golden = (1 + math.sqrt(5)) / 2
    corners = [np.roll([0.0, a, b * golden], k) for a in (-1, 1) for b in (-1, 1) for k in range(3)]
    vertices = np.array(corners) / 2  # edge length 1
    faces = [
        face
        for face in itertools.combinations(vertices, 3)
        if all(abs(np.linalg.norm(p - q) - 1.0) < 1e-6 for p, q in itertools.combinations(face, 2))
    ]
    sites, shell = [np.zeros(3)], 0
    while len(sites) < n:
        shell += 1
        grid = [(a, b, shell - a - b) for a in range(shell + 1) for b in range(shell + 1 - a)]
        points = {tuple(np.round(np.array(g) @ np.array(face), 6) + 0.0) for face in faces for g in grid}
        sites += sorted((np.array(p) for p in points), key=lambda p: (round(float(p @ p), 4), *p))
    return np.array(sites[:n])


def _openmm_system(
    n: int, pair_factor: float, oscillator: float, temperature_k: float, mass_dalton: float
) -> openmm.System:
    """Pair terms only: ``sum_i |x_i - centroid|^2 = (1/n) sum_{i<j} r_ij^2``."""
    system = openmm.System()
    pairs = openmm.CustomNonbondedForce("depth*((rm/r)^12 - 2*(rm/r)^6)")
    pairs.addGlobalParameter("depth", pair_factor * thermal_energy(temperature_k))
    pairs.addGlobalParameter("rm", 1.0)
    pairs.setNonbondedMethod(openmm.CustomNonbondedForce.NoCutoff)
    springs = openmm.CustomBondForce("0.5*stiffness*r^2")
    springs.addGlobalParameter("stiffness", oscillator * thermal_energy(temperature_k) / n)
    for i in range(n):
        system.addParticle(mass_dalton)
        pairs.addParticle([])
        for j in range(i):
            springs.addBond(j, i, [])
    system.addForce(pairs)
    system.addForce(springs)
    return system


def _topology(n: int) -> app.Topology:
    """One argon atom a residue, no bonds."""
    topology = app.Topology()
    chain = topology.addChain()
    for i in range(n):
        topology.addAtom("Ar", app.Element.getBySymbol("Ar"), topology.addResidue("LJ", chain, str(i + 1)))
    return topology
