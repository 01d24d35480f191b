"""Whether a structure can be minimised: no two atoms in one place, bonds of about their own lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm

from boltzgen.errors import MolecularSystemError
from boltzgen.labels import Labels
from boltzgen.structures import Structure

SAME_PLACE_NM = 1e-3
"""Atoms nearer than this, the last digit of a PDB file, are in one place."""
UNITS = {0.1: "nm stand where Angstrom belong", 10.0: "Angstrom stand where nm belong"}
"""Factors by which coordinates are wrong, and what they come from."""
TOLERANCE = 1.5
"""Factor that bonds may be away from their lengths, or from one of these factors."""


def check_geometry(where: Path | str, structure: Structure, system: openmm.System) -> None:
    """MolecularSystemError for positions that no minimisation brings to the molecule that was meant.

    A minimisation would move them to some isomer, or never end.
    """
    x, labels = structure.positions, Labels(structure.topology, structure.names)
    if not np.isfinite(x).all():
        return  # told elsewhere
    atoms = list(structure.topology.atoms())
    for i in range(len(x) - 1):
        near = np.flatnonzero(np.linalg.norm(x[i + 1 :] - x[i], axis=-1) < SAME_PLACE_NM)
        if len(near):
            raise MolecularSystemError(
                where,
                f"{labels.atom(atoms[i])} and {labels.atom(atoms[i + 1 + near[0]])} are in one place",
                "give every atom its own coordinates",
            )
    ratios = [
        float(np.linalg.norm(x[i] - x[j])) / length for i, j, length in _bond_lengths(system) if length > 0
    ]
    middle = float(np.median(ratios)) if ratios else 1.0
    for factor, cause in UNITS.items():
        if 1 / TOLERANCE < middle / factor < TOLERANCE:
            raise MolecularSystemError(
                where,
                f"bonds are {middle:.2g} times as long as in the force field: {cause}",
                f"divide the coordinates by {factor:g}",
            )


def _bond_lengths(system: openmm.System) -> list[tuple[int, int, float]]:
    """Pairs of atoms with a harmonic bond, and its length [nm]."""
    return [
        (i, j, length._value)
        for force in system.getForces()
        if isinstance(force, openmm.HarmonicBondForce)
        for i, j, length, _ in map(force.getBondParameters, range(force.getNumBonds()))
    ]
