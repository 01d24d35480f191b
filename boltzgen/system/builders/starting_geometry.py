"""Whether a structure can be minimised: no two atoms in one place, bonds of about their own lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from boltzgen.errors import MolecularSystemError
from boltzgen.system.bonds import harmonic_terms
from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import Labels, listed
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import COUNTS, Domain
from boltzgen.units import WRONG_LENGTHS

SAME_PLACE_NM = 1e-3
"""Atoms nearer than this, the last digit of a PDB file, are in one place."""
UNITS = (0.1, 10.0)
"""Factors by which coordinates of structures are wrong; others are too near to strain."""
CHEMICAL, CHEMICAL_NM = 50_000.0, 0.25
"""Force constant [kJ/mol/nm^2] and length [nm] of a chemical bond, at least and at most."""
TORN = 1.5
"""Factor from which on a bond is none: a gap that a reader has closed, or atoms in another order."""
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
    check_unit(where, x, system)
    for i, j, length, stiffness in harmonic_terms(system):
        apart = float(np.linalg.norm(x[i] - x[j]))
        if length < CHEMICAL_NM and stiffness > CHEMICAL and apart > TORN * length:
            bond = f"{labels.bond(atoms[i], atoms[j])} are bonded and {apart:.2g} nm apart"
            raise MolecularSystemError(
                where,
                f"{bond}, as if something were missing there or atoms stood in another order",
                "put in what is missing, or give the atoms in the order of their topology",
            )


def check_unit(where: Path | str, x: NDArray[np.float64], system: openmm.System) -> None:
    """MolecularSystemError for positions [nm] ``(n_atoms, 3)`` in another unit, told by harmonic bonds."""
    ratios = [
        float(np.linalg.norm(x[i] - x[j])) / length
        for i, j, length, _ in harmonic_terms(system)
        if length > 0
    ]
    middle = float(np.median(ratios)) if ratios else 1.0
    for factor in UNITS:
        if 1 / TOLERANCE < middle / factor < TOLERANCE:
            raise MolecularSystemError(
                where,
                f"bonds are {middle:.2g} times as long as in the force field: {WRONG_LENGTHS[factor]}",
                f"divide the positions by {factor:g}",
            )


def check_kept(where: Path | str, system: MolecularSystem, before: NDArray[np.float64]) -> None:
    """MolecularSystemError where minimisation made another isomer of positions [nm] ``(n_atoms, 3)``."""
    try:
        domain = Domain(system)
    except MolecularSystemError:
        return  # a structure without an arrangement: told where the domain is needed
    x = torch.from_numpy(before)[None]
    if bool(domain.contains(x)):
        return
    changed = [name for name in domain.counts(x) if name not in COUNTS]
    raise MolecularSystemError(
        where,
        f"is so strained that minimisation turns over {listed(changed) if changed else 'its centres'}",
        "give a relaxed structure of the isomer that is meant",
    )


def check_topology(system: MolecularSystem) -> None:
    """MolecularSystemError for chemical bonds of the force field that the topology does not have.

    Those are short and stiff, unlike restraints and elastic networks, and no 1-3 terms.
    """
    atoms, labels, graph = list(system.topology.atoms()), system.labels, system.graph
    missing = [
        labels.bond(atoms[i], atoms[j])
        for i, j, length, stiffness in harmonic_terms(system.openmm_system)
        if atoms[i].element is not None
        and atoms[j].element is not None
        and not graph.has_edge(i, j)
        and not set(graph[i]) & set(graph[j])
        and length < CHEMICAL_NM
        and stiffness > CHEMICAL
    ]
    if missing:
        lacks = "a bond" if len(missing) == 1 else f"{len(missing)} bonds"
        raise MolecularSystemError(
            system.name,
            f"the topology lacks {lacks} that the force field has: {listed(missing)}",
            "add them to the topology, which tells what the molecule is",
        )
