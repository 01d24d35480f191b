"""The coordinates that regions of a system are told apart by: torsions of heavy atoms, or pair distances."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.regions import Positions, Regions, Unit, find_regions
from boltzgen.ensemble.torsion_units import torsion_units
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.model.graph import pair_orbits
from boltzgen.potential.symmetries import reflection_is_symmetry
from boltzgen.system.molecular_system import MolecularSystem
from boltzgen.system.stereochemistry.domain import domain_of

N_COMPONENTS = 3
"""Principal components of the sorted pair distances."""
MOST_SORTED_DISTANCES = 5_000_000
"""Numbers that principal components are made from."""


def regions_of(system: MolecularSystem, data: WeightedEnsemble) -> Regions:
    """Regions that data of a system fall into, without being told."""
    units = torsion_units(system) or distance_units(data.positions, pair_orbits(system))
    mirrored = not domain_of(system).reflects and reflection_is_symmetry(system)
    return find_regions(units, data, mirrored)


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
