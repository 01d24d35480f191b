"""Stretches of frames of a trajectory that are long beside the correlations of its variables."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.system import MolecularSystem

STRETCH = 4
"""Length of a stretch in statistical inefficiencies. Exponential correlations across the ends of stretches,
which errors leave out, then make these 6 % too small; 25 % for a length of one."""


def correlated_stretches(
    system: MolecularSystem, positions: NDArray[np.float32], reduced_energies: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Number the stretches of correlated frames of one trajectory: ``(n,)`` integers from 0.

    A stretch has ``1 + STRETCH (g - 1)`` frames, with g the largest statistical inefficiency among the
    energy and the collective variables (cosine and sine for torsions), as pymbar estimates it. Motion slower
    than the trajectory itself goes unseen.
    """
    series = [reduced_energies]
    for cv in system.collective_variables:
        values = cv.values(positions)
        series += [np.cos(values), np.sin(values)] if cv.periodic else [values]
    longest = max(_statistical_inefficiency(values) for values in series)
    return np.arange(len(positions)) // math.ceil(1 + STRETCH * (longest - 1))


def with_stretches(system: MolecularSystem, data: WeightedEnsemble) -> WeightedEnsemble:
    """``data`` with its correlated stretches numbered anew, by the collective variables ``system`` has now.

    Frames of one run or file (``islands``) are in the order of time.
    """
    islands = np.zeros(len(data), dtype=np.int64) if data.islands is None else data.islands
    lineages, first = np.zeros(len(data), dtype=np.int64), 0
    for island in np.unique(islands):
        rows = np.flatnonzero(islands == island)
        stretches = correlated_stretches(system, data.positions[rows], data.reduced_energies[rows])
        lineages[rows] = stretches + first
        first = int(lineages[rows[-1]]) + 1
    return replace(data, lineages=lineages)


def _statistical_inefficiency(values: NDArray[np.float64]) -> float:
    """At least 1; constant series count as uncorrelated."""
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    from pymbar import timeseries

    if len(values) < 4 or np.ptp(values) <= 1e-12 * (1 + np.abs(values).max()):
        return 1.0
    return min(float(timeseries.statistical_inefficiency(values)), float(len(values)))
