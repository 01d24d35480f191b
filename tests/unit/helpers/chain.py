"""A five-particle chain whose two torsions are set at will, and ensembles of it with known populations."""

from __future__ import annotations

import math

import numpy as np
import openmm
from openmm import app

from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable, State
from boltzgen.system.molecular_system import MolecularSystem

PHI = CollectiveVariable("phi", "torsion", (0, 1, 2, 3))
PSI = CollectiveVariable("psi", "torsion", (1, 2, 3, 4))
END_TO_END = CollectiveVariable("end to end", "distance", (0, 4))
POSITIVE = State("phi_positive", PHI, ((0.0, 2.0),))
NEGATIVE = State("phi_negative", PHI, ((-math.pi, 0.0), (2.0, math.pi)))


def chain_system(elements: bool = True) -> MolecularSystem:
    """Harmonic bonds only; with ``elements=False`` the particles are nameless beads as in LJ clusters."""
    topology, system, force = app.Topology(), openmm.System(), openmm.HarmonicBondForce()
    residue = topology.addResidue("CHN" if elements else "LJ", topology.addChain())
    atoms = []
    for i in range(5):
        element = app.element.carbon if elements else None
        atoms.append(topology.addAtom(f"C{i}" if elements else "X", element, residue))
        system.addParticle(12.0)
    for i in range(4):
        topology.addBond(atoms[i], atoms[i + 1])
        force.addBond(i, i + 1, 0.15, 1e5)
    system.addForce(force)
    positions = chain_positions(np.array([-1.0]), np.array([2.0]))[0].astype(np.float64)
    variables, states = (PHI, PSI, END_TO_END), (POSITIVE, NEGATIVE)
    return MolecularSystem("chain", topology, system, positions, 300.0, variables, states)


def chain_positions(phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Centred positions [nm] ``(n, 5, 3)`` with bonds of 0.15 nm, angles of 110 degrees."""
    n, bond, angle = len(phi), 0.15, math.radians(110.0)
    x = np.zeros((n, 5, 3))
    x[:, 1, 0] = bond
    x[:, 2, 0], x[:, 2, 1] = bond - bond * math.cos(angle), bond * math.sin(angle)
    for k, torsion in ((3, phi), (4, psi)):
        a, b, c = x[:, k - 3], x[:, k - 2], x[:, k - 1]
        along = (c - b) / np.linalg.norm(c - b, axis=1, keepdims=True)
        normal = np.cross(b - a, along)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        side = np.cross(normal, along)
        x[:, k] = c + bond * (
            -math.cos(angle) * along
            + math.sin(angle) * (np.cos(torsion)[:, None] * side + np.sin(torsion)[:, None] * normal)
        )
    return (x - x.mean(axis=1, keepdims=True)).astype(np.float32)


def chain_ensemble(
    n: int, seed: int, p_positive: float = 0.3, proposal: float | None = None, frames_per_lineage: int = 1
) -> WeightedEnsemble:
    """``n`` rows with P(phi_positive) = ``p_positive``, drawn with probability ``proposal`` and reweighted.

    Rows of one lineage are in the same state. The reduced energy is standard normal.
    """
    rng = np.random.default_rng(seed)
    proposal = p_positive if proposal is None else proposal
    lineages = np.arange(n) // frames_per_lineage
    positive = (rng.random(lineages[-1] + 1) < proposal)[lineages]
    phi = np.where(
        positive, rng.normal(1.0, 0.2, n).clip(0.05, 1.95), rng.normal(-1.4, 0.3, n).clip(-3.1, -0.05)
    )
    psi = (rng.normal(2.4, 0.5, n) + math.pi) % (2 * math.pi) - math.pi
    ratio = np.where(positive, p_positive / proposal, (1 - p_positive) / (1 - proposal))
    energies = rng.normal(size=n)
    return WeightedEnsemble(
        chain_positions(phi, psi),
        np.log(ratio) + 7.0,
        energies,
        300.0,
        lineages=lineages,
        islands=lineages * 0,
    )
