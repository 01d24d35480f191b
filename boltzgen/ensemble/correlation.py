"""Blocks of frames of MD that are long beside the correlations of everything that is averaged over them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.system.molecular_system import MolecularSystem

BLOCK_LENGTH = 4
"""Length of a block in statistical inefficiencies. Exponential correlations across the ends of blocks,
which errors leave out, then make these 6 % too small; 25 % for a length of one."""
FEWEST_BLOCKS = 32
"""Blocks are never doubled to fewer than this: their correlation could not be told from noise."""
UNCORRELATED, SIGNIFICANT = 0.1, 1.5
"""Correlation of neighbouring blocks from which they are doubled, if it exceeds so many standard errors."""


def with_blocks(system: MolecularSystem, data: WeightedEnsemble) -> WeightedEnsemble:
    """``data`` with its decorrelated blocks numbered anew, as the variables and states of ``system`` ask."""
    return in_blocks(data, averaged_series(system, data))


def in_blocks(data: WeightedEnsemble, series: Array) -> WeightedEnsemble:
    """``data`` in blocks that are long beside the correlations of series of mean zero ``(k, n)``.

    Frames of one run or file (``islands``) are in the order of time, and blocks of all have one length.
    """
    islands = np.zeros(len(data), dtype=np.int64) if data.islands is None else data.islands
    runs = [np.flatnonzero(islands == island) for island in np.unique(islands)]
    length = block_length(series, runs)
    lineages, first = np.zeros(len(data), dtype=np.int64), 0
    for rows in runs:
        lineages[rows] = first + np.arange(len(rows)) // length
        first = int(lineages[rows[-1]]) + 1
    return replace(data, lineages=lineages)


def averaged_series(system: MolecularSystem, data: WeightedEnsemble) -> Array:
    """What estimates are sums of, ``(k, n)``: each frame's part in the error of a weighted mean.

    Means of the energy, of the collective variables (cosine and sine for torsions) and of the indicators of
    states, as ``n W_i (f_i - <f>)`` with normalised weights W; and ``n W_i - 1`` where they are not equal.
    Series that never change are left out. A rare state that takes long to come back hardly shows in its
    variable, and its indicator shows it.
    """
    values = [data.reduced_energies]
    for cv in system.collective_variables:
        series = cv.values(data.positions)
        values += [np.cos(series), np.sin(series)] if cv.periodic else [series]
    values += [state.members(data.positions).astype(np.float64) for state in system.states]
    weights = data.weights
    moving = [series for series in values if _varies(series[weights > 0.0])]
    parts = [len(data) * weights - 1.0] if _varies(weights) else []
    for series in moving:
        finite = np.where(weights > 0.0, series, 0.0)
        parts.append(len(data) * weights * (finite - finite @ weights))
    return np.array(parts).reshape(len(parts), len(data))


def _varies(values: Array) -> bool:
    return len(values) > 0 and bool(np.ptp(values) > 1e-12 * (1.0 + np.abs(values).max()))


def block_length(series: Array, runs: list[NDArray[np.int64]]) -> int:
    """Frames in a block, from series of mean zero ``(k, n)`` and the rows of each run in the order of time.

    ``1 + BLOCK_LENGTH (g - 1)`` with g the largest statistical inefficiency, then doubled for as long as the
    means of neighbouring blocks are correlated in any series. Noise hides slow correlations of small
    amplitude in a series of frames; means of blocks are free of what is fast, and show them (Flyvbjerg and
    Petersen, J. Chem. Phys. 91, 461, 1989). Motion slower than the runs shows in their spread only.
    """
    if not len(series):
        return 1
    longest = max(len(rows) for rows in runs)
    inefficiency = float(statistical_inefficiencies(series, runs).max())
    significant = math.hypot(SIGNIFICANT, math.sqrt(2 * math.log(len(series))))  # the largest of so many
    length = min(math.ceil(1 + BLOCK_LENGTH * (inefficiency - 1)), longest)
    while sum(len(rows) // (2 * length) for rows in runs) >= FEWEST_BLOCKS:
        n_pairs, correlation = _neighbours(series, runs, length)
        if correlation.max() <= max(UNCORRELATED, significant / math.sqrt(n_pairs)):
            break
        length *= 2
    return length


def statistical_inefficiencies(series: Array, runs: list[NDArray[np.int64]]) -> Array:
    """``g = 1 + 2 sum_t (1 - t / n) C(t) / C(0)`` of each series ``(k, n)``, up to the first negative C.

    The autocovariance C is that of all runs together (Chodera et al., J. Chem. Theory Comput. 3, 26, 2007,
    equation 26).
    """
    longest = max(len(rows) for rows in runs)
    products, pairs = np.zeros((len(series), longest)), np.zeros(longest)
    for rows in runs:
        n = len(rows)
        spectrum = np.abs(np.fft.rfft(series[:, rows], 2 * n)) ** 2
        products[:, :n] += np.fft.irfft(spectrum, 2 * n)[:, :n]
        pairs[:n] += np.arange(n, 0, -1)
    covariance = products / pairs
    positive = np.logical_and.accumulate(covariance > 0.0, axis=1)
    weight = np.where(positive, pairs / pairs[0], 0.0)
    return np.maximum(2.0 * (weight * covariance).sum(1) / covariance[:, 0] - 1.0, 1.0)


def _neighbours(series: Array, runs: list[NDArray[np.int64]], length: int) -> tuple[int, Array]:
    """Pairs of neighbouring blocks of this length in all runs, and their correlation ``(k,)``."""
    products, squares, n_pairs = np.zeros(len(series)), np.zeros(len(series)), 0
    for rows in runs:
        n = len(rows) // length
        means = series[:, rows[: n * length]].reshape(len(series), n, length).mean(-1)
        products += (means[:, 1:] * means[:, :-1]).sum(1)
        squares += 0.5 * (np.square(means[:, 1:]) + np.square(means[:, :-1])).sum(1)
        n_pairs += max(n - 1, 0)
    return n_pairs, products / np.maximum(squares, 1e-300)
