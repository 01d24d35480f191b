"""OpenMM Systems as XML, with the structure that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import openmm

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.bonds import constrained_pairs, custom_bonds, harmonic_bonds
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.inputs import InputOptions
from boltzgen.system.builders.masses import unlike_their_masses
from boltzgen.system.builders.solutes import check_no_solvent
from boltzgen.system.builders.starting_geometry import CHEMICAL, CHEMICAL_NM
from boltzgen.system.builders.structures import READERS, Structure, read_structure
from boltzgen.system.labels import Labels
from boltzgen.system.molecular_system import WITHOUT_ENERGY


def build_openmm_xml(
    path: Path, others: Sequence[Path], options: InputOptions
) -> tuple[Structure, openmm.System]:
    """Of an OpenMM System and the structure (PDB or mmCIF) that it is of."""
    for key, value in (
        ("implicit_solvent", options.implicit_solvent),
        ("nonbonded_cutoff_nm", options.nonbonded_cutoff_nm),
    ):
        if value is not None:
            raise MolecularSystemError(
                f"system.parameters.{key}", f"is what {path} says by itself", f"leave {key} out"
            )
    try:
        system = openmm.XmlSerializer.deserialize(path.read_text())
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            path,
            f"is an OpenMM System that cannot be read ({said_by(error)})",
            "write it again, without forces of plug-ins",
        ) from error
    if any(isinstance(force, openmm.CustomExternalForce) for force in system.getForces()):
        raise MolecularSystemError(
            path,
            "has a CustomExternalForce, which holds atoms to places",
            "take it out: a molecule may be anywhere",
        )
    structure = _structure(path, others, system.getNumParticles())
    _check_masses(path, structure, system)
    _match_bonds(path, structure, system)
    notices = (
        *_without_movers(path, system),
        *_without_box(path, system),
        *_without_constraints(path, system),
    )
    return replace(structure, notices=(*structure.notices, *notices)), system


def _structure(path: Path, others: Sequence[Path], n_particles: int) -> Structure:
    structures = [other for other in others if file_kinds.kind_of(other) in READERS]
    if len(structures) != 1 or len(others) != 1:
        raise MolecularSystemError(
            path,
            "needs the structure that it is of, and nothing else",
            "give one PDB or mmCIF file beside it",
        )
    structure = read_structure(structures[0])
    check_no_solvent(structures[0], structure.topology, structure.names)
    if len(structure.positions) != n_particles:
        raise MolecularSystemError(
            structures[0],
            f"has {len(structure.positions)} atoms, and {path} has {n_particles} particles",
            "give files of one molecule, without water and ions",
        )
    return structure


def _check_masses(path: Path, structure: Structure, system: openmm.System) -> None:
    """Refuse a structure whose elements are not those of the masses, which may be shared with hydrogens."""
    unlike, _ = unlike_their_masses(structure.topology, system)
    labels = Labels(structure.topology, structure.names)
    for atom, mass in ((atom, mass) for atom, mass in unlike if atom.element is not None):
        raise MolecularSystemError(
            path,
            f"particle {atom.index} weighs {mass:.4g} Da, and in the structure it is {labels.atom(atom)}",
            "give the structure that the System was made of",
        )


def _match_bonds(path: Path, structure: Structure, system: openmm.System) -> None:
    """Add to the topology, in place, chemical bonds that the file does not say; refuse others that it has."""
    atoms, labels = list(structure.topology.atoms()), Labels(structure.topology, structure.names)
    known = {(min(a.index, b.index), max(a.index, b.index)) for a, b in structure.topology.bonds()}
    chemical = {
        pair
        for pair, (length, stiffness) in harmonic_bonds(system).items()
        if length < CHEMICAL_NM and stiffness > CHEMICAL
    }
    held = chemical | custom_bonds(system) | constrained_pairs(system)
    if chemical and (loose := sorted(known - held)):
        raise MolecularSystemError(
            path,
            f"has no bond {labels.bond(*(atoms[k] for k in loose[0]))}, which the structure has",
            "give the structure that the System was made of, in its order of atoms",
        )
    for i, j in sorted(chemical - known):
        structure.topology.addBond(atoms[i], atoms[j])


def _without_movers(path: Path, system: openmm.System) -> list[str]:
    """Delete in place what is no energy; a line for each that people put there themselves."""
    told = []
    for index in reversed(range(system.getNumForces())):
        force = system.getForce(index)
        if type(force).__name__ in WITHOUT_ENERGY:
            if not isinstance(force, openmm.CMMotionRemover):
                told.append(f"{path}: its {type(force).__name__} is left out, which is no part of the energy")
            system.removeForce(index)
    return told


def _without_box(path: Path, system: openmm.System) -> list[str]:
    """Make every force one of a molecule alone, in place; a line if one was not."""
    if not system.usesPeriodicBoundaryConditions():
        return []
    for force in system.getForces():
        if not force.usesPeriodicBoundaryConditions():
            continue
        if hasattr(force, "setNonbondedMethod"):
            force.setNonbondedMethod(type(force).NoCutoff)
        if hasattr(force, "setUsesPeriodicBoundaryConditions"):
            force.setUsesPeriodicBoundaryConditions(False)
    return [
        f"{path}: was made for a periodic box; now there is none, and all pairs interact without a cutoff"
    ]


def _without_constraints(path: Path, system: openmm.System) -> list[str]:
    """Let bonds vibrate that a harmonic term describes beside their constraint, in place; a line if any."""
    bonds, freed = harmonic_bonds(system), 0
    for index in reversed(range(system.getNumConstraints())):
        i, j, _ = system.getConstraintParameters(index)
        if (min(i, j), max(i, j)) in bonds:
            system.removeConstraint(index)
            freed += 1
    return [f"{path}: {freed} constrained bonds vibrate, by their harmonic terms"] if freed else []
