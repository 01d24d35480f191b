"""Stereochemistry that the molecular graph does not tell and that dynamics never changes.

What there may be is found from elements, bonds and the force field's torsional barriers, never from charges,
the order of the atoms or CIP rules. Hydrogens of one carbon, and equal branches of any atom, make no centre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
import torch
from openmm import unit
from torch import Tensor

from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.automorphisms import Core, core_of
from boltzgen.system.stereochemistry.barriers import has_terms, rotation_barriers

Kind = Literal["centre", "double bond", "amide", "axis"]
NEVER_CROSSED = 60.0
"""Torsional barrier [kJ/mol] of a bond about which dynamics does not turn: 24 kT at 300 K; amides have 80."""
DOUBLE_NM = 0.138
"""Length [nm] below which a bond that is told by it is double: of C=C 0.134, between two of them 0.146."""
SMALL_RING = 7
"""Atoms of the largest ring in which a bond has only one arrangement."""
LEAST_ORTHO = 3
"""Crowded places beside a biaryl bond from which on it does not turn; four where a ring has five atoms."""
SMALL = {"H", "D", "F"}
"""Elements that do not crowd a biaryl bond."""
COS_LINEAR = 0.87
"""Cosine of the largest deviation from a line, 30 degrees."""
TETRAHEDRAL = {"B", "C", "Si", "Ge", "N", "P", "As", "S", "Se"}
"""Elements that are centres with four neighbours."""
PYRAMIDAL = {"P", "As", "S", "Se", "Te"}
"""Elements that keep their arrangement with three (phosphines, sulfoxides); amines do not."""
DEUTERIUM = 2.014
"""Mass [Da] of the hydrogen that is another atom than hydrogen."""


@dataclass(frozen=True)
class StereoElement:
    """A centre, a bond that does not turn, or an axis, with what is arranged about it.

    atoms
        The centre, or the two ends of the bond.
    substituents
        For each of them its neighbours, apart from the other end, in the order that signs refer to.
    crossed
        Whether both arrangements are populated, slowly as one turns into the other.
    """

    kind: Kind
    atoms: tuple[int, ...]
    substituents: tuple[tuple[int, ...], ...]
    crossed: bool = False

    @property
    def odd(self) -> bool:
        """Whether reflection changes its sign."""
        return self.kind in ("centre", "axis")

    def value(self, x: Tensor) -> Tensor:
        """A number whose sign is the arrangement, ``(n, n_atoms, 3) -> (n,)``.

        It changes sign where two substituents of one atom are exchanged. Centres: the volume that four
        neighbours, or three and the centre, span. Bonds: positive where the first substituents of both ends
        are cis. Axes: positive where they turn to the right.
        """
        if self.kind == "centre":
            a, b, c, d = (x[..., i, :] for i in (*self.substituents[0], *self.atoms)[:4])
            return (torch.linalg.cross(a - d, b - d) * (c - d)).sum(-1)
        b, c = (x[..., atom, :] for atom in self.atoms)
        axis = torch.nn.functional.normalize(c - b, dim=-1)
        u, v = (self._across(x, end) for end in (0, 1))
        if self.kind == "axis":
            return (axis * torch.linalg.cross(u, v)).sum(-1)
        return (u * v).sum(-1) - (u * axis).sum(-1) * (v * axis).sum(-1)

    def _across(self, x: Tensor, end: int) -> Tensor:
        """The vector from the second substituent of an end, or the end itself, to the first."""
        first, *others = self.substituents[end]
        return x[..., first, :] - x[..., others[0] if others else self.atoms[end], :]


def stereo_elements(system: MolecularSystem) -> tuple[list[StereoElement], Core]:
    """Everything that may have two arrangements, and the core of the molecular graph that holds it.

    An element may still turn out to be none: where a relabelling of equivalent atoms changes its sign alone.
    """
    graph = element_graph(system)
    stiff = list(_stiff_bonds(system, graph))
    stiff_bonds = {frozenset(element.atoms) for element in stiff}
    axes = [element for element in _axes(graph) if frozenset(element.atoms) not in stiff_bonds]
    possible = [*_centres(graph), *stiff, *axes]
    at = {atom: [element for element in possible if atom in element.atoms] for atom in graph}

    def matters(atom: int, branches: list[int], colours: list[str]) -> bool:
        distinct = len(set(colours)) == len(colours)
        return distinct and any(not set(element.atoms) & set(branches) for element in at[atom])

    core = core_of(graph, matters)

    def kept(element: StereoElement) -> bool:
        colours = [[core.colours[b] for b in core.branches[atom]] for atom in element.atoms]
        return all(atom in core.graph for atom in element.atoms) and all(
            len(set(c)) == len(c) for c in colours
        )

    return [element for element in possible if kept(element)], core


def element_graph(system: MolecularSystem) -> nx.Graph:
    """Elements and bonds alone: the ``label`` of an atom is its element, deuterium told by its mass."""
    graph = nx.Graph()
    for atom in system.topology.atoms():
        label = atom.element.symbol if atom.element is not None else atom.name
        mass = system.openmm_system.getParticleMass(atom.index).value_in_unit(unit.dalton)
        graph.add_node(atom.index, label="D" if label == "H" and abs(mass - DEUTERIUM) < 0.05 else label)
    graph.add_edges_from(system.bonds)
    return graph


def _ordered(graph: nx.Graph, atom: int, without: int | None = None) -> tuple[int, ...]:
    """Neighbours of an atom: those that a chain goes on with first, hydrogens last."""
    others = set(graph.neighbors(atom)) - {without}
    return tuple(sorted(others, key=lambda j: (graph.nodes[j]["label"] in "HD", graph.degree(j) == 1, j)))


def _centres(graph: nx.Graph) -> Iterator[StereoElement]:
    for atom, label in graph.nodes(data="label"):
        degree = graph.degree(atom)
        if (degree == 4 and label in TETRAHEDRAL) or (degree == 3 and label in PYRAMIDAL):
            yield StereoElement("centre", (atom,), (_ordered(graph, atom),))


def _stiff_bonds(system: MolecularSystem, graph: nx.Graph) -> Iterator[StereoElement]:
    """Bonds of flat atoms outside of small rings that the force field does not let turn.

    Amides are among them; of those without hydrogen (before proline) both arrangements are populated.
    """
    bonds = [bond for bond in system.bonds if all(graph.degree(atom) in (2, 3) for atom in bond)]
    bonds = [bond for bond in bonds if not any(is_linear(system, graph, atom) for atom in bond)]
    bonds = [bond for bond in bonds if not _in_ring(graph, *bond)]
    if has_terms(system):
        barriers = rotation_barriers(system, bonds)
        bonds = [bond for bond in bonds if barriers[bond] >= NEVER_CROSSED]
    else:
        bonds = [bond for bond in bonds if _amide(graph, *bond) or _is_double(system, graph, *bond)]
    for bond in bonds:
        amide = _amide(graph, *bond)
        ends = tuple(_ordered(graph, bond[k], bond[1 - k]) for k in (0, 1))
        yield StereoElement("amide" if amide else "double bond", bond, ends, amide == "tertiary")


def _is_double(system: MolecularSystem, graph: nx.Graph, a: int, b: int) -> bool:
    """Whether a bond of carbon and nitrogen is as short as double ones are in the reference."""
    both = {graph.nodes[a]["label"], graph.nodes[b]["label"]} <= {"C", "N"}
    return both and float(np.linalg.norm(system.positions[a] - system.positions[b])) < DOUBLE_NM


def _amide(graph: nx.Graph, a: int, b: int) -> str:
    """``secondary`` or ``tertiary`` for the bond of an amide, else nothing."""
    for carbon, nitrogen in ((a, b), (b, a)):
        labels = [graph.nodes[carbon]["label"], graph.nodes[nitrogen]["label"]]
        if labels != ["C", "N"] or graph.degree(nitrogen) != 3:
            continue
        if any(
            graph.nodes[j]["label"] in ("O", "S") and graph.degree(j) == 1 for j in graph.neighbors(carbon)
        ):
            hydrogens = [j for j in graph.neighbors(nitrogen) if graph.nodes[j]["label"] in "HD"]
            return "secondary" if hydrogens else "tertiary"
    return ""


def is_linear(system: MolecularSystem, graph: nx.Graph, atom: int) -> bool:
    """Whether the two neighbours of an atom lie in a line in the reference: nothing turns about its bonds."""
    if graph.degree(atom) != 2:
        return False
    u, v = (system.positions[j] - system.positions[atom] for j in graph.neighbors(atom))
    return graph.nodes[atom]["label"] == "C" or float(u @ v) < -COS_LINEAR * math.sqrt((u @ u) * (v @ v))


def _axes(graph: nx.Graph) -> Iterator[StereoElement]:
    """Bonds between two small rings of flat atoms that their neighbours keep from turning (biaryls)."""
    for a, b in graph.edges:
        if not (_is_flat(graph, a) and _is_flat(graph, b)) or _in_ring(graph, a, b):
            continue
        ends = _ordered(graph, a, b), _ordered(graph, b, a)
        pairs = [(end, j) for end, others in zip((a, b), ends, strict=True) for j in others]
        if not all(_in_ring(graph, *pair) for pair in pairs):
            continue
        wide = not any(_in_ring(graph, *pair, largest=5) for pair in pairs)
        if sum(_is_crowded(graph, j) for _, j in pairs) >= (LEAST_ORTHO if wide else 4):
            yield StereoElement("axis", (a, b), ends)


def _is_flat(graph: nx.Graph, atom: int) -> bool:
    """Carbon with three neighbours, or nitrogen with three beside such a carbon (pyrroles, lactams)."""
    label = graph.nodes[atom]["label"]
    if graph.degree(atom) != 3 or label not in ("C", "N"):
        return False
    beside = [j for j in graph.neighbors(atom) if _in_ring(graph, atom, j)]
    return label == "C" or any(graph.nodes[j]["label"] == "C" and graph.degree(j) == 3 for j in beside)


def _is_crowded(graph: nx.Graph, atom: int) -> bool:
    """Whether an atom of a ring has a third neighbour larger than fluorine."""
    return sum(graph.nodes[j]["label"] not in SMALL for j in graph.neighbors(atom)) > 2


def _in_ring(graph: nx.Graph, a: int, b: int, largest: int = SMALL_RING) -> bool:
    """Whether the bond is part of a ring of at most so many atoms."""
    without = nx.restricted_view(graph, [], [(a, b)])
    return b in nx.single_source_shortest_path_length(without, a, cutoff=largest - 1)
