"""Standard errors of weighted averages, and their degrees of freedom, from clusters of dependent rows.

A cluster is a lineage of an island: an SMC ancestor, or a block of MD. Every standard error is the
largest of:

* a cluster bootstrap over (island, lineage) clusters (Davison and Hinkley, Bootstrap Methods and their
  Application, section 3.8), done on per-cluster sums of weights, never on rows;
* the spread between islands, where there are two or more: an infinitesimal jackknife with islands as
  units, ``SE^2 = M/(M-1) sum_m d_m^2`` with ``d_m`` the derivative of the estimate with respect to the
  weight of island m. It sees the noise of the islands' normalisers, which the bootstrap cannot, and runs
  of MD that have not mixed;
* the same spread of `N_GROUPS` groups of neighbouring clusters, where derivatives of neighbouring
  clusters are positively correlated: whatever is averaged may vary more slowly than the variables that
  the blocks of MD were made for.

With few or unequal clusters the error itself is uncertain. Its degrees of freedom are
``2 n / (kurtosis - 1)``, at most n - 1, of the derivatives with respect to the n clusters (Satterthwaite,
Biometrics Bulletin 2, 110, 1946, from the variance of a variance, Cramer, Mathematical Methods of Statistics,
1946, equation 27.4.2), and M - 1 where M islands or groups disagree by more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from boltzgen.ensemble.weighted import Array

N_GROUPS = 32
"""Groups of neighbouring clusters; there must be twice as many clusters."""
CORRELATED = 0.5
"""Correlation of neighbouring clusters, in standard errors, from which the spread of groups counts."""
_STEP = 1e-4
_BLOCK = 2_000_000
"""Numbers held at once."""

Statistic = Callable[[Array], Array]


class Moments(NamedTuple):
    """Sums over clusters of derivatives to the powers 2 and 4, and of products of neighbours, ``(r,)``."""

    squares: Array
    fourths: Array
    neighbours: Array


def group_sums(rows: Array | csr_array, group: NDArray[np.int64], n_groups: int) -> Array | csr_array:
    """Sums ``(n_groups, q)`` over the rows ``(n, q)`` of each group; sparse if the rows are."""
    n = len(group)
    return csr_array((np.ones(n), (group, np.arange(n))), shape=(n_groups, n)) @ rows


def standard_errors(
    sums: Array | csr_array,
    island: NDArray[np.int64],
    statistic: Statistic,
    n_bootstrap: int,
    seed: int,
    selected: bool = False,
) -> tuple[Array, Array]:
    """Standard errors of ``statistic(sums.sum(0))`` and their degrees of freedom, shapes as the statistic's.

    sums
        Sums of each cluster ``(n_clusters, q)``, dense or sparse, neighbours in time next to each other;
        ``island`` as `boltzgen.ensemble.uncertainty.cluster_index` gives it.
    statistic
        Maps ``(..., q)`` to ``(..., r)`` and does not change when its argument is multiplied by a number.
    selected
        Whether the sample itself has chosen the statistic, as a difference from the bin that it finds lowest.
    """
    n, total = sums.shape[0], sums.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = statistic(_bootstrap_totals(sums, n_bootstrap, np.random.default_rng(seed)))
        variance = np.square(_finite_std(replicates)) * n / max(n - 1, 1)
        moments = _moments(sums, total, statistic)
        groups, islands = (
            _derivatives(_dense(units), total, statistic) for units in _larger_units(sums, island)
        )
        return _combined(variance, moments, n, groups, islands, selected)


def influence_errors(
    influences: Array, cluster: NDArray[np.int64], island: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Standard errors and degrees of freedom of estimates whose row derivatives ``(n, r)`` are known."""
    n = len(island)
    d = _dense(group_sums(influences, cluster, n))
    squares = np.square(d)
    moments = Moments(squares.sum(0), np.square(squares).sum(0), (d[1:] * d[:-1]).sum(0))
    groups, islands = (_dense(units) for units in _larger_units(d, island))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _combined(moments.squares * n / max(n - 1, 1), moments, n, groups, islands)


def _combined(
    variance: Array, moments: Moments, n: int, groups: Array, islands: Array, selected: bool = False
) -> tuple[Array, Array]:
    """The largest of the errors over clusters, groups and islands, ``(r,)``, with its degrees of freedom.

    ``variance`` is that over the n clusters; ``groups`` and ``islands`` are derivatives ``(M, r)``. Where M
    of these disagree by more than their clusters explain, M - 1 numbers are all that is known of the error.
    """
    dof = _dof(moments, n, selected)
    correlated = moments.neighbours > CORRELATED * moments.squares / math.sqrt(n)
    for units, counts in ((groups, correlated), (islands, np.ones_like(correlated))):
        m = len(units)
        if m < 2:
            continue
        between = m / (m - 1) * np.square(units).sum(0)
        larger = counts & ~(between <= variance)
        dof = np.where(larger, np.fmin(m - 1, dof), dof)
        variance = np.where(larger, np.fmax(variance, between), variance)
    return np.sqrt(variance), dof


def _larger_units(
    sums: Array | csr_array, island: NDArray[np.int64]
) -> tuple[Array | csr_array, Array | csr_array]:
    """Sums ``(M, q)`` over groups of neighbouring clusters, one where these are few, and over islands."""
    n = len(island)
    n_groups = N_GROUPS if n >= 2 * N_GROUPS else 1
    groups = np.arange(n) * n_groups // max(n, 1)
    return group_sums(sums, groups, n_groups), group_sums(sums, island, int(island.max()) + 1)


def _dense(sums: Array | csr_array) -> Array:
    return sums.toarray() if isinstance(sums, csr_array) else sums


def _dof(moments: Moments, n: int, selected: bool) -> Array:
    """Degrees of freedom ``2 n / (kurtosis - 1)`` of a variance over n clusters, at most n - 1.

    For a ``selected`` statistic the excess of the kurtosis over 3 counts twice, which halves them where few
    clusters carry the weight: those that made it the chosen one are also the ones that its error rests on.
    """
    kurtosis = n * moments.fourths / np.square(moments.squares)
    excess = np.maximum(kurtosis - 3.0, 0.0) if selected else 0.0
    return np.fmin(2 * n / np.maximum(kurtosis - 1.0 + excess, 1e-12), max(n - 1, 1))


def _derivatives(groups: Array, total: Array, statistic: Statistic) -> Array:
    """Derivatives ``(m, r)`` of the statistic with respect to the weights of groups with sums ``(m, q)``."""
    return (statistic(total + _STEP * groups) - statistic(total)) / _STEP


def _moments(sums: Array | csr_array, total: Array, statistic: Statistic) -> Moments:
    """Of the derivatives with respect to all clusters, a block at a time."""
    squares = fourths = neighbours = np.zeros_like(statistic(total))
    last = np.zeros((1, len(squares)))
    block = max(1, _BLOCK // sums.shape[1])
    for start in range(0, sums.shape[0], block):
        d = _derivatives(_dense(sums[start : start + block]), total, statistic)
        square = np.square(d)
        squares, fourths = squares + square.sum(0), fourths + np.square(square).sum(0)
        neighbours = neighbours + (d[1:] * d[:-1]).sum(0) + last[0] * d[0]
        last = d[-1:]
    return Moments(squares, fourths, neighbours)


def _bootstrap_totals(sums: Array | csr_array, n_bootstrap: int, rng: np.random.Generator) -> Array:
    """Totals ``(n_bootstrap, q)`` over clusters drawn with replacement, from cluster sums ``(c, q)``."""
    n = sums.shape[0]
    block = max(1, _BLOCK // n)
    totals = []
    for start in range(0, n_bootstrap, block):
        size = min(block, n_bootstrap - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        totals.append(np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) @ sums)
    return np.concatenate(totals)


def _finite_std(replicates: Array) -> Array:
    """Standard deviation over axis 0 of the finite entries; NaN where fewer than two are finite."""
    finite = np.isfinite(replicates)
    count = finite.sum(0)
    kept = np.where(finite, replicates, 0.0)
    mean = kept.sum(0) / np.maximum(count, 1)
    variance = np.where(finite, np.square(kept - mean), 0.0).sum(0) / np.maximum(count - 1, 1)
    return np.where(count > 1, np.sqrt(variance), np.nan)
