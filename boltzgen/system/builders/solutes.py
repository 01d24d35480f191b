"""Whether files hold one molecule: what is around it has no place in a density of its own."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
from openmm import app

from boltzgen.errors import MolecularSystemError
from boltzgen.system.labels import Labels, Names, listed, symbol_of

_WITHOUT = (
    "take out all but the molecule (cpptraj `strip`; gmx trjconv and the lines of [ molecules ]), and name "
    "an implicit solvent"
)


def check_no_solvent(where: Path, topology: app.Topology, names: Names = ()) -> None:
    """MolecularSystemError, one line, for water and for ions, whatever they are called."""
    elements = {r: sorted(symbol_of(atom.element) for atom in r.atoms()) for r in topology.residues()}
    bonded = {atom.residue for bond in topology.bonds() for atom in bond}
    alone = [r for r, found in elements.items() if len(found) == 1 and r not in bonded]
    oxygens = [r for r in alone if elements[r] == ["O"]]  # of water without its hydrogens
    waters = [r for r, found in elements.items() if [e for e in found if e] == ["H", "H", "O"]] + oxygens
    ions = [r for r in alone if r not in oxygens]
    if len(elements) == 1 or not (waters or ions):
        return
    labels = Labels(topology, names)
    told = [f"{len(waters)} molecules of water"] if waters else []
    told += [f"{len(ions)} ions ({listed(labels.residue(r) for r in ions)})"] if ions else []
    raise MolecularSystemError(where, f"holds {' and '.join(told)}", _WITHOUT)


def check_one_molecule(where: Path, topology: app.Topology) -> None:
    """MolecularSystemError, one line, for several molecules, which nothing keeps together."""
    check_no_solvent(where, topology)
    graph = nx.Graph()
    graph.add_nodes_from(range(topology.getNumAtoms()))
    graph.add_edges_from((a.index, b.index) for a, b in topology.bonds())
    parts = list(nx.connected_components(graph))
    if len(parts) > 1:
        labels, atoms = Labels(topology), list(topology.atoms())
        firsts = listed(labels.residue(atoms[min(part)].residue) for part in parts)
        raise MolecularSystemError(
            where, f"holds {len(parts)} molecules, which begin at {firsts}", "give the files of one molecule"
        )
