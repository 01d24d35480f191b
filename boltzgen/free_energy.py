"""Expectations, free-energy differences and PMFs, with standard errors that respect ancestry.

Rows of an ensemble are not independent: copies of one SMC ancestor, or neighbouring MD frames, share a
lineage. Every standard error here is the larger of two:

* a cluster bootstrap over (island, lineage) clusters (Davison and Hinkley, Bootstrap Methods and their
  Application, section 3.8), done on per-cluster sums of weights, never on rows;
* the spread between islands, where there are two or more: an infinitesimal jackknife with islands as
  units, ``SE^2 = M/(M-1) sum_m d_m^2`` with ``d_m`` the derivative of the estimate with respect to the
  weight of island m. It sees the noise of the islands' normalisers, which the bootstrap cannot.

A quantity that rests on fewer than `MIN_CARRIERS` lineages gets no error, and a note that says so; one
whose weight is concentrated on fewer than that (Kish) keeps its error with a note that it is too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble import MIN_CARRIERS, Array, WeightedEnsemble, log_sum_exp
from boltzgen.errors import DataError, NumericalError
from boltzgen.system import CollectiveVariable, State
from boltzgen.units import thermal_energy

_MIN_CARRIERS_OF_A_BIN = 5
_STEP = 1e-4

Statistic = Callable[[Array], Array]


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error: in kT for free energies, else in the unit of what was averaged.

    ``error`` is None where none can be given; ``note`` then says why. ``value`` may be infinite.
    """

    value: float
    error: float | None = None
    note: str = ""

    def in_kj_mol(self, temperature_k: float) -> Estimate:
        """The same free energy in kJ/mol instead of kT."""
        kT = thermal_energy(temperature_k)
        return replace(self, value=self.value * kT, error=None if self.error is None else self.error * kT)


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
    """

    bin_edges: Array
    f: Array
    df: Array

    @property
    def centres(self) -> Array:
        return 0.5 * (self.bin_edges[1:] + self.bin_edges[:-1])


def normalised_weights(ensemble: WeightedEnsemble) -> Array:
    """Weights ``(n,)`` that sum to one; raises NumericalError if every weight is zero."""
    if not np.isfinite(log_sum_exp(ensemble.log_weights)):
        raise NumericalError("every weight of the ensemble is zero or not finite: nothing can be averaged")
    return ensemble.weights


def cluster_index(ensemble: WeightedEnsemble) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cluster number of each row ``(n,)``, and island number ``0..M-1`` of each cluster ``(n_clusters,)``.

    Rows are in one cluster if they share lineage and island.
    """
    n = len(ensemble)
    lineages = np.arange(n) if ensemble.lineages is None else ensemble.lineages
    islands = np.zeros(n, dtype=np.int64) if ensemble.islands is None else ensemble.islands
    lineage = np.unique(lineages, return_inverse=True)[1].reshape(-1)
    island = np.unique(islands, return_inverse=True)[1].reshape(-1)
    width = int(lineage.max(initial=0)) + 1
    keys, cluster = np.unique(island * width + lineage, return_inverse=True)
    return cluster.reshape(-1), keys // width


def n_carriers(ensemble: WeightedEnsemble, members: NDArray[np.bool_]) -> int:
    """Distinct (island, lineage) clusters with weight among the rows marked ``members`` ``(n,)``."""
    cluster, _ = cluster_index(ensemble)
    return len(np.unique(cluster[members & (ensemble.log_weights > -np.inf)]))


def effective_carriers(ensemble: WeightedEnsemble, members: NDArray[np.bool_]) -> float:
    """Kish's effective number ``(sum W)^2 / sum W^2`` of the clusters behind ``members``; zero if none."""
    cluster, island = cluster_index(ensemble)
    weights = np.where(members, normalised_weights(ensemble), 0.0)
    shared = np.bincount(cluster, weights=weights, minlength=len(island))
    return float(shared.sum() ** 2 / np.square(shared).sum()) if shared.any() else 0.0


def expectation(ensemble: WeightedEnsemble, values: Array, n_bootstrap: int = 200, seed: int = 0) -> Estimate:
    """Weighted mean of ``values`` ``(n,)``; rows of weight zero may hold anything, NaN included."""
    weights = normalised_weights(ensemble)
    weighted = np.where(weights > 0, values, 0.0) * weights
    value = float(weighted.sum())
    usable, note = _carried(ensemble, "the ensemble", weights > 0)
    if not usable:
        return Estimate(value, None, note)
    (error,) = _standard_errors(
        ensemble, np.stack([weighted, weights], axis=1), lambda s: s[..., :1] / s[..., 1:], n_bootstrap, seed
    )
    return Estimate(value, float(error), note)


def state_probability(
    ensemble: WeightedEnsemble, members: NDArray[np.bool_], n_bootstrap: int = 200, seed: int = 0
) -> Estimate:
    """Probability of the rows marked in the boolean array ``members`` ``(n,)``.

    No error is given if the state, or all that is not the state, is carried by too few lineages.
    """
    estimate = expectation(ensemble, members.astype(np.float64), n_bootstrap, seed)
    if not n_carriers(ensemble, members):
        return Estimate(0.0, None, "the state is absent from the sample")
    for what, rows in (("the state", members), ("everything outside the state", ~members)):
        usable, note = _carried(ensemble, what, rows)
        if not usable:
            return Estimate(estimate.value, None, note)
        estimate = replace(estimate, note=estimate.note or note)
    return estimate


def free_energy_difference(
    ensemble: WeightedEnsemble, state_a: State, state_b: State, n_bootstrap: int = 200, seed: int = 0
) -> Estimate:
    """Delta F = ``-ln(P_a / P_b)`` in kT: positive if the first state is the rarer one.

    An absent state gives plus (a) or minus (b) infinity, and NaN if both are absent, with a note and no
    error. A state carried by fewer than `MIN_CARRIERS` lineages leaves the value and drops the error.
    """
    weights = normalised_weights(ensemble)
    members = [state.members(ensemble.positions) for state in (state_a, state_b)]
    sums = np.stack([weights * inside for inside in members], axis=1)
    absent = [s.name for s, total in zip((state_a, state_b), sums.sum(0), strict=True) if not total > 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(_log_ratio(sums.sum(0))[0])
    if absent:
        return Estimate(value, None, f"absent from the sample: {', '.join(absent)}")
    checks = [
        _carried(ensemble, state.name, inside)
        for state, inside in zip((state_a, state_b), members, strict=True)
    ]
    note = "; ".join(note for _, note in checks if note)
    if not all(usable for usable, _ in checks):
        return Estimate(value, None, note)
    (error,) = _standard_errors(ensemble, sums, _log_ratio, n_bootstrap, seed)
    return Estimate(value, float(error), note)


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
    weights = normalised_weights(ensemble)
    values = cv.values(ensemble.positions)
    low, high = limits or _sampled_range(cv, values[weights > 0])
    edges = np.linspace(low, high, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
    counted = (values >= low) & (values <= high) & (weights > 0)
    if not counted.any():
        return PMF(edges, np.full(n_bins, np.inf), np.full(n_bins, np.nan))
    sums = np.zeros((len(ensemble), n_bins))
    sums[np.flatnonzero(counted), bins[counted]] = weights[counted]
    with np.errstate(divide="ignore"):
        f = -np.log(sums.sum(0))
    lowest = int(np.argmin(f))

    def profile(s: Array) -> Array:
        return np.log(s[..., lowest : lowest + 1]) - np.log(s)

    df = _standard_errors(ensemble, sums, profile, n_bootstrap, seed)
    cluster, _ = cluster_index(ensemble)
    pairs = np.unique(np.stack([bins[counted], cluster[counted]]), axis=1)
    carriers = np.bincount(pairs[0], minlength=n_bins)
    df[carriers < _MIN_CARRIERS_OF_A_BIN] = np.nan
    return PMF(edges, f - f[lowest], df)


def log_z_difference(ensemble_a: WeightedEnsemble, ensemble_b: WeightedEnsemble) -> Estimate:
    """``log Z_b - log Z_a`` of two independent runs on the same atoms: minus the free energy F_b - F_a in kT.

    Raises DataError if an ensemble has no log_z or the numbers of atoms differ.
    """
    if ensemble_a.log_z is None or ensemble_b.log_z is None:
        raise DataError("log_z_difference: both ensembles need a log_z; only sampled ensembles carry one")
    if ensemble_a.n_atoms != ensemble_b.n_atoms:
        raise DataError(
            f"log_z_difference: {ensemble_a.n_atoms} and {ensemble_b.n_atoms} atoms; Z has no common unit"
        )
    difference = ensemble_b.log_z - ensemble_a.log_z
    if ensemble_a.log_z_error is None or ensemble_b.log_z_error is None:
        return Estimate(difference, None, "a log_z comes without an error")
    return Estimate(difference, math.hypot(ensemble_a.log_z_error, ensemble_b.log_z_error))


def _log_ratio(sums: Array) -> Array:
    return np.log(sums[..., 1:]) - np.log(sums[..., :1])


def _carried(ensemble: WeightedEnsemble, what: str, members: NDArray[np.bool_]) -> tuple[bool, str]:
    """Whether enough lineages carry these rows for a standard error, and a note if they barely or do not."""
    count = n_carriers(ensemble, members)
    if count < MIN_CARRIERS:
        return False, f"{what} is carried by {count} lineages, fewer than {MIN_CARRIERS}: no error is given"
    effective = effective_carriers(ensemble, members)
    if effective < MIN_CARRIERS:
        return (
            True,
            f"the weight of {what} rests on {effective:.0f} effective lineages: the error is a lower bound",
        )
    return True, ""


def _sampled_range(cv: CollectiveVariable, values: Array) -> tuple[float, float]:
    if cv.periodic:
        return -np.pi, np.pi
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)


def _standard_errors(
    ensemble: WeightedEnsemble, row_sums: Array, statistic: Statistic, n_bootstrap: int, seed: int
) -> Array:
    """Standard errors of ``statistic(row_sums.sum(0))``, shape as the statistic's.

    ``row_sums`` has shape ``(n, q)``; the statistic maps ``(..., q)`` to ``(..., r)`` and does not change
    when its argument is multiplied by a number.
    """
    cluster, island = cluster_index(ensemble)
    sums = _group_sums(row_sums, cluster, len(island))
    by_island = _group_sums(sums, island, int(island.max()) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = statistic(_bootstrap_totals(sums, n_bootstrap, np.random.default_rng(seed)))
        between = _island_errors(by_island, statistic)
    return np.fmax(_finite_std(replicates), between)


def _group_sums(rows: Array, group: NDArray[np.int64], n_groups: int) -> Array:
    sums = np.zeros((n_groups, rows.shape[1]))
    for k in range(rows.shape[1]):
        sums[:, k] = np.bincount(group, weights=rows[:, k], minlength=n_groups)
    return sums


def _bootstrap_totals(sums: Array, n_bootstrap: int, rng: np.random.Generator) -> Array:
    """Totals ``(n_bootstrap, q)`` over clusters drawn with replacement, from cluster sums ``(c, q)``."""
    n = len(sums)
    block = max(1, int(2e6) // n)
    totals = []
    for start in range(0, n_bootstrap, block):
        size = min(block, n_bootstrap - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        totals.append(np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) @ sums)
    return np.concatenate(totals)


def _island_errors(by_island: Array, statistic: Statistic) -> Array:
    """Standard errors from the spread between islands (zero for one island), from island sums ``(m, q)``."""
    total, m = by_island.sum(0), len(by_island)
    if m < 2:
        return np.zeros_like(statistic(total))
    derivatives = (statistic(total + _STEP * by_island) - statistic(total)) / _STEP
    return np.sqrt(m / (m - 1) * np.square(derivatives).sum(0))


def _finite_std(replicates: Array) -> Array:
    """Standard deviation over axis 0 of the finite entries; NaN where fewer than two are finite."""
    finite = np.isfinite(replicates)
    count = finite.sum(0)
    kept = np.where(finite, replicates, 0.0)
    mean = kept.sum(0) / np.maximum(count, 1)
    variance = np.where(finite, np.square(kept - mean), 0.0).sum(0) / np.maximum(count - 1, 1)
    return np.where(count > 1, np.sqrt(variance), np.nan)
