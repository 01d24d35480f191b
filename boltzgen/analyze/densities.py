"""Binned and smoothed densities of collective variables, cluster by cluster, and their errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from boltzgen.ensemble.cluster_errors import standard_errors
from boltzgen.ensemble.uncertainty import cluster_index, normalised_weights
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.system.collective_variables import CollectiveVariable

MIN_INDEPENDENT_OF_A_BIN = 5
"""Fewest effective clusters (Kish) that an error of a bin may rest on."""
N_BANDWIDTHS = 16
"""Widths that cross-validation chooses from, a geometric series."""


class Profile(NamedTuple):
    """``f``, ``df``, ``dof`` and ``effective`` of a `boltzgen.analyze.pmf.PMF`, ``(n_bins,)`` each."""

    f: Array
    df: Array
    dof: Array
    effective: Array


def binned(
    ensemble: WeightedEnsemble, cv: CollectiveVariable, n_bins: int, limits: tuple[float, float] | None
) -> tuple[Array, NDArray[np.int64]]:
    """Edges ``(n_bins + 1,)`` and the bin of each row ``(n,)``; -1 outside and at weight zero."""
    weights, values = normalised_weights(ensemble), cv.values(ensemble.positions)
    low, high = limits or _sampled_range(cv, values[weights > 0])
    edges = np.linspace(low, high, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
    return edges, np.where((values >= low) & (values <= high) & (weights > 0), bins, -1)


def cluster_histogram(ensemble: WeightedEnsemble, bins: NDArray[np.int64], n_bins: int) -> csr_array:
    """Weight of each cluster in each bin, ``(n_clusters, n_bins)``."""
    cluster, island = cluster_index(ensemble)
    rows = np.flatnonzero(bins >= 0)
    entries = (normalised_weights(ensemble)[rows], (cluster[rows], bins[rows]))
    return csr_array(entries, shape=(len(island), n_bins))


def profile_of(
    ensemble: WeightedEnsemble,
    sums: Array | csr_array,
    support: csr_array,
    n_bootstrap: int,
    seed: int,
) -> Profile:
    """A profile from the weight of each cluster in each bin ``(c, n_bins)``.

    ``support`` are the weights in and about a bin that it rests on, of the same shape.
    """
    total, effective = sums.sum(0), effective_numbers(support)
    if not total.any():
        nothing = np.full(len(total), np.nan)
        return Profile(np.full(len(total), np.inf), nothing, nothing, effective)
    with np.errstate(divide="ignore"):
        f = -np.log(total)
    supported = effective >= MIN_INDEPENDENT_OF_A_BIN
    # An error is that of a difference from the lowest bin, which has to have one too.
    lowest = int(np.argmin(np.where(supported, f, np.inf) if supported.any() else f))

    def profile(s: Array) -> Array:
        return np.log(s[..., lowest : lowest + 1]) - np.log(s)

    _, island = cluster_index(ensemble)
    df, dof = standard_errors(sums, island, profile, n_bootstrap, seed, selected=True)
    df[~supported] = np.nan
    return Profile(f - f[lowest], df, dof, np.minimum(effective, effective[lowest]))


def effective_numbers(support: csr_array) -> Array:
    """Kish's effective number of clusters ``(sum w)^2 / sum w^2`` in each bin, zero in empty ones."""
    total, squares = support.sum(0), support.multiply(support).sum(0)
    return np.divide(np.square(total), squares, out=np.zeros_like(total), where=squares > 0)


def lower_bounds(df: Array, effective: Array | None) -> NDArray[np.bool_]:
    """Which errors are lower bounds: too few effective clusters support the difference."""
    few = np.zeros(df.shape, bool) if effective is None else effective < MIN_INDEPENDENT
    return few & np.isfinite(df) & (df > 0)


def lower_bound_note(df: Array, effective: Array | None, what: str) -> str:
    """That in words, ``what`` being bins or cells; empty where no error is a lower bound."""
    n = int(lower_bounds(df, effective).sum())
    if not n:
        return ""
    known = int(np.isfinite(df).sum())
    few = f"fewer than {MIN_INDEPENDENT} effective samples each"
    return f"errors of {n} of {known} {what} are lower bounds: {few}"


def kernel(edges: Array, width: float, periodic: bool) -> Array:
    """Weights ``(n, n)`` of a kernel of this standard deviation between the centres of bins."""
    centres = 0.5 * (edges[1:] + edges[:-1])
    gap = centres[:, None] - centres
    if periodic:
        values = np.exp((np.cos(gap) - 1) / width**2)
        return values / values.sum(1, keepdims=True)
    return np.exp(-0.5 * np.square(gap / width)) * (edges[1] - edges[0]) / (width * np.sqrt(2 * np.pi))


def likeliest_bandwidth(histogram: csr_array, edges: Array, periodic: bool) -> float:
    """The width under which each cluster is likeliest given all others (Habbema 1974)."""
    spacing, span = edges[1] - edges[0], edges[-1] - edges[0]
    widths = np.geomspace(1.5 * spacing, span / 8, N_BANDWIDTHS)
    likelihoods = [likelihood(histogram, kernel(edges, width, periodic)) for width in widths]
    return float(widths[int(np.argmax(likelihoods))])


def likelihood(histogram: csr_array, smoothing: Array) -> float:
    """Log likelihood of every cluster under the smoothed density of all others."""
    rows = np.repeat(np.arange(histogram.shape[0]), np.diff(histogram.indptr))
    share, total = histogram.sum(1), histogram.sum(0)
    own = (histogram @ smoothing)[rows, histogram.indices]
    others = (total @ smoothing)[histogram.indices] - own
    others = others / np.maximum(share.sum() - share[rows], 1e-12)
    return float(histogram.data @ np.log(np.maximum(others, 1e-300)))


def smoothed(histogram: csr_array, smoothing: Array) -> tuple[Array, csr_array]:
    """Smoothed weight of each cluster in each bin, and its weight within two widths of it.

    Bins that no row is close to are empty.
    """
    near = csr_array(np.where(smoothing > math.exp(-2.0) * smoothing.max(), 1.0, 0.0))
    support = histogram @ near
    return np.where(support.sum(0) > 0, histogram @ smoothing, 0.0), support


def _sampled_range(cv: CollectiveVariable, values: Array) -> tuple[float, float]:
    if cv.periodic:
        return -np.pi, np.pi
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)
