"""What GROMACS does with a topology and OpenMM's reader does not: its pairs, its sections, its elements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import openmm
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
from boltzgen.system.builders.masses import ISOTOPES, unlike_their_masses
from boltzgen.system.labels import listed

_READ = frozenset(
    (
        *(
            "defaults",
            "system",
            "molecules",
            "moleculetype",
            "atoms",
            "bonds",
            "angles",
            "dihedrals",
            "pairs",
        ),
        *("exclusions", "constraints", "settles", "cmap", "atomtypes", "bondtypes", "angletypes"),
        *("dihedraltypes", "pairtypes", "cmaptypes", "constrainttypes", "nonbond_params"),
        *("virtual_sites2", "virtual_sites3", "dummies2", "dummies3"),
        *("implicit_genborn_params", "implicit_surface_params"),
    )
)
"""Sections that are read, or that say nothing of an energy without a solvent of GROMACS's own."""
_RESTRAINTS = "position_restraints"
_LINKED_BY = 3
"""Bonds between atoms of a pair, and GROMACS's nrexcl for molecules."""


class GromacsTopology(app.GromacsTopFile):  # type: ignore[misc]
    """OpenMM's reading of a topology, and which sections it has."""

    def __init__(self, path: Path) -> None:
        self.sections: set[str] = set()
        super().__init__(str(path))

    def _processLine(self, line: str, file: str) -> None:
        super()._processLine(line, file)
        self.sections |= {self._currentCategory} - {None}

    def types(self) -> dict[str, Any]:
        """The types of molecules that there are, by name."""
        return {name: self._moleculeTypes[name] for name, _ in self._molecules}

    def molecules(self) -> Iterator[tuple[int, str]]:
        """Index of the first atom and name of the type of every molecule."""
        first = 0
        for name, count in self._molecules:
            for _ in range(count):
                yield first, name
                first += len(self._moleculeTypes[name].atoms)


def check_sections(where: Path, read: GromacsTopology) -> tuple[str, ...]:
    """Refuse sections that would be passed over without a word; a line for restraints to places."""
    unknown = read.sections - _READ - {_RESTRAINTS}
    if unknown:
        raise MolecularSystemError(
            where, f"has [ {sorted(unknown)[0]} ], which is not read", "take that section out if it may go"
        )
    return (f"{where}: its [ {_RESTRAINTS} ] are left out",) if _RESTRAINTS in read.sections else ()


def check_molecule_types(where: Path, read: GromacsTopology) -> None:
    """Refuse molecules whose exclusions or constraints the reader takes for others."""
    for name, kind in read.types().items():
        if len(kind.atoms) <= _LINKED_BY:  # water and ions
            continue
        if kind.nrexcl != _LINKED_BY:
            raise MolecularSystemError(
                where,
                f"excludes neighbours over {kind.nrexcl} bonds (nrexcl of {name})",
                f"only {_LINKED_BY} is known here",
            )
        if kind.constraints and len(kind.constraints) + len(kind.bonds) < len(kind.atoms):
            raise MolecularSystemError(
                where,
                f"has [ constraints ] in place of bonds of {name}, which have no force",
                "write it with constraints = none, so that every bond is among [ bonds ]",
            )


def zero_pairs_not_listed(read: GromacsTopology, system: openmm.System) -> int:
    """Set what is three bonds apart and not among [ pairs ] to zero, in place; how many there were.

    OpenMM's reader makes a pair of all of them.
    """
    forces = [force for force in system.getForces() if isinstance(force, openmm.NonbondedForce)]
    exceptions = {
        frozenset(force.getExceptionParameters(k)[:2]): (force, k)
        for force in forces
        for k in range(force.getNumExceptions())
    }
    unlisted = {name: _not_listed(kind) for name, kind in read.types().items()}
    zeroed = 0
    for first, name in read.molecules():
        for atom, other in unlisted[name]:
            force, k = exceptions.get(frozenset((first + atom, first + other)), (None, 0))
            if force is None:
                continue
            i, j, charge, sigma, epsilon = force.getExceptionParameters(k)
            if charge._value != 0.0 or epsilon._value != 0.0:
                force.setExceptionParameters(k, i, j, 0.0, sigma, 0.0)
                zeroed += 1
    return zeroed


def _not_listed(kind: Any) -> list[tuple[int, int]]:
    """Pairs of atoms of a molecule, from 0, that are three bonds apart and not among its [ pairs ]."""
    graph = nx.Graph((int(bond[0]) - 1, int(bond[1]) - 1) for bond in kind.bonds)
    pairs = {frozenset((int(pair[0]) - 1, int(pair[1]) - 1)) for pair in kind.pairs}
    return [
        (atom, other)
        for atom, lengths in nx.all_pairs_shortest_path_length(graph, cutoff=_LINKED_BY)
        for other, n_bonds in lengths.items()
        if n_bonds == _LINKED_BY and other > atom and frozenset((atom, other)) not in pairs
    ]


def tell_elements_by_mass(where: Path, topology: app.Topology, system: openmm.System) -> tuple[str, ...]:
    """Give atoms the elements of their masses where the file tells none or another, in place.

    Atom types without an atomic number leave the reader to guess by the first letter.
    """
    unlike, shared = unlike_their_masses(topology, system)
    told = []
    for atom, mass in unlike:
        found = app.Element.getByMass(mass)
        if shared or found is None or abs(found.mass.value_in_unit(unit.dalton) - mass) > ISOTOPES:
            raise MolecularSystemError(
                where,
                f"does not tell the element of {atom.name}, which weighs {mass:.4g} Da",
                "put atomic numbers into [ atomtypes ]",
            )
        told.append(f"{atom.name} is {found.symbol}")
        atom.element = found
    return (f"{where}: elements are told by masses: {listed(told, 6)}",) if told else ()
