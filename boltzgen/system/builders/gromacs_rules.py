"""What GROMACS does with a topology and OpenMM's reader does not: its pairs, its sections, its elements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import openmm
from openmm import app, unit

from boltzgen.errors import MolecularSystemError
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
_ISOTOPES, _HEAVIEST_HYDROGEN = 1.5, 4.5
"""Masses [Da] of one element differ by less; hydrogens with shared mass weigh less."""


class GromacsTopology(app.GromacsTopFile):  # type: ignore[misc]
    """OpenMM's reading of a topology, and which sections it has."""

    def __init__(self, path: Path) -> None:
        self.sections: set[str] = set()
        super().__init__(str(path))

    def _processLine(self, line: str, file: str) -> None:
        super()._processLine(line, file)
        self.sections |= {self._currentCategory} - {None}

    def molecules(self) -> Iterator[tuple[int, str, Any]]:
        """Index of the first atom, name and type of every molecule."""
        first = 0
        for name, count in self._molecules:
            for _ in range(count):
                yield first, name, self._moleculeTypes[name]
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
    for _, name, kind in read.molecules():
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
    zeroed = 0
    for first, _, kind in read.molecules():
        graph = nx.Graph((int(b[0]) - 1, int(b[1]) - 1) for b in kind.bonds)
        listed_pairs = {frozenset((int(p[0]) - 1, int(p[1]) - 1)) for p in kind.pairs}
        for atom, lengths in nx.all_pairs_shortest_path_length(graph, cutoff=_LINKED_BY):
            for other in (j for j, n in lengths.items() if n == _LINKED_BY and j > atom):
                pair = frozenset((first + atom, first + other))
                if frozenset((atom, other)) in listed_pairs or pair not in exceptions:
                    continue
                force, k = exceptions[pair]
                i, j, charge, sigma, epsilon = force.getExceptionParameters(k)
                if charge._value != 0.0 or epsilon._value != 0.0:
                    force.setExceptionParameters(k, i, j, 0.0, sigma, 0.0)
                    zeroed += 1
    return zeroed


def tell_elements_by_mass(where: Path, topology: app.Topology, system: openmm.System) -> tuple[str, ...]:
    """Give atoms the elements of their masses where the file tells none or another, in place.

    Atom types without an atomic number leave the reader to guess by the first letter.
    """
    masses = [system.getParticleMass(k).value_in_unit(unit.dalton) for k in range(system.getNumParticles())]
    atoms = list(topology.atoms())
    shared = any(
        atom.element is app.element.hydrogen and mass > 2.0 for atom, mass in zip(atoms, masses, strict=True)
    )
    told = []
    for atom, mass in zip(atoms, masses, strict=True):
        own = None if atom.element is None else atom.element.mass.value_in_unit(unit.dalton)
        hydrogen = atom.element is app.element.hydrogen and mass < _HEAVIEST_HYDROGEN
        if mass <= 0.0 or hydrogen or (own is not None and (shared or abs(mass - own) < _ISOTOPES)):
            continue
        found = app.Element.getByMass(mass)
        if shared or found is None or abs(found.mass.value_in_unit(unit.dalton) - mass) > _ISOTOPES:
            raise MolecularSystemError(
                where,
                f"does not tell the element of {atom.name}, which weighs {mass:.4g} Da",
                "put atomic numbers into [ atomtypes ]",
            )
        told.append(f"{atom.name} is {found.symbol}")
        atom.element = found
    return (f"{where}: elements are told by masses: {listed(told, 6)}",) if told else ()
