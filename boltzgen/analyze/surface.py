"""Free-energy surfaces over two variables, from histograms and from kernels; errors as in `pmf`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from boltzgen.analyze.densities import (
    binned,
    cluster_histogram,
    kernel,
    likeliest_bandwidth,
    likelihood,
    lower_bound_note,
    lower_bounds,
    profile_of,
    smoothed,
)
from boltzgen.ensemble.uncertainty import half_width
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.system.collective_variables import CollectiveVariable

_WIDENINGS = np.geomspace(1.0, 4.0, 8)
"""Factors on the widths of either variable alone that cross-validation chooses from."""

Limits = tuple[tuple[float, float] | None, tuple[float, float] | None]


@dataclass(frozen=True)
class Surface:
    """A free-energy surface ``-ln p`` in kT over two collective variables, zero in its lowest cell.

    x_edges, y_edges
        Shapes ``(n_x + 1,)`` and ``(n_y + 1,)``, in the units of the variables.
    f, df, dof, effective
        As of a `PMF`, shape ``(n_x, n_y)``, the first variable along the first axis.
    bandwidths
        Standard deviations of the kernel along both variables; None for a histogram. A kernel estimate
        holds at the centres of its cells.
    """

    x_edges: Array
    y_edges: Array
    f: Array
    df: Array
    dof: Array
    bandwidths: tuple[float, float] | None = None
    effective: Array | None = None

    @property
    def lower_bound(self) -> NDArray[np.bool_]:
        """Cells whose error is a lower bound, ``(n_x, n_y)``."""
        return lower_bounds(self.df, self.effective)

    @property
    def note(self) -> str:
        """How many cells these are, in words; empty where there are none."""
        return lower_bound_note(self.df, self.effective, "cells")

    @property
    def interval(self) -> tuple[Array, Array]:
        """Lower and upper ends of cellwise 95 % intervals, ``(n_x, n_y)`` each."""
        half = half_width(self.df, self.dof)
        return self.f - half, self.f + half


def free_energy_surface(
    ensemble: WeightedEnsemble,
    variables: tuple[CollectiveVariable, CollectiveVariable],
    n_bins: int = 36,
    n_bootstrap: int = 200,
    seed: int = 0,
    limits: Limits = (None, None),
) -> Surface:
    """``-ln`` of the joint density of two collective variables in kT, from ``n_bins`` by ``n_bins`` cells.

    ``limits`` of each variable as in `potential_of_mean_force`.
    """
    (x_edges, x), (y_edges, y) = _binned(ensemble, variables, n_bins, limits)
    sums = _joint_histogram(ensemble, x, y, n_bins)
    profile = profile_of(ensemble, sums, sums, n_bootstrap, seed)
    f, df, dof, effective = (values.reshape(n_bins, n_bins) for values in profile)
    return Surface(x_edges, y_edges, f, df, dof, effective=effective)


def kernel_surface(
    ensemble: WeightedEnsemble,
    variables: tuple[CollectiveVariable, CollectiveVariable],
    n_points: int = 48,
    bandwidths: tuple[float, float] | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Surface:
    """``-ln`` of a kernel estimate of the joint density, in kT on ``n_points`` by ``n_points`` centres.

    The kernel is the product of those of `boltzgen.analyze.pmf.kernel_pmf`. ``bandwidths`` [rad or nm] are by
    default those of the two variables alone, both wider by the factor between 1 and 4 of the greatest
    likelihood of each cluster under the density of all others. Errors, empty cells and ranges as there.
    """
    (x_edges, x), (y_edges, y) = _binned(ensemble, variables, n_points, (None, None))
    periodic = [cv.periodic for cv in variables]
    histogram = _joint_histogram(ensemble, x, y, n_points)

    def product(widths: tuple[float, float]) -> Array:
        k_x = kernel(x_edges, widths[0], periodic[0])
        return np.asarray(np.kron(k_x, kernel(y_edges, widths[1], periodic[1])))

    if bandwidths is None:
        alone = [
            likeliest_bandwidth(cluster_histogram(ensemble, bins, n_points), edges, wraps)
            for bins, edges, wraps in zip((x, y), (x_edges, y_edges), periodic, strict=True)
        ]
        candidates = [(float(c * alone[0]), float(c * alone[1])) for c in _WIDENINGS]
        bandwidths = max(candidates, key=lambda widths: likelihood(histogram, product(widths)))
    sums, support = smoothed(histogram, product(bandwidths))
    profile = profile_of(ensemble, sums, support, n_bootstrap, seed)
    f, df, dof, effective = (values.reshape(n_points, n_points) for values in profile)
    return Surface(x_edges, y_edges, f, df, dof, bandwidths, effective)


def _binned(
    ensemble: WeightedEnsemble,
    variables: tuple[CollectiveVariable, CollectiveVariable],
    n: int,
    limits: Limits,
) -> list[tuple[Array, NDArray[np.int64]]]:
    """Edges and bins of the rows, as `boltzgen.analyze.densities.binned` gives them, of both variables."""
    return [binned(ensemble, cv, n, ends) for cv, ends in zip(variables, limits, strict=True)]


def _joint_histogram(
    ensemble: WeightedEnsemble, x: NDArray[np.int64], y: NDArray[np.int64], n: int
) -> csr_array:
    """Weight of each cluster in each of ``n`` by ``n`` cells, ``(n_clusters, n^2)``."""
    return cluster_histogram(ensemble, np.where((x < 0) | (y < 0), -1, x * n + y), n**2)
