"""Coordinates of files of their own, beside a topology: restarts and structures of any program."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from mdtraj.formats.gro import load_gro
from numpy.typing import NDArray
from openmm import app

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.solutes import check_one_molecule
from boltzgen.system.builders.structures import READERS, checked_file, nanometres, read_structure
from boltzgen.system.labels import Labels, symbol_of


@dataclass(frozen=True)
class Coordinates:
    """Positions [nm] ``(n_atoms, 3)``, and of each atom the element or the name where the file tells it.

    box
        Vectors of a periodic box [nm] ``(3, 3)``, if there is one.
    notices
        What was chosen in reading, a line each.
    """

    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None = None
    notices: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def _of_amber(path: Path) -> Coordinates:
    read = app.AmberInpcrdFile(str(path))
    box = None if read.boxVectors is None else nanometres(read.boxVectors)
    return Coordinates(nanometres(read.getPositions(asNumpy=True)), box)


def _of_gromacs(path: Path) -> Coordinates:
    """By MDTraj, which reads any number of decimals."""
    read = load_gro(str(path))
    vectors = None if read.unitcell_vectors is None else read.unitcell_vectors[0].astype(np.float64)
    several = (f"{path}: of {read.n_frames} frames the first is taken",) if read.n_frames > 1 else ()
    names = tuple(atom.name for atom in read.topology.atoms)
    box = vectors if vectors is not None and np.linalg.det(vectors) > 0 else None
    return Coordinates(read.xyz[0].astype(np.float64), box, several, names=names)


def _of_charmm(path: Path) -> Coordinates:
    read = app.CharmmCrdFile(str(path))
    return Coordinates(nanometres(read.positions), names=tuple(read.attype))


def _of_namd(path: Path) -> Coordinates:
    """A count, and positions in angstrom."""
    return Coordinates(np.fromfile(path, dtype="<f8", offset=4).reshape(-1, 3) / 10.0)


def _of_state(path: Path) -> Coordinates:
    state = openmm.XmlSerializer.deserialize(path.read_text())
    return Coordinates(nanometres(state.getPositions(asNumpy=True)))


RESTARTS: dict[file_kinds.FileKind, Callable[[Path], Coordinates]] = {
    file_kinds.AMBER_COORDINATES: _of_amber,
    file_kinds.NETCDF: _of_amber,
    file_kinds.GRO: _of_gromacs,
    file_kinds.CHARMM_COORDINATES: _of_charmm,
    file_kinds.NAMD_COORDINATES: _of_namd,
    file_kinds.STATE: _of_state,
}
"""How files of coordinates without a topology are read."""


def read_coordinates(path: Path) -> Coordinates:
    """Coordinates of one configuration; MolecularSystemError, one line, for anything else."""
    belongs = "coordinates (a PDB, mmCIF, rst7, NetCDF restart, gro, crd or an OpenMM State)"
    kind = checked_file(path, *RESTARTS, *READERS, belongs=belongs)
    if kind in READERS:
        structure = read_structure(path)
        names = tuple(atom.name for atom in structure.topology.atoms())
        return Coordinates(
            structure.positions, None, structure.notices, elements_of(structure.topology), names
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the reader of NetCDF
            return RESTARTS[kind](path)
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            path,
            f"holds no coordinates of one configuration ({said_by(error)})",
            "give a restart of one configuration, or a PDB",
        ) from error


def coordinates_beside(described: Path, topology: app.Topology, others: Sequence[Path]) -> Coordinates:
    """The coordinates among the files beside a topology, which are to be one file and of its molecule."""
    check_one_molecule(described, topology)
    if not others:
        raise MolecularSystemError(
            described, "comes without coordinates", "give those of the molecule too, as a restart or a PDB"
        )
    if len(others) > 1:
        raise MolecularSystemError(
            others[1], f"and {others[0]} both belong to {described}", "give one of them"
        )
    found = read_coordinates(others[0])
    check_pair(described, topology, others[0], found)
    if not np.isfinite(found.positions).all():
        raise MolecularSystemError(
            others[0], "has positions that are not finite", "give those of a relaxed structure"
        )
    return found


def elements_of(topology: app.Topology) -> tuple[str, ...]:
    """Chemical symbols, empty for particles that are no atoms."""
    return tuple(symbol_of(atom.element) for atom in topology.atoms())


def check_pair(described: Path, topology: app.Topology, path: Path, found: Coordinates) -> None:
    """Refuse coordinates of another number of atoms, of other elements, or in another order.

    The order is told by names that stand at another atom of their residue in the topology, but for hydrogens
    of one atom, which programs number in their own ways.
    """
    if topology.getNumAtoms() != len(found.positions):
        raise MolecularSystemError(
            path,
            f"has {len(found.positions)} atoms, and {described} has {topology.getNumAtoms()}",
            "give files that were written together",
        )
    remedy = f"give coordinates in the order of {described}"
    for k, (theirs, ours) in enumerate(zip(found.elements, elements_of(topology), strict=False)):
        if theirs and ours and theirs != ours:
            raise MolecularSystemError(path, f"atom {k} is {theirs}, and in {described} it is {ours}", remedy)
    labels = Labels(topology)
    holders = {a: b for bond in topology.bonds() for a, b in (bond, bond[::-1])}
    for atom, name in zip(topology.atoms(), found.names, strict=False):
        meant = next((other for other in atom.residue.atoms() if other.name == name), atom)
        both_hydrogens = atom.element is meant.element is app.element.hydrogen
        if meant is not atom and not (both_hydrogens and holders.get(meant) is holders.get(atom)):
            raise MolecularSystemError(
                path, f"atom {atom.index} is {name}, and in {described} it is {labels.atom(atom)}", remedy
            )
