"""Whether files hold one molecule: what is around it has no place in a density of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.parts import part_of_structure, part_of_system, put_together
from boltzgen.system.builders.structures import Structure
from boltzgen.system.labels import Labels, Names, listed, symbol_of

_WITHOUT = "take out all but the molecule; an implicit solvent may stand for water"
_UNNAMED = "name an implicit solvent (vacuum is one) for the molecule that is left without them"


def check_no_solvent(where: Path, topology: app.Topology, names: Names = ()) -> None:
    """MolecularSystemError, one line, for water and for ions, whatever they are called."""
    _, told = surroundings(topology, names)
    if told:
        raise MolecularSystemError(where, f"holds {told}", _WITHOUT)


def check_one_molecule(where: Path, topology: app.Topology) -> None:
    """MolecularSystemError, one line, for several molecules beside water and ions: nothing holds them."""
    around, _ = surroundings(topology)
    graph = nx.Graph()
    graph.add_nodes_from(atom.index for atom in topology.atoms() if atom.residue not in around)
    graph.add_edges_from((a.index, b.index) for a, b in topology.bonds() if a.residue not in around)
    parts = list(nx.connected_components(graph))
    if len(parts) > 1:
        labels, atoms = Labels(topology), list(topology.atoms())
        firsts = listed(labels.residue(atoms[min(part)].residue) for part in parts)
        raise MolecularSystemError(
            where, f"holds {len(parts)} molecules, which begin at {firsts}", "give the files of one molecule"
        )


def molecule_alone(
    where: Path,
    structure: Structure,
    system: openmm.System,
    box_nm: NDArray[np.float64] | None,
    solvent_is_named: bool,
) -> tuple[Structure, openmm.System]:
    """The molecule without water, ions and the box around it, with a line for what there was.

    box_nm
        That of the coordinates, ``(3, 3)``, if there is one.

    Raises MolecularSystemError, one line, for water with no solvent in its place.
    """
    around, told = surroundings(structure.topology, structure.names)
    said = []
    if told:
        if not solvent_is_named:
            raise MolecularSystemError(where, f"holds {told}", _UNNAMED)
        atoms = [a.index for a in structure.topology.atoms() if a.residue not in around]
        try:
            system = part_of_system(system, atoms)
        except ValueError as error:
            raise MolecularSystemError(
                where, f"holds {told} that cannot be left out ({error})", _WITHOUT
            ) from error
        structure = part_of_structure(structure, atoms)
        said.append(f"{where}: {told} are left out")
    if box_nm is not None and put_together(structure, box_nm):
        said.append(f"{where}: the molecule was parted by its periodic box and is put together")
    if structure.topology.getPeriodicBoxVectors() is not None:
        structure.topology.setPeriodicBoxVectors(None)
        said.append(f"{where}: was made for a periodic box; now there is none")
    return replace(structure, notices=(*structure.notices, *said)), system


def surroundings(topology: app.Topology, names: Names = ()) -> tuple[set[app.topology.Residue], str]:
    """Residues that are water or ions beside a molecule, and what they are in words, empty without any."""
    elements = {r: sorted(symbol_of(atom.element) for atom in r.atoms()) for r in topology.residues()}
    bonded = {atom.residue for bond in topology.bonds() for atom in bond}
    alone = [r for r, found in elements.items() if len(found) == 1 and r not in bonded]
    oxygens = [r for r in alone if elements[r] == ["O"]]  # of water without its hydrogens
    waters = [r for r, found in elements.items() if [e for e in found if e] == ["H", "H", "O"]] + oxygens
    ions = [r for r in alone if r not in oxygens and elements[r] not in (["C"], ["N"], ["H"])]
    if len(elements) == 1 or not (waters or ions):
        return set(), ""
    labels = Labels(topology, names)
    told = [f"{len(waters)} molecules of water"] if waters else []
    told += [f"{len(ions)} ions ({listed(labels.residue(r) for r in ions)})"] if ions else []
    return {*waters, *ions}, " and ".join(told)
