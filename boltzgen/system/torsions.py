"""Torsions that tell conformers apart, found in the graph of a molecule and named as the field names them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import mdtraj
import networkx as nx
import numpy as np
from mdtraj.geometry import dihedral

from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.elements import element_graph, is_linear, stereo_elements

FLAT = 0.2
"""An atom with three neighbours is flat if it is nearer to their plane than this part of a bond."""
_PEPTIDE = {
    "phi": dihedral.indices_phi,
    "psi": dihedral.indices_psi,
    "omega": dihedral.indices_omega,
    "chi1": dihedral.indices_chi1,
    "chi2": dihedral.indices_chi2,
    "chi3": dihedral.indices_chi3,
    "chi4": dihedral.indices_chi4,
}
"""Torsions of peptides by IUPAC's names, MDTraj's functions of a topology."""


Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class FoundTorsion:
    """A torsion about a bond that turns: a name that may stand in a workflow file, and its four atoms."""

    name: str
    atoms: Four


def found_torsions(system: MolecularSystem) -> list[FoundTorsion]:
    """Torsions about every bond that turns between conformers, those of a peptide's backbone first.

    Left out are bonds of rings, bonds that do not turn (double bonds and amides, but for those before
    prolines and the like, of which both arrangements are populated) and those whose one end looks the same
    after a part of a turn: methyl groups, carboxylates, phenyl rings.
    """
    graph = element_graph(system)
    turning = _turning(system, graph)
    found = {}
    for kind, atoms in _peptide_torsions(system.mdtraj_topology):
        bond = frozenset(atoms[1:3])
        if bond in turning or kind in ("phi", "psi"):
            found[bond] = (kind, atoms)
    named = _with_residues(system, list(found.values()))
    for bond in sorted(turning - found.keys(), key=sorted):
        named.append(_by_atoms(system, graph, bond))
    return _unique(named)


def _peptide_torsions(topology: mdtraj.Topology) -> list[tuple[str, Four]]:
    """Kind and atoms of each, residue after residue."""
    each = [
        (kind, (int(a), int(b), int(c), int(d)))
        for kind, find in _PEPTIDE.items()
        for a, b, c, d in find(topology)
    ]
    order = list(_PEPTIDE)
    return sorted(each, key=lambda item: (topology.atom(item[1][2]).residue.index, order.index(item[0])))


def _turning(system: MolecularSystem, graph: nx.Graph) -> set[frozenset[int]]:
    """Bonds about which two ends turn that are told apart by it."""
    elements, _ = stereo_elements(system)
    rigid = {frozenset(e.atoms) for e in elements if len(e.atoms) == 2 and not e.crossed}
    bridges = {frozenset(bond) for bond in nx.bridges(graph)}
    colours = nx.weisfeiler_lehman_subgraph_hashes(graph, node_attr="label", iterations=graph.order())
    classes = {atom: hashes[-1] for atom, hashes in colours.items()}
    return {
        bond
        for bond in bridges - rigid
        if all(_is_an_end(system, graph, classes, (a, b)) for a, b in (sorted(bond), sorted(bond)[::-1]))
    }


def _is_an_end(
    system: MolecularSystem, graph: nx.Graph, classes: dict[int, str], bond: tuple[int, ...]
) -> bool:
    """Whether what the second atom of a bond carries shows how far it has turned."""
    other, atom = bond
    carried = sorted(set(graph.neighbors(atom)) - {other})
    if not carried or is_linear(system, graph, atom):
        return False
    if len(carried) == 1 or len({classes[j] for j in carried}) > 1:
        return True
    return len(carried) == 2 and not _is_flat(system, atom, [other, *carried])


def _is_flat(system: MolecularSystem, atom: int, three: list[int]) -> bool:
    """Whether an atom lies in the plane of its three neighbours."""
    x = system.positions
    normal = np.cross(x[three[1]] - x[three[0]], x[three[2]] - x[three[0]])
    away = abs(float((x[atom] - x[three[0]]) @ normal)) / float(np.linalg.norm(normal))
    return away < FLAT * float(np.linalg.norm(x[atom] - x[three[0]]))


def _with_residues(system: MolecularSystem, torsions: list[tuple[str, Four]]) -> list[tuple[str, Four]]:
    """Kinds with the number of the residue, where there are several of one kind."""
    counts = Counter(kind for kind, _ in torsions)
    residues = [
        atom.residue.id.strip() + atom.residue.insertionCode.strip() for atom in system.topology.atoms()
    ]
    return [
        (f"{kind}_{residues[atoms[2 if kind == 'phi' else 1]]}" if counts[kind] > 1 else kind, atoms)
        for kind, atoms in torsions
    ]


def _by_atoms(system: MolecularSystem, graph: nx.Graph, bond: frozenset[int]) -> tuple[str, Four]:
    """A torsion named by its four atoms, each end that of the lightest numbers among its heavy atoms."""
    b, c = sorted(bond)
    ends = [
        min(
            set(graph.neighbors(atom)) - bond,
            key=lambda j: (graph.nodes[j]["label"] in ("H", "D"), j),
        )
        for atom in (b, c)
    ]
    atoms = (ends[0], b, c, ends[1])
    names = [system.labels.name(atom) for atom in system.topology.atoms()]
    return "_".join(re.sub(r"\W", "", names[k]) for k in atoms), atoms


def _unique(named: list[tuple[str, Four]]) -> list[FoundTorsion]:
    """Names that occur twice get the indices of the bond."""
    counts = Counter(name for name, _ in named)
    return [
        FoundTorsion(name if counts[name] == 1 else f"{name}_{atoms[1]}_{atoms[2]}", atoms)
        for name, atoms in named
    ]
