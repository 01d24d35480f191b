"""Whether the energy holds a system together: molecules that fly apart, bonds that have no force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
import numpy as np
import openmm
import torch
from numpy.typing import NDArray

from boltzgen.errors import MolecularSystemError
from boltzgen.potential import Potential, make_potential
from boltzgen.potential.platforms import installed_platforms
from boltzgen.system.bonds import custom_bonds, harmonic_bonds, side_of
from boltzgen.system.labels import listed
from boltzgen.system.molecular_system import MolecularSystem

HELD_KT = 28.0
"""A well of this depth holds for the time of any simulation: exp(28) attempts are a second of vibrations."""
NOTHING_KT = 4.0
"""A well of this depth or less is not worth telling: what is not bonded attracts as much."""
FAR_NM = (5.0, 20.0, 80.0)
"""How far parts are moved away."""
_RISES_KT = 0.5
"""An energy that rises by more than this from one distance to the next is still held, as ions are."""
_STEP_NM = 0.004
_SOFTEST = 8.0
"""Least stiffness of a bond, in kT over its squared length: one that vibrates by a third of its length."""
_MOST_EXACT = 60
"""Atoms up to which energies in double precision are fast enough."""
_MOST_TOGETHER = 6
"""Molecules up to which every way of parting them is tried; beyond, each alone."""
_MOST_PARTS = 24
_MOST_BRIDGES = 80
"""Bonds up to which all are tried; beyond, those alone that no harmonic term holds."""
_WITHOUT_PAIRS = {
    "HarmonicAngleForce",
    "PeriodicTorsionForce",
    "RBTorsionForce",
    "CMAPTorsionForce",
    "CustomAngleForce",
    "CustomTorsionForce",
    "NonbondedForce",
    "CustomNonbondedForce",
    "GBSAOBCForce",
    "CustomGBForce",
    "CMMotionRemover",
}
"""Forces in which no bond can be hidden."""
_DIRECTIONS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)

Part = tuple[int, ...]


def check_cohesion(system: MolecularSystem) -> None:
    """Raise MolecularSystemError for molecules that nothing holds together and for bonds without a force.

    Found by the energy itself. A part is moved away rigidly, by up to 80 nm: it is held if that costs more
    than `HELD_KT` or if the energy keeps rising. The parts are molecules, single and in groups, and the
    smaller side of every bond that is in no ring. A bond that is in one, or whose ends something else holds,
    has a force if the energy couples displacements of its two atoms along it.
    """
    fast = system.n_atoms > _MOST_EXACT and "CPU" in installed_platforms()
    potential = make_potential(system, backend="openmm", platform="CPU" if fast else "Reference")
    energies = _Energies(system, potential)
    _check_molecules(system, energies)
    _check_bonds(system, energies)


def stiffness_of(system: MolecularSystem, bonds: Sequence[tuple[int, int]]) -> list[float]:
    """Force constants [kJ/mol/nm^2] of bonds of any kind in the reference configuration."""
    if not bonds:
        return []
    energies = _Energies(system, make_potential(system, backend="openmm", platform="Reference"))
    return [system.kT * energies.stiffness(*bond) for bond in bonds]


class _Energies:
    """Reduced energies of displaced copies of the reference configuration, relative to its own."""

    def __init__(self, system: MolecularSystem, potential: Potential) -> None:
        self.positions, self.potential = system.positions, potential
        self.reference = self._of([np.zeros_like(system.positions)])[0]

    def __call__(self, displacements: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        return self._of(displacements) - self.reference

    def _of(self, displacements: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        x = torch.as_tensor(np.stack([self.positions + d for d in displacements]))
        energy, _ = self.potential.energy_and_forces(x)
        u: NDArray[np.float64] = energy.numpy() / self.potential.kT
        return u

    def escape(self, part: Part, direction: NDArray[np.float64]) -> float:
        """What it costs [kT] ``part`` to fly away along a unit vector; inf where it is held.

        It is held if the cost is great or keeps rising.
        """
        last = float(self([self._moved(part, FAR_NM[-1] * direction)])[0])
        if not last < HELD_KT:
            return math.inf
        before = self([self._moved(part, distance * direction) for distance in FAR_NM[:-1]])
        return last if last - before[-1] < _RISES_KT else math.inf

    def stiffness(self, i: int, j: int) -> float:
        """Second derivative of ``u`` in the length of a bond, its direct part [1/nm^2].

        Moving both atoms along their common line changes no angle or torsion that both are in, so that in
        ``u(i, j) - u(i) - u(j)`` all that is left is what depends on their distance.
        """
        along = self.positions[j] - self.positions[i]
        along /= np.linalg.norm(along)
        first, second = self._moved((i,), -_STEP_NM * along), self._moved((j,), _STEP_NM * along)
        both, one, other = self([first + second, first, second])
        return float((both - one - other) / _STEP_NM**2)

    def _moved(self, part: Part, by: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = np.zeros_like(self.positions)
        moved[list(part)] = by
        return moved


def _check_molecules(system: MolecularSystem, energies: _Energies) -> None:
    molecules = [tuple(sorted(part)) for part in nx.connected_components(system.graph)]
    for part in _groups(molecules):
        away = system.positions[list(part)].mean(0) - np.delete(system.positions, list(part), 0).mean(0)
        away = away / np.linalg.norm(away) if np.linalg.norm(away) > 0 else _DIRECTIONS[0]
        cost = min(energies.escape(part, direction) for direction in (away, *_DIRECTIONS))
        if cost < math.inf:
            group = [molecule for molecule in molecules if set(molecule) <= set(part)]
            rest = [molecule for molecule in molecules if molecule not in group]
            one, other = sorted((group, rest))
            raise MolecularSystemError(
                system.name,
                f"{_held_by(cost)} holds {_told(system, one)} together with {_told(system, other)}: they fly "
                f"apart",
                "add a restraint between them, a force that grows with their distance, or take one molecule "
                "at a time",
            )


def _groups(molecules: Sequence[Part]) -> list[Part]:
    """Every way of parting few molecules, by the part without the first; of many a sample of single ones."""
    if len(molecules) > _MOST_TOGETHER:
        chosen = np.unique(np.linspace(0, len(molecules) - 1, _MOST_PARTS).astype(int))
        return [molecules[k] for k in chosen]
    others = molecules[1:]
    choices = (itertools.combinations(others, n) for n in range(1, len(molecules)))
    return [tuple(itertools.chain(*choice)) for choice in itertools.chain(*choices)]


def _check_bonds(system: MolecularSystem, energies: _Energies) -> None:
    harmonic, others = set(harmonic_bonds(system.openmm_system)), custom_bonds(system.openmm_system)
    bridges = {(min(bond), max(bond)) for bond in nx.bridges(system.graph)}
    tried = bridges if len(bridges) <= _MOST_BRIDGES else bridges - harmonic
    costs = {bond: _cost_of_breaking(system, energies, bond) for bond in sorted(tried)}
    _check_breaking(system, {bond: cost for bond, cost in costs.items() if bond in others})
    loose = {bond for bond, cost in costs.items() if cost < math.inf}
    if _can_tell_pairs(system.openmm_system):
        softest = {
            bond: _SOFTEST / np.linalg.norm(np.diff(system.positions[list(bond)], axis=0)) ** 2
            for bond in system.bonds
            if bond not in harmonic | others | loose
        }
        loose |= {bond for bond, least in softest.items() if energies.stiffness(*bond) < least}
    if not loose:
        return
    atoms, labels = list(system.topology.atoms()), system.labels
    bonds = [labels.bond(atoms[i], atoms[j]) for i, j in sorted(loose)]
    are = "bonds of the topology are" if len(bonds) > 1 else "bond of the topology is"
    raise MolecularSystemError(
        system.name,
        f"{len(bonds)} {are} held by no force: {listed(bonds)}",
        "build the System with constraints=None and rigidWater=False (constraints that are removed leave no "
        "force behind), and give every bond of the topology a term",
    )


def _check_breaking(system: MolecularSystem, costs: Mapping[tuple[int, int], float]) -> None:
    """Bonds that have a force, and break at this temperature."""
    breaking = {bond: cost for bond, cost in costs.items() if NOTHING_KT < cost < math.inf}
    if not breaking:
        return
    atoms, labels = list(system.topology.atoms()), system.labels
    bonds = [labels.bond(atoms[i], atoms[j]) for i, j in sorted(breaking)]
    raise MolecularSystemError(
        system.name,
        f"breaking {listed(bonds)} costs no more than {min(breaking.values()):.3g} kT at "
        f"{system.temperature_k:g} K: the molecule comes apart",
        "lower the temperature, or give bonds forces that grow with their length",
    )


def _held_by(cost: float) -> str:
    """What holds parts together that fly apart at a cost [kT]."""
    return "nothing" if cost < NOTHING_KT else f"no more than a well of {cost:.3g} kT"


def _cost_of_breaking(system: MolecularSystem, energies: _Energies, bond: tuple[int, int]) -> float:
    """What it costs [kT] the smaller side of a bond that is in no ring to fly away along it, as `escape`."""
    i, j = bond
    sides = [tuple(side_of(system.graph, *ends)) for ends in ((j, i), (i, j))]
    along = system.positions[j] - system.positions[i]
    along = along / np.linalg.norm(along)
    return (
        energies.escape(sides[1], along)
        if len(sides[1]) <= len(sides[0])
        else energies.escape(sides[0], -along)
    )


def _can_tell_pairs(system: openmm.System) -> bool:
    """Whether every force is of a kind whose bonds are known, so that none that is flat here is hidden."""
    names = {type(force).__name__ for force in system.getForces()}
    return names <= _WITHOUT_PAIRS | {"HarmonicBondForce", "CustomBondForce"}


def _told(system: MolecularSystem, parts: Sequence[Part]) -> str:
    """Molecules by their residues."""
    atoms, labels = list(system.topology.atoms()), system.labels
    told = []
    for part in parts:
        residues = list(dict.fromkeys(labels.residue(atoms[k].residue) for k in part))
        label = residues[0] if len(residues) == 1 else f"{residues[0]} to {residues[-1]}"
        told.append(f"{label} (atom{f's {part[0]} to' if len(part) > 1 else ''} {part[-1]})")
    return listed(told)
