"""Small molecules drawn by hand: elements, bonds, a sketch of positions, and harmonic bonds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import openmm
from openmm import app

from boltzgen.system.molecular_system import MolecularSystem

Tree = tuple[str, list["Tree"]] | str
"""An element and what hangs on it; a leaf is its element alone."""
BOND = 0.15


def molecule(
    symbols: Sequence[str],
    bonds: Sequence[tuple[int, int]],
    positions: Sequence[Sequence[float]] | np.ndarray,
    barriers: Mapping[tuple[int, int], float] | None = None,
) -> MolecularSystem:
    """A molecule of these atoms; ``barriers`` [kJ/mol] stand against half a turn about some bonds."""
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("MOL", topology.addChain())
    heavy = {"D": ("H", 2.014)}
    for k, symbol in enumerate(symbols):
        element = app.Element.getBySymbol(heavy.get(symbol, (symbol, 0))[0])
        topology.addAtom(f"{symbol}{k}", element, residue)
        system.addParticle(heavy[symbol][1] if symbol in heavy else element.mass)
    atoms = list(topology.atoms())
    springs, torsions = openmm.HarmonicBondForce(), openmm.PeriodicTorsionForce()
    for i, j in bonds:
        topology.addBond(atoms[i], atoms[j])
        springs.addBond(i, j, BOND, 1e5)
    neighbours = {k: {j for bond in bonds if k in bond for j in bond} - {k} for k in range(len(symbols))}
    for (b, c), barrier in (barriers or {}).items():
        chains = [(a, d) for a in neighbours[b] - {c} for d in neighbours[c] - {b}]
        for a, d in chains:
            torsions.addTorsion(a, b, c, d, 2, math.pi, barrier / (2 * len(chains)))
    system.addForce(springs)
    system.addForce(torsions)
    return MolecularSystem("sketch", topology, system, np.asarray(positions, dtype=float), 300.0)


def grown(tree: Tree) -> MolecularSystem:
    """A molecule without rings, every atom with its neighbours at the corners of a tetrahedron.

    Exchanging two branches of an atom in the tree exchanges their places.
    """
    symbols: list[str] = []
    bonds: list[tuple[int, int]] = []
    positions: list[np.ndarray] = []

    def place(part: Tree, at: np.ndarray, parent: int | None, towards: np.ndarray, scale: float) -> None:
        symbol, branches = (part, []) if isinstance(part, str) else part
        here = len(symbols)
        symbols.append(symbol)
        positions.append(at)
        if parent is not None:
            bonds.append((parent, here))
        for branch, direction in zip(branches, _corners(towards, len(branches)), strict=True):
            place(branch, at + scale * direction, here, direction, 0.6 * scale)

    place(tree, np.zeros(3), None, np.zeros(3), BOND)
    return molecule(symbols, bonds, positions)


def _corners(towards: np.ndarray, n: int) -> np.ndarray:
    """Directions of ``n`` neighbours, away from where an atom was reached from along ``towards``."""
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) / math.sqrt(3)
    if not towards.any():
        return corners[:n]
    # The rotation that takes the first corner to -towards, so that the other three are free.
    first, axis = corners[0], np.cross(corners[0], -towards)
    cosine = float(first @ -towards)
    if np.linalg.norm(axis) < 1e-9:
        return corners[1 : n + 1] if cosine > 0 else -corners[1 : n + 1][:, [1, 0, 2]]
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + cross + cross @ cross / (1 + cosine)
    return corners[1 : n + 1] @ rotation.T


def ring(size: int, substituents: Mapping[int, Sequence[str]]) -> MolecularSystem:
    """A flat ring of carbons with two substituents each, the first one above; hydrogens where not said."""
    angles = 2 * math.pi * np.arange(size) / size
    positions = [[BOND * math.cos(a), BOND * math.sin(a), 0.0] for a in angles]
    symbols, bonds = ["C"] * size, [(k, (k + 1) % size) for k in range(size)]
    for k in range(size):
        for symbol, height in zip(substituents.get(k, ("H", "H")), (0.1, -0.1), strict=True):
            bonds.append((k, len(symbols)))
            symbols.append(symbol)
            positions.append([1.3 * positions[k][0], 1.3 * positions[k][1], height])
    return molecule(symbols, bonds, positions)


def ethene(first: Sequence[str], second: Sequence[str], barrier: float = 200.0) -> MolecularSystem:
    """Two flat carbons with two substituents each, the first ones on one side."""
    positions = [[0, 0, 0], [BOND, 0, 0], [-0.08, 0.1, 0], [-0.08, -0.1, 0], [0.23, 0.1, 0], [0.23, -0.1, 0]]
    bonds = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)]
    return molecule(["C", "C", *first, *second], bonds, positions, {(0, 1): barrier})


def biaryl(ortho: Sequence[str], angle: float = 1.2) -> MolecularSystem:
    """Two rings of six carbons at an angle, joined by a bond, ``ortho`` at the four places beside it."""
    hexagon = 0.14 * np.array([[math.cos(a), math.sin(a), 0.0] for a in math.pi / 3 * np.arange(6)])
    left, right = hexagon, -hexagon + np.array([0.43, 0.0, 0.0])
    turn = np.array(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
    )
    right = right @ turn.T
    positions, symbols = [*left, *right], ["C"] * 12
    bonds = [(base + k, base + (k + 1) % 6) for base in (0, 6) for k in range(6)] + [(0, 6)]
    for symbol, atom in zip(ortho, (1, 5, 7, 11), strict=True):
        centre = left.mean(0) if atom < 6 else right.mean(0)
        bonds.append((atom, len(symbols)))
        symbols.append(symbol)
        positions.append(positions[atom] + 0.7 * (positions[atom] - centre))
    return molecule(symbols, bonds, positions)
