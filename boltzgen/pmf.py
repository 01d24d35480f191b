"""Potentials of mean force along one variable and over two, from histograms and from kernels.

All are differences to the lowest bin, with errors of these differences that respect ancestry
(`boltzgen.estimates`). A bin carried by fewer than five lineages has a value and no error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from boltzgen.ensemble import Array, WeightedEnsemble
from boltzgen.estimates import (
    cluster_index,
    half_width,
    normalised_weights,
    standard_errors,
)
from boltzgen.system import CollectiveVariable

MIN_CARRIERS_OF_A_BIN = 5
N_BANDWIDTHS = 16
"""Widths that cross-validation chooses from, a geometric series."""


@dataclass(frozen=True)
class PMF:
    """A potential of mean force ``-ln p`` in kT along a collective variable, zero in its lowest bin.

    bin_edges
        In the unit of the collective variable, shape ``(n_bins + 1,)``.
    f
        Shape ``(n_bins,)``; plus infinity in bins without weight.
    df
        Standard error of the difference to the lowest bin, shape ``(n_bins,)``; NaN in empty bins and
        in bins with fewer than five lineages.
    dof
        Degrees of freedom of these errors, shape ``(n_bins,)``.
    bandwidth
        Standard deviation of the kernel, in the unit of the variable; None for a histogram. A kernel
        estimate holds at the centres of its bins.
    """

    bin_edges: Array
    f: Array
    df: Array
    dof: Array | None = None
    bandwidth: float | None = None

    @property
    def centres(self) -> Array:
        return 0.5 * (self.bin_edges[1:] + self.bin_edges[:-1])

    @property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends of pointwise 95 % intervals, ``(n_bins,)`` each."""
        half = half_width(self.df, np.inf if self.dof is None else self.dof)
        return self.f - half, self.f + half


@dataclass(frozen=True)
class Surface:
    """A free-energy surface ``-ln p`` in kT over two collective variables, zero in its lowest cell.

    x_edges, y_edges
        Shapes ``(n_x + 1,)`` and ``(n_y + 1,)``, in the units of the variables.
    f, df, dof
        As of a `PMF`, shape ``(n_x, n_y)``, the first variable along the first axis.
    """

    x_edges: Array
    y_edges: Array
    f: Array
    df: Array
    dof: Array

    @property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends of cellwise 95 % intervals, ``(n_x, n_y)`` each."""
        half = half_width(self.df, self.dof)
        return self.f - half, self.f + half


def potential_of_mean_force(
    ensemble: WeightedEnsemble,
    cv: CollectiveVariable,
    n_bins: int = 36,
    n_bootstrap: int = 200,
    seed: int = 0,
    limits: tuple[float, float] | None = None,
) -> PMF:
    """``-ln`` of the density of a collective variable in kT, from a histogram of equal bins.

    ``limits`` [rad or nm] default to (-pi, pi) for torsions and to the sampled range otherwise; values
    outside belong to no bin. No Jacobian is removed from distances and angles.
    """
    edges, bins = _binned(ensemble, cv, n_bins, limits)
    sums = _cluster_histogram(ensemble, bins, n_bins)
    return PMF(edges, *_profile(ensemble, sums, sums, n_bootstrap, seed))


def free_energy_surface(
    ensemble: WeightedEnsemble,
    variables: tuple[CollectiveVariable, CollectiveVariable],
    n_bins: int = 36,
    n_bootstrap: int = 200,
    seed: int = 0,
    limits: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None),
) -> Surface:
    """``-ln`` of the joint density of two collective variables in kT, from ``n_bins`` by ``n_bins`` cells.

    ``limits`` of each variable as in `potential_of_mean_force`.
    """
    (x_edges, x), (y_edges, y) = (
        _binned(ensemble, cv, n_bins, ends) for cv, ends in zip(variables, limits, strict=True)
    )
    cells = np.where((x < 0) | (y < 0), -1, x * n_bins + y)
    sums = _cluster_histogram(ensemble, cells, n_bins**2)
    profile = _profile(ensemble, sums, sums, n_bootstrap, seed)
    return Surface(x_edges, y_edges, *(values.reshape(n_bins, n_bins) for values in profile))


def kernel_pmf(
    ensemble: WeightedEnsemble,
    cv: CollectiveVariable,
    n_points: int = 144,
    bandwidth: float | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    limits: tuple[float, float] | None = None,
) -> PMF:
    """``-ln`` of a kernel estimate of the density of a collective variable, in kT on ``n_points`` centres.

    The kernel is von Mises' for torsions (Taylor, Comput. Stat. Data Anal. 52, 3493, 2008) and a Gaussian
    otherwise, on a fine histogram (Silverman, Applied Statistics 31, 93, 1982). ``bandwidth`` is its standard
    deviation [rad or nm]; by default that of `N_BANDWIDTHS`, from 1.5 points to an eighth of the range, with
    the greatest likelihood of each lineage under the density of all others (Habbema 1974; lineages in place
    of rows, because copies of a row would ask for no smoothing at all). Errors are those of the smoothed
    density: the bias of smoothing is not in them. A point with no row within two bandwidths is empty, one
    with fewer than five lineages there has no error. ``limits`` as in `potential_of_mean_force`.
    """
    edges, bins = _binned(ensemble, cv, n_points, limits)
    histogram = _cluster_histogram(ensemble, bins, n_points)
    width = bandwidth or _likeliest_bandwidth(histogram, edges, cv.periodic)
    kernel = _kernel(edges, width, cv.periodic)
    near = csr_array(np.where(kernel > math.exp(-2.0) * kernel.max(), 1.0, 0.0))
    carriers = histogram @ near
    smoothed = np.where(carriers.sum(0) > 0, histogram @ kernel, 0.0)
    return PMF(edges, *_profile(ensemble, smoothed, carriers, n_bootstrap, seed), width)


def _binned(
    ensemble: WeightedEnsemble, cv: CollectiveVariable, n_bins: int, limits: tuple[float, float] | None
) -> tuple[Array, NDArray[np.int64]]:
    """Edges ``(n_bins + 1,)`` and the bin of each row ``(n,)``; -1 outside and at weight zero."""
    weights, values = normalised_weights(ensemble), cv.values(ensemble.positions)
    low, high = limits or _sampled_range(cv, values[weights > 0])
    edges = np.linspace(low, high, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
    return edges, np.where((values >= low) & (values <= high) & (weights > 0), bins, -1)


def _cluster_histogram(ensemble: WeightedEnsemble, bins: NDArray[np.int64], n_bins: int) -> csr_array:
    """Weight of each cluster in each bin, ``(n_clusters, n_bins)``."""
    cluster, island = cluster_index(ensemble)
    rows = np.flatnonzero(bins >= 0)
    entries = (normalised_weights(ensemble)[rows], (cluster[rows], bins[rows]))
    return csr_array(entries, shape=(len(island), n_bins))


def _profile(
    ensemble: WeightedEnsemble,
    sums: Array | csr_array,
    carriers: csr_array,
    n_bootstrap: int,
    seed: int,
) -> tuple[Array, Array, Array]:
    """``f``, ``df`` and ``dof`` of a profile from the weight of each cluster in each bin ``(c, n_bins)``.

    ``carriers`` is positive where a cluster carries a bin.
    """
    total = sums.sum(0)
    if not total.any():
        return np.full(len(total), np.inf), np.full(len(total), np.nan), np.full(len(total), np.nan)
    with np.errstate(divide="ignore"):
        f = -np.log(total)
    lowest = int(np.argmin(f))

    def profile(s: Array) -> Array:
        return np.log(s[..., lowest : lowest + 1]) - np.log(s)

    _, island = cluster_index(ensemble)
    df, dof = standard_errors(sums, island, profile, n_bootstrap, seed)
    df[(carriers > 0).sum(0) < MIN_CARRIERS_OF_A_BIN] = np.nan
    return f - f[lowest], df, dof


def _kernel(edges: Array, width: float, periodic: bool) -> Array:
    """Weights ``(n, n)`` of a kernel of this standard deviation between the centres of bins."""
    centres = 0.5 * (edges[1:] + edges[:-1])
    gap = centres[:, None] - centres
    if periodic:
        kernel = np.exp((np.cos(gap) - 1) / width**2)
        return kernel / kernel.sum(1, keepdims=True)
    return np.exp(-0.5 * np.square(gap / width)) * (edges[1] - edges[0]) / (width * np.sqrt(2 * np.pi))


def _likeliest_bandwidth(histogram: csr_array, edges: Array, periodic: bool) -> float:
    """The width under which each cluster is likeliest given all others."""
    spacing, span = edges[1] - edges[0], edges[-1] - edges[0]
    rows = np.repeat(np.arange(histogram.shape[0]), np.diff(histogram.indptr))
    share, total = histogram.sum(1), histogram.sum(0)

    def likelihood(width: float) -> float:
        kernel = _kernel(edges, width, periodic)
        own = (histogram @ kernel)[rows, histogram.indices]
        others = ((total @ kernel)[histogram.indices] - own) / np.maximum(share.sum() - share[rows], 1e-12)
        return float(histogram.data @ np.log(np.maximum(others, 1e-300)))

    widths = np.geomspace(1.5 * spacing, span / 8, N_BANDWIDTHS)
    return float(max(widths, key=likelihood))


def _sampled_range(cv: CollectiveVariable, values: Array) -> tuple[float, float]:
    if cv.periodic:
        return -np.pi, np.pi
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)
