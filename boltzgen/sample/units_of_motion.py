"""The coordinates that regions of a system are told apart by: torsions of heavy atoms, or pair distances."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen import geometry
from boltzgen.ensemble.regions import Positions, Regions, Unit, find_regions
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.model.graph import pair_orbits
from boltzgen.potential.symmetries import reflection_is_symmetry
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import domain_of

N_COMPONENTS = 3
"""Principal components of the sorted pair distances."""
MOST_SORTED_DISTANCES = 5_000_000
"""Numbers that principal components are made from."""
End = tuple[int, int]
"""An atom at the end of a torsion, and how many equivalent ones there are in its place."""


def regions_of(system: MolecularSystem, data: WeightedEnsemble) -> Regions:
    """Regions that data of a system fall into, without being told."""
    units = torsion_units(system) or distance_units(data.positions, pair_orbits(system))
    mirrored = not domain_of(system).reflects and reflection_is_symmetry(system)
    return find_regions(units, data, mirrored)


def torsion_units(system: MolecularSystem) -> list[Unit]:
    """One torsion for each bond between heavy atoms that have other heavy neighbours.

    At each end it is measured from a neighbour that is like no other there, a heavy one if possible. Where
    all m neighbours are equivalent (ortho carbons of a ring, oxygens of a carboxylate) the angle has a
    meaning modulo 2 pi / m, and is multiplied by m. Torsions with equivalent atoms make one unit.
    """
    kinds: dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]] = {}
    torsions = [cv.atoms for cv in system.collective_variables if cv.kind == "torsion"]
    named = {int(system.atom_classes[atom]) for atoms in torsions for atom in atoms}
    for b, c in system.bonds:
        left, right = _end(system, b, c, named), _end(system, c, b, named)
        if left is None or right is None:
            continue
        atoms, fold = (left[0], b, c, right[0]), math.lcm(left[1], right[1])
        classes = tuple(int(k) for k in system.atom_classes[list(atoms)])
        kinds.setdefault(min((*classes, fold), (*classes[::-1], fold)), []).append((atoms, fold))
    return [_torsion_unit(system, torsions) for torsions in kinds.values()]


def distance_units(positions: Positions, orbits: NDArray[np.int64]) -> list[Unit]:
    """Principal components of the pair distances, sorted among pairs of the same orbit.

    orbits
        ``(n_atoms, n_atoms)`` as `boltzgen.model.graph.pair_orbits` gives them.
    """
    components = PairComponents(positions, orbits)
    return [
        Unit(f"component {k + 1} of the pair distances", functools.partial(components.column, k=k))
        for k in range(len(components.axes))
    ]


class PairComponents:
    """Projections of sorted pair distances on their principal axes; the last ones made are kept."""

    def __init__(self, positions: Positions, orbits: NDArray[np.int64]) -> None:
        first, second = np.triu_indices(len(orbits), 1)
        order = np.argsort(orbits[first, second], kind="stable")
        self.pairs = first[order], second[order]
        self.ends = np.cumsum(np.bincount(orbits[first, second]))[:-1]
        self.at_once = max(2, MOST_SORTED_DISTANCES // len(first))
        rows = np.linspace(0, len(positions) - 1, min(self.at_once, len(positions))).astype(int)
        r = self.distances(positions[rows])
        self.mean = r.mean(0)
        self.axes = np.linalg.svd(r - self.mean, full_matrices=False)[2][:N_COMPONENTS]
        self.last: tuple[Positions, Array] | None = None

    def distances(self, x: Positions) -> Array:
        """Pair distances ``(n, n_pairs)``, sorted within each orbit."""
        r = np.linalg.norm(x[:, self.pairs[0]].astype(float) - x[:, self.pairs[1]], axis=-1)
        return np.concatenate([np.sort(part, axis=1) for part in np.split(r, self.ends, axis=1)], axis=1)

    def column(self, x: Positions, k: int) -> Array:
        """Component k of configurations ``(n, n_atoms, 3)``, ``(n, 1)``."""
        if self.last is None or self.last[0] is not x:
            parts = [x[start : start + self.at_once] for start in range(0, len(x), self.at_once)]
            values = [(self.distances(part) - self.mean) @ self.axes.T for part in parts]
            self.last = x, np.concatenate(values) if values else np.zeros((0, len(self.axes)))
        return self.last[1][:, k : k + 1]


def _end(system: MolecularSystem, atom: int, across: int, named: set[int]) -> End | None:
    """The neighbour that a torsion is measured from; None where there is no heavy one, or no unique choice.

    The classes of atoms of collective variables, ``named``, are preferred.
    """
    others = [j for j in system.graph.neighbors(atom) if j != across]
    if _is_hydrogen(system, atom) or all(_is_hydrogen(system, j) for j in others):
        return None
    kind = {j: int(system.atom_classes[j]) for j in others}
    alike = Counter(kind.values())
    others.sort(key=lambda j: (_is_hydrogen(system, j), kind[j] not in named, kind[j]))
    unique = [j for j in others if alike[kind[j]] == 1]
    if unique:
        return unique[0], 1
    return (others[0], len(others)) if len(alike) == 1 else None


def _is_hydrogen(system: MolecularSystem, atom: int) -> bool:
    label = str(system.graph.nodes[atom]["label"])
    return label.split(":")[0] in ("H", "D")


def _torsion_unit(system: MolecularSystem, torsions: Sequence[tuple[tuple[int, ...], int]]) -> Unit:
    def evaluate(x: Positions) -> Array:
        tensor = torch.as_tensor(x, dtype=torch.float64)
        angles = [fold * geometry.torsion(tensor, atoms) for atoms, fold in torsions]
        wrapped = torch.remainder(torch.stack(angles, 1) + math.pi, 2 * math.pi) - math.pi
        return np.asarray(wrapped)

    atoms, fold = torsions[0]
    return Unit(_torsion_name(system, atoms, fold), evaluate, len(torsions), periodic=True)


def _torsion_name(system: MolecularSystem, atoms: tuple[int, ...], fold: int) -> str:
    """That of a collective variable about the same bond, or the atoms' names."""
    for cv in system.collective_variables:
        if cv.kind == "torsion" and fold == 1 and cv.atoms in (atoms, atoms[::-1]):
            return cv.name
    names = [atom.name for atom in system.topology.atoms()]
    text = "-".join(names[k] for k in atoms)
    return text if fold == 1 else f"{fold} x {text}"
