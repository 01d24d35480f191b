"""A molecule taken out of what surrounds it: the forces of its atoms among themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from boltzgen.system.builders.structures import Structure
from boltzgen.system.molecular_system import WITHOUT_ENERGY

_BY_ATOMS = frozenset(
    f"{name}Force"
    for name in (
        *("HarmonicBond", "HarmonicAngle", "PeriodicTorsion", "RBTorsion", "CMAPTorsion", "Nonbonded"),
        *("CustomBond", "CustomAngle", "CustomTorsion", "CustomNonbonded", "CustomGB", "GBSAOBC"),
    )
)
"""Forces whose terms name their particles, or are as many as there are particles."""
_PARTICLE = re.compile(r"[pab]\d|index|particle")
"""Attributes in OpenMM's XML that are numbers of particles."""


def part_of_system(system: openmm.System, atoms: Sequence[int]) -> openmm.System:
    """The forces of some particles among themselves, numbered anew.

    Raises ValueError, in words, for forces of which that is not known and particles that hang on others.
    """
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(system))
    number = {str(old): str(new) for new, old in enumerate(atoms)}
    particles = root.find("Particles")
    assert particles is not None
    _keep_positions(particles, atoms)
    if any(len(particle) for particle in particles):
        raise ValueError("it has virtual sites")
    forces = root.find("Forces")
    assert forces is not None
    for force in list(forces):
        kind = force.get("type", "")
        if kind in WITHOUT_ENERGY:
            forces.remove(force)
            continue
        groups = force.find("InteractionGroups")
        if kind not in _BY_ATOMS or (groups is not None and len(groups)) or len(force.findall("*Offsets/*")):
            raise ValueError(f"it has a {kind}, of which no part can be taken")
        for terms in force:
            _keep(terms, atoms, number, system.getNumParticles())
    for terms in root.findall("Constraints"):
        _keep(terms, atoms, number, system.getNumParticles())
    part: openmm.System = openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))
    return part


def _keep(terms: ElementTree.Element, atoms: Sequence[int], number: Mapping[str, str], n: int) -> None:
    """Of a list of terms, those of the part alone, in place; lists of other things stay as they are."""
    if terms.tag == "Particles" and len(terms) == n:
        _keep_positions(terms, atoms)
        return
    for term in list(terms):
        named = [key for key in term.attrib if _PARTICLE.fullmatch(key)]
        if not all(term.attrib[key] in number for key in named):
            terms.remove(term)
            continue
        term.attrib.update({key: number[term.attrib[key]] for key in named})


def _keep_positions(terms: ElementTree.Element, atoms: Sequence[int]) -> None:
    every = list(terms)
    terms[:] = [every[atom] for atom in atoms]


def part_of_structure(structure: Structure, atoms: Sequence[int]) -> Structure:
    """Some atoms of a structure, with the bonds among them."""
    wanted = set(atoms)
    modeller = app.Modeller(structure.topology, structure.positions * unit.nanometer)
    modeller.delete([atom for atom in structure.topology.atoms() if atom.index not in wanted])
    names = tuple(structure.names[atom] for atom in atoms) if structure.names else ()
    return replace(
        structure, topology=modeller.topology, positions=structure.positions[list(atoms)], names=names
    )


def put_together(structure: Structure, box_nm: NDArray[np.float64]) -> bool:
    """Bring atoms next to what they are bonded to, in place, where a box of vectors ``(3, 3)`` parts them.

    Returns whether any was parted.
    """
    x, graph = structure.positions, nx.Graph((a.index, b.index) for a, b in structure.topology.bonds())
    before = x.copy()
    for component in nx.connected_components(graph):
        for i, j in nx.bfs_edges(graph, min(component)):
            x[j] -= np.round(np.linalg.solve(box_nm.T, x[j] - x[i])) @ box_nm
    return bool(np.abs(x - before).max() > 0)
