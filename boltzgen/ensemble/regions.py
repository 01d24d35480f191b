"""Regions of configuration space that data fall into, found from the data themselves.

A *unit* is a set of equivalent coordinates: a torsion of heavy atoms with those that the molecular graph
cannot tell from it, or, for a system without torsions, a principal component of its sorted pair distances.
The values of a unit have *wells* (`boltzgen.ensemble.wells`). A region is the configurations in given wells
of one unit, or of all. Relabelled equivalent atoms do not change the region of a configuration, nor does
reflection where mirror images are the same molecule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen import geometry
from boltzgen.ensemble.correlation import in_blocks
from boltzgen.ensemble.uncertainty import effective_independent
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.ensemble.wells import Wells, find_wells

Positions = NDArray[np.float32]
SMALLEST_SHARE = 0.01
"""Population below which a well is joined to its neighbour, and wells of all units together are no region."""
MOST_FRAMES_FOR_REGIONS = 20_000
"""Configurations that wells are looked for in."""


@dataclass(frozen=True)
class Unit:
    """Equivalent coordinates, of which only the set of values has a meaning.

    evaluate
        ``positions (n, n_atoms, 3) [nm] -> (n, m)``, values of the m coordinates; m is ``size``.
    periodic
        Whether they are angles in [-pi, pi).
    """

    name: str
    evaluate: Callable[[Positions], Array]
    size: int = 1
    periodic: bool = False


@dataclass(frozen=True)
class Region:
    """Configurations whose wells in the given columns of `Regions.cells` are those of ``cell``.

    population
        Its weight in the data.
    n_blocks
        Effective number of independent blocks of the data that this rests on.
    """

    name: str
    columns: tuple[int, ...]
    cell: tuple[int, ...]
    population: float
    n_blocks: float


@dataclass(frozen=True)
class Regions:
    """A classifier of configurations, with the regions of the data that it was made from.

    Regions of all units together do not overlap, and come first; those of single units follow.
    """

    units: tuple[Unit, ...]
    wells: tuple[Wells, ...]
    mirrored: bool
    regions: tuple[Region, ...] = ()

    @property
    def n_columns(self) -> int:
        return sum(unit.size for unit in self.units)

    @property
    def of_single_units(self) -> tuple[Region, ...]:
        """The regions that one unit tells apart."""
        return tuple(
            region for region in self.regions if len(self.units) == 1 or len(region.columns) < self.n_columns
        )

    def cells(self, positions: Positions) -> NDArray[np.int64]:
        """Well ``(n, n_columns)`` of every coordinate, in ascending order within each unit."""
        found = self._cells(positions)
        if not self.mirrored or not self.units:
            return found
        other = self._cells(geometry.mirror(torch.as_tensor(positions)).numpy())
        differs = np.argmax(found != other, axis=1)[:, None]
        first = np.take_along_axis(other, differs, 1) < np.take_along_axis(found, differs, 1)
        return np.where(first, other, found)

    def members(self, positions: Positions) -> NDArray[np.bool_]:
        """Whether each configuration [nm] ``(n, n_atoms, 3)`` lies in each region, ``(n, n_regions)``."""
        if not self.regions:
            return np.zeros((len(positions), 0), dtype=bool)
        cells = self.cells(positions)
        return np.stack([(cells[:, r.columns] == r.cell).all(1) for r in self.regions], axis=1)

    def _cells(self, positions: Positions) -> NDArray[np.int64]:
        columns = [
            np.sort(wells.of(unit.evaluate(positions)), axis=1)
            for unit, wells in zip(self.units, self.wells, strict=True)
        ]
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(positions), 0), dtype=np.int64)


def find_regions(units: Sequence[Unit], data: WeightedEnsemble, mirrored: bool = False) -> Regions:
    """Regions of weighted data in the wells of ``units`` (torsions, or `boltzgen.sample.units_of_motion`).

    mirrored
        Whether mirror images are the same molecule.

    Units with a single well are left out.
    """
    rows = np.linspace(0, len(data) - 1, min(len(data), MOST_FRAMES_FOR_REGIONS)).round().astype(int)
    data = data.select(rows)
    kept, wells = [], []
    for unit in units:
        values, weights = unit.evaluate(data.positions), np.repeat(data.weights, unit.size)
        if mirrored and unit.periodic:  # distances are those of the mirror image
            other = unit.evaluate(geometry.mirror(torch.as_tensor(data.positions)).numpy())
            values, weights = np.concatenate([values, other]), np.tile(weights, 2)
        found = find_wells(values.ravel(), weights, unit.periodic, SMALLEST_SHARE)
        if len(found.peaks) > 1:
            kept.append(unit)
            wells.append(found)
    empty = Regions(tuple(kept), tuple(wells), mirrored)
    return Regions(empty.units, empty.wells, mirrored, tuple(_populated(empty, data)))


def _populated(found: Regions, data: WeightedEnsemble) -> list[Region]:
    """Regions of all units, and then of each unit where there are several, with a share of the data."""
    cells, weights = found.cells(data.positions), data.weights
    ends = np.cumsum([0, *(unit.size for unit in found.units)])
    single = [tuple(range(a, b)) for a, b in itertools.pairwise(ends)]
    everything = tuple(range(found.n_columns))
    regions = []
    for columns in [everything] * bool(everything) + single * (len(single) > 1):
        rows, which = np.unique(cells[:, columns], axis=0, return_inverse=True)
        shares = np.bincount(which.ravel(), weights=weights)
        for k in np.flatnonzero(shares >= SMALLEST_SHARE):
            n_blocks = _blocks_behind(data, which.ravel() == k)
            cell = tuple(rows[k].tolist())
            regions.append(Region(_name(found, columns, cell), columns, cell, float(shares[k]), n_blocks))
    return regions


def _blocks_behind(data: WeightedEnsemble, inside: NDArray[np.bool_]) -> float:
    """Effective number of blocks behind a region: the data's own, or longer ones where its indicator asks.

    Blocks of the data need not be long beside the correlations of what nobody declared; a long visit is one.
    """
    part = data.weights * (inside - data.weights[inside].sum())
    own = in_blocks(data, part[None])
    return min(effective_independent(data, inside), effective_independent(own, inside))


def _name(found: Regions, columns: tuple[int, ...], cell: tuple[int, ...]) -> str:
    """``phi near -75°, psi near 150°``."""
    texts, start = [], 0
    for unit, wells in zip(found.units, found.wells, strict=True):
        places = [k for k, column in enumerate(columns) if start <= column < start + unit.size]
        peaks = [wells.peaks[cell[k]] for k in places]
        values = [f"{np.degrees(p):.0f}°" if unit.periodic else f"{p:.3g}" for p in peaks]
        texts += [f"{unit.name} near {' and '.join(values)}"] * bool(values)
        start += unit.size
    return ", ".join(texts)
