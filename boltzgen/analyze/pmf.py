"""Potentials of mean force along one variable, from histograms and from kernels.

They are differences to the lowest bin, with errors of these differences that respect ancestry
(`boltzgen.ensemble.uncertainty`). A bin that fewer than five effective clusters support has a value and no
error; where fewer than thirty do, the error is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boltzgen.analyze.densities import (
    binned,
    cluster_histogram,
    kernel,
    likeliest_bandwidth,
    lower_bound_note,
    lower_bounds,
    profile_of,
    smoothed,
)
from boltzgen.ensemble.uncertainty import half_width
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable


@dataclass(frozen=True)
class PMF:
    """A potential of mean force ``-ln p`` in kT along a collective variable, zero in its lowest bin.

    bin_edges
        In the unit of the collective variable, shape ``(n_bins + 1,)``.
    f
        Shape ``(n_bins,)``; plus infinity in bins without weight.
    df
        Standard error of the difference to the lowest bin, shape ``(n_bins,)``; NaN in empty bins and
        in bins with fewer than five effective clusters.
    dof
        Degrees of freedom of these errors, shape ``(n_bins,)``.
    bandwidth
        Standard deviation of the kernel, in the unit of the variable; None for a histogram. A kernel
        estimate holds at the centres of its bins.
    effective
        Kish's effective number of clusters behind each difference, the smaller one of the bin and the lowest
        bin, shape ``(n_bins,)``; None in results of before it was counted.
    """

    bin_edges: Array
    f: Array
    df: Array
    dof: Array | None = None
    bandwidth: float | None = None
    effective: Array | None = None

    @property
    def lower_bound(self) -> NDArray[np.bool_]:
        """Bins whose error is a lower bound, ``(n_bins,)``."""
        return lower_bounds(self.df, self.effective)

    @property
    def note(self) -> str:
        """How many bins these are, in words; empty where there are none."""
        return lower_bound_note(self.df, self.effective, "bins")

    @property
    def centres(self) -> Array:
        return 0.5 * (self.bin_edges[1:] + self.bin_edges[:-1])

    @property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends of pointwise 95 % intervals, ``(n_bins,)`` each."""
        half = half_width(self.df, np.inf if self.dof is None else self.dof)
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
    edges, bins = binned(ensemble, cv, n_bins, limits)
    sums = cluster_histogram(ensemble, bins, n_bins)
    profile = profile_of(ensemble, sums, sums, n_bootstrap, seed)
    return PMF(edges, **profile._asdict())


def kernel_pmf(
    ensemble: WeightedEnsemble,
    cv: CollectiveVariable,
    bins: int | Array = 144,
    bandwidth: float | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> PMF:
    """``-ln`` of a kernel estimate of the density of a collective variable, in kT at the centres of bins.

    The kernel is von Mises' for torsions (Taylor, Comput. Stat. Data Anal. 52, 3493, 2008) and a Gaussian
    otherwise, on a fine histogram (Silverman, Applied Statistics 31, 93, 1982). ``bandwidth`` is its standard
    deviation [rad or nm]; by default that of `N_BANDWIDTHS`, from 1.5 points to an eighth of the range, with
    the greatest likelihood of each cluster under the density of all others (Habbema 1974; clusters in place
    of rows, because copies of a row would ask for no smoothing at all). Errors are those of the smoothed
    density: the bias of smoothing is not in them. A point with no row within two bandwidths is empty, one
    with fewer than five effective clusters there has no error. ``bins`` are their number, over the range of
    `potential_of_mean_force`, or the edges of equal ones [rad or nm].
    """
    n_points = bins if isinstance(bins, int) else len(bins) - 1
    limits = None if isinstance(bins, int) else (float(bins[0]), float(bins[-1]))
    edges, rows = binned(ensemble, cv, n_points, limits)
    histogram = cluster_histogram(ensemble, rows, n_points)
    width = bandwidth or likeliest_bandwidth(histogram, edges, cv.periodic)
    sums, support = smoothed(histogram, kernel(edges, width, cv.periodic))
    profile = profile_of(ensemble, sums, support, n_bootstrap, seed)
    return PMF(edges, **profile._asdict(), bandwidth=width)
