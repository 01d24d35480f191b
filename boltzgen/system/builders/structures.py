"""Structures from PDB and mmCIF files: topology, positions, and the names that the file gives its atoms."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openmm import app, unit
from openmm.app.internal.pdbstructure import PdbStructure
from openmm.app.internal.pdbx.reader.PdbxReader import PdbxReader

from boltzgen.errors import MolecularSystemError, said_by
from boltzgen.system.builders import file_kinds
from boltzgen.system.builders.pdb_names import (
    Renamed,
    brought_together,
    check_columns,
    check_numbers,
    joined_chains,
    with_standard_residues,
    with_unique_names,
)
from boltzgen.system.labels import Labels, Names, listed


@dataclass(frozen=True)
class Structure:
    """The first model of a structure file.

    positions
        In nm, ``(n_atoms, 3)``.
    names
        Residue and atom names of the file, one pair for each atom, where OpenMM calls one otherwise; else
        none.
    notices
        What was mended or chosen in reading, a line each.
    """

    topology: app.Topology
    positions: NDArray[np.float64]
    names: Names = ()
    notices: tuple[str, ...] = ()


def kind_of_file(path: Path) -> file_kinds.FileKind:
    """What a file holds; MolecularSystemError where there is no such file."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no file of this name"
        raise MolecularSystemError(path, what, "paths start from the workflow file")
    return file_kinds.kind_of(path)


def checked_file(path: Path | str, *wanted: file_kinds.FileKind, belongs: str = "") -> file_kinds.FileKind:
    """The format of a file, one of those that are ``wanted``; MolecularSystemError, one line, for others.

    belongs
        What belongs here in words, where the names of the formats say too little.
    """
    path = Path(path)
    found = kind_of_file(path)
    if found not in wanted:
        remedy = f"give {belongs}" if belongs else found.remedy
        belongs = belongs or " or ".join(f.name for f in wanted)
        raise MolecularSystemError(path, f"is {found.name}, and {belongs} belongs here", remedy)
    return found


def nanometres(quantity: unit.Quantity) -> NDArray[np.float64]:
    """Positions of OpenMM's readers, as plain numbers in nm."""
    return np.array(quantity.value_in_unit(unit.nanometer), dtype=np.float64)


READERS: dict[file_kinds.FileKind, Callable[[Path, str], Structure]] = {}
"""How the text of a structure file is read, by what it is."""


def register(
    kind: file_kinds.FileKind,
    read: Callable[[Path, str], Structure],
    recognises: Callable[[str], bool] | None = None,
) -> None:
    """Let structures be given in another format: what it is called, how its text is read, and told apart."""
    READERS[kind] = read
    if recognises is not None:
        file_kinds.RECOGNISED.append((kind, recognises))


def read_structure(path: Path | str) -> Structure:
    """The structure of a file of any of `READERS`, told apart by content.

    Raises MolecularSystemError, one line, for anything else.
    """
    path = Path(path)
    found = checked_file(path, *READERS)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        return READERS[found](path, text)
    except MolecularSystemError:
        raise
    except Exception as error:  # OpenMM's readers raise whatever they come upon
        raise MolecularSystemError(
            path,
            f"looks like {found.name} and cannot be read ({said_by(error)})",
            "write it again with another program",
        ) from error


def _of_pdb(path: Path, text: str) -> Structure:
    """Of a PDB file.

    Atoms of a residue that share a name, which OpenMM would drop, are given names of their own where CONECT
    records say how they are bonded.
    """
    lines = text.splitlines(keepends=True)
    check_columns(path, lines)
    check_numbers(path, lines)
    lines, apart = brought_together(lines)
    lines, n_joined = joined_chains(lines)
    lines, called = with_standard_residues(lines)
    lines, renamed = with_unique_names(lines)
    said = _told(path, lines, renamed, apart, n_joined)
    pdb, names = _pdb(lines)
    original = {(r.residue, r.name): r.original for r in renamed}
    topology = pdb.topology
    file_names = [(called.get(key, res), original.get((key, name), name)) for key, res, name in names]
    if renamed:
        _check_renamed(path, lines, pdb, {(r.residue, r.name) for r in renamed}, names, file_names)
    structure = _structure(path, pdb, file_names)
    _check_disulfides(path, lines, topology)
    return Structure(topology, structure.positions, structure.names, said)


def _check_disulfides(path: Path, lines: list[str], topology: app.Topology) -> None:
    """Refuse where SSBOND records name more disulfides than sulfurs are near each other."""
    named = sum(line.startswith("SSBOND") for line in lines)
    found = sum(a.name == b.name == "SG" for a, b in topology.bonds())
    if named > found:
        raise MolecularSystemError(
            path,
            f"names {named} disulfides (SSBOND), and {found} pairs of sulfur are bonded or within 0.3 nm",
            "mend the structure, or take those records out",
        )


def _pdb(lines: list[str]) -> tuple[app.PDBFile, list[tuple[int, str, str]]]:
    """OpenMM's reading, and of each atom the number of its residue and both names, as the file has them.

    Of OpenMM's warnings, one is about atoms of one name, of which there are none left here, and one about
    neighbouring residues of one number, which does no harm.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = PdbStructure(io.StringIO("".join(lines)), load_all_models=True)
        pdb = app.PDBFile(structure)
    names = []
    for number, residue in enumerate(structure.iter_residues()):
        own = [a for a in residue.atoms_by_name.values() if a.residue_name == residue.get_name()]
        names += [(number, residue.get_name(), name) for name in dict.fromkeys(a.get_name() for a in own)]
    return pdb, names


def _check_renamed(
    path: Path,
    lines: list[str],
    pdb: app.PDBFile,
    renamed: set[tuple[int, str]],
    names: list[tuple[int, str, str]],
    file_names: list[tuple[str, str]],
) -> None:
    """Refuse where it is by name that OpenMM knows the bonds of a residue, or where no bonds are given."""
    named, _ = _pdb([line for line in lines if not line.startswith("CONECT")])
    by_name = {atom.index for bond in named.topology.bonds() for atom in bond}
    bonded = {atom.index for bond in pdb.topology.bonds() for atom in bond}
    labels = Labels(pdb.topology, tuple(file_names))
    for atom, (number, _, name) in zip(pdb.topology.atoms(), names, strict=True):
        several = len(list(atom.residue.atoms())) > 1
        if (number, name) in renamed and (atom.index in by_name or (several and atom.index not in bonded)):
            alike = [a for a in atom.residue.atoms() if labels.name(a) == labels.name(atom)]
            raise MolecularSystemError(
                path,
                f"{len(alike)} atoms of {labels.residue(atom.residue)} are called {labels.name(atom)}, and "
                "nothing else says which is bonded to which",
                "give each a name of its own, or a CONECT record for every bond of the residue",
            )


def _told(path: Path, lines: list[str], renamed: list[Renamed], apart: int, n_joined: int) -> tuple[str, ...]:
    notices = [f"{path}: atoms of {apart} residues stood apart and were brought together"] if apart else []
    if n_joined:
        notices.append(f"{path}: chains that {n_joined} peptide bonds join are read as one")
    if renamed:
        told = [f"{r.original} is {r.name}" for r in renamed]
        where = listed(r.label for r in renamed)
        notices.append(
            f"{path}: atoms of {where} share their names and are told apart: {listed(told, 8)}, in the order "
            "of the file"
        )
    alternates = {line[16] for line in lines if line.startswith(("ATOM", "HETATM"))} - {" "}
    models = sum(line.startswith("MODEL ") for line in lines)
    return (*notices, *_chosen(path, alternates, models))


def _chosen(path: Path, alternates: set[str], models: int) -> tuple[str, ...]:
    """Lines for what is one of several in a file."""
    said = []
    if len(alternates) > 1:
        told = ", ".join(sorted(alternates))
        said.append(f"{path}: of the alternate locations {told} the first of each atom is taken")
    if models > 1:
        said.append(f"{path}: of {models} models the first is taken")
    return tuple(said)


def _of_mmcif(path: Path, text: str) -> Structure:
    blocks: list[object] = []
    PdbxReader(io.StringIO(text)).read(blocks)
    table = blocks[0].getObj("atom_site")  # type: ignore[attr-defined]
    columns = {name: table.getAttributeIndex(name) for name in table.getAttributeList()}

    def column(*names: str) -> int:
        return int(next(columns[name] for name in names if name in columns))

    identity, atom_name = columns["id"], column("auth_atom_id", "label_atom_id")
    residue_name = column("auth_comp_id", "label_comp_id")
    rows = {row[identity]: (row[residue_name], row[atom_name]) for row in table.getRowList()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pdb = app.PDBxFile(io.StringIO(text))
    pdb.topology.createDisulfideBonds(pdb.positions)  # as OpenMM's reader of PDB files does
    structure = _structure(path, pdb, [rows[atom.id] for atom in pdb.topology.atoms()])
    _check_mmcif(path, pdb.topology, structure)

    def values(name: str) -> set[str]:
        return {row[columns[name]] for row in table.getRowList()} - {".", "?"} if name in columns else set()

    said = _chosen(path, values("label_alt_id"), len(values("pdbx_PDB_model_num")))
    return replace(structure, notices=said)


def _check_mmcif(path: Path, topology: app.Topology, structure: Structure) -> None:
    """Refuse residues in several places, and atoms of one name, which bonds by name cannot tell apart."""
    labels = Labels(topology, structure.names)
    for chain in topology.chains():
        places = Counter(labels.residue(residue) for residue in chain.residues())
        if apart := [label for label, count in places.items() if count > 1]:
            raise MolecularSystemError(
                path,
                f"the atoms of {apart[0]} are in {places[apart[0]]} places of the file",
                "put all atoms of a residue one after another, or number residues anew",
            )
    for residue in topology.residues():
        counts = Counter(labels.name(atom) for atom in residue.atoms())
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise MolecularSystemError(
                path,
                f"{counts[twice[0]]} atoms of {labels.residue(residue)} are called {twice[0]}",
                "give each a name of its own",
            )


def _structure(path: Path, pdb: app.PDBFile | app.PDBxFile, names: list[tuple[str, str]]) -> Structure:
    topology = pdb.topology
    topology.setPeriodicBoxVectors(None)
    if not topology.getNumAtoms():
        raise MolecularSystemError(path, "holds no atoms", "give a structure")
    own = [(atom.residue.name, atom.name) for atom in topology.atoms()]
    positions = nanometres(pdb.getPositions(asNumpy=True))
    return Structure(topology, positions, tuple(names) if names != own else ())


register(file_kinds.PDB, _of_pdb)
register(file_kinds.MMCIF, _of_mmcif)
