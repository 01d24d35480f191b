"""Numbers with standard errors that respect ancestry, and the 95 % intervals that belong to them.

Rows of an ensemble are not independent: copies of one SMC ancestor, or neighbouring MD frames, share a
lineage. Every standard error here is the largest of three:

* a cluster bootstrap over (island, lineage) clusters (Davison and Hinkley, Bootstrap Methods and their
  Application, section 3.8), done on per-cluster sums of weights, never on rows;
* the spread of `GROUPS` groups of neighbouring clusters, by an infinitesimal jackknife as below. It sees
  whatever in an average is correlated for longer than a block of MD;
* the spread between islands, where there are two or more: an infinitesimal jackknife with islands as
  units, ``SE^2 = M/(M-1) sum_m d_m^2`` with ``d_m`` the derivative of the estimate with respect to the
  weight of island m. It sees the noise of the islands' normalisers, which the bootstrap cannot.

An interval is the value plus and minus Student's t quantile times the error. With few or unequal clusters
the error itself is uncertain; its degrees of freedom are ``2 n / (kurtosis - 1)``, at most n - 1, of the
derivatives with respect to the n clusters (Satterthwaite, Biometrics Bulletin 2, 110, 1946, from the variance
of a variance, Cramer, Mathematical Methods of Statistics, 1946, equation 27.4.2), and M - 1 where islands
disagree by more than that.

A quantity that rests on fewer than `MIN_CARRIERS` lineages gets no error, and a note that says so; one whose
weight is concentrated on fewer than that (Kish) keeps its error with a note that it is too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit, logit, stdtrit

from boltzgen.ensemble import MIN_CARRIERS, Array, WeightedEnsemble, log_sum_exp
from boltzgen.errors import NumericalError
from boltzgen.units import thermal_energy

GROUPS = 32
"""Groups of neighbouring clusters whose spread a standard error covers at least; there must be twice as many."""
_STEP = 1e-4
_BLOCK = 2_000_000
"""Numbers held at once."""

Statistic = Callable[[Array], Array]


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error: in kT for free energies, else in the unit of what was averaged.

    ``error`` is None where none can be given; ``note`` then says why. ``value`` may be infinite. ``dof`` are
    the degrees of freedom of the error, few where it rests on few or unequal lineages. A ``probability`` has
    its interval made of its log odds, so that it stays between 0 and 1.
    """

    value: float
    error: float | None = None
    note: str = ""
    dof: float = math.inf
    probability: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval; wider than 1.96 errors where ``dof`` are few.

        None without an error, and for a probability of 0 or 1.
        """
        if self.error is None:
            return None
        half = float(half_width(self.error, self.dof))
        if not self.probability:
            return self.value - half, self.value + half
        if not 0.0 < self.value < 1.0:  # as far as the rounding of weights tells
            return None
        middle, half = logit(self.value), half / (self.value * (1 - self.value))
        return float(expit(middle - half)), float(expit(middle + half))

    def in_kj_mol(self, temperature_k: float) -> Estimate:
        """The same free energy in kJ/mol instead of kT."""
        kT = thermal_energy(temperature_k)
        return replace(self, value=self.value * kT, error=None if self.error is None else self.error * kT)


def half_width(error: Array | float, dof: Array | float, level: float = 0.95) -> Array:
    """Half the width of the interval of this level: Student's t quantile times the standard error."""
    quantile: Array = stdtrit(np.minimum(dof, 1e9), 0.5 + 0.5 * level)
    return quantile * error


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


def effective_carriers(ensemble: WeightedEnsemble, members: NDArray[np.bool_] | None = None) -> float:
    """Kish's effective number ``(sum W)^2 / sum W^2`` of the clusters behind ``members``; zero if none.

    ``members`` ``(n,)`` are all rows by default.
    """
    cluster, island = cluster_index(ensemble)
    weights = normalised_weights(ensemble)
    weights = weights if members is None else np.where(members, weights, 0.0)
    shared = np.bincount(cluster, weights=weights, minlength=len(island))
    return float(shared.sum() ** 2 / np.square(shared).sum()) if shared.any() else 0.0


def carried(ensemble: WeightedEnsemble, what: str, members: NDArray[np.bool_]) -> tuple[bool, str]:
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


def log_ratio(sums: Array) -> Array:
    """``ln`` of every sum but the first over the first: ``(..., q)`` to ``(..., q - 1)``."""
    return np.log(sums[..., 1:]) - np.log(sums[..., :1])


def group_sums(rows: Array | csr_array, group: NDArray[np.int64], n_groups: int) -> Array | csr_array:
    """Sums ``(n_groups, q)`` over the rows ``(n, q)`` of each group; sparse if the rows are."""
    n = len(group)
    return csr_array((np.ones(n), (group, np.arange(n))), shape=(n_groups, n)) @ rows


def standard_errors(
    sums: Array | csr_array, island: NDArray[np.int64], statistic: Statistic, n_bootstrap: int, seed: int
) -> tuple[Array, Array]:
    """Standard errors of ``statistic(sums.sum(0))`` and their degrees of freedom, shapes as the statistic's.

    sums
        Sums of each cluster ``(n_clusters, q)``, dense or sparse; ``island`` as `cluster_index` gives it.
    statistic
        Maps ``(..., q)`` to ``(..., r)`` and does not change when its argument is multiplied by a number.
    """
    n, total = sums.shape[0], sums.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = statistic(_bootstrap_totals(sums, n_bootstrap, np.random.default_rng(seed)))
        squares, fourths = _influences(sums, total, statistic)
        spreads = [_derivatives(_dense(units), total, statistic) for units in _larger_units(sums, island)]
        variance = np.square(_finite_std(replicates)) * n / max(n - 1, 1)
        return combined(variance, _dof(squares, fourths, n), spreads)


def estimated(
    ensemble: WeightedEnsemble,
    value: float,
    row_sums: Array,
    statistic: Statistic,
    note: str = "",
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Estimate:
    """``value`` with the error of the one number that ``statistic`` makes of ``row_sums`` ``(n, q)``."""
    cluster, island = cluster_index(ensemble)
    sums = group_sums(row_sums, cluster, len(island))
    error, dof = standard_errors(sums, island, statistic, n_bootstrap, seed)
    return Estimate(value, float(error[0]), note, float(dof[0]))


def influence_errors(
    influences: Array, cluster: NDArray[np.int64], island: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Standard errors and degrees of freedom of estimates whose row derivatives ``(n, r)`` are known."""
    n = len(island)
    by_cluster = group_sums(influences, cluster, n)
    spreads = [_dense(units) for units in _larger_units(by_cluster, island)]
    squares, fourths = np.square(by_cluster).sum(0), np.power(by_cluster, 4).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return combined(squares * n / max(n - 1, 1), _dof(squares, fourths, n), spreads)


def combined(within: Array, dof: Array, spreads: Sequence[Array]) -> tuple[Array, Array]:
    """The largest of the errors over clusters and between larger units, ``(r,)``, with degrees of freedom.

    ``within`` are variances, ``spreads`` derivatives ``(M, r)`` of groups of clusters and of islands. Where M
    of these disagree by more than their clusters explain, M - 1 numbers are all that is known of the error.
    """
    variance = within
    for units in spreads:
        m = len(units)
        between = m / (m - 1) * np.square(units).sum(0)
        dof = np.where(between > variance, np.fmin(m - 1, dof), dof)
        variance = np.fmax(variance, between)
    return np.sqrt(variance), dof


def _larger_units(
    sums: Array | csr_array, island: NDArray[np.int64]
) -> list[Array | csr_array]:
    """Sums ``(M, q)`` over `GROUPS` groups of neighbouring clusters and over islands, where there are enough."""
    n, m, found = len(island), int(island.max()) + 1, []
    if n >= 2 * GROUPS:
        found.append(group_sums(sums, np.arange(n) * GROUPS // n, GROUPS))
    if m > 1:
        found.append(group_sums(sums, island, m))
    return found


def _dense(sums: Array | csr_array) -> Array:
    return sums.toarray() if isinstance(sums, csr_array) else sums


def _dof(squares: Array, fourths: Array, n: int) -> Array:
    """Degrees of freedom ``2 n / (kurtosis - 1)`` of a variance over n clusters, at most n - 1."""
    kurtosis = n * fourths / np.square(squares)
    return np.fmin(2 * n / np.maximum(kurtosis - 1, 1e-12), max(n - 1, 1))


def _derivatives(groups: Array, total: Array, statistic: Statistic) -> Array:
    """Derivatives ``(m, r)`` of the statistic with respect to the weights of groups with sums ``(m, q)``."""
    return (statistic(total + _STEP * groups) - statistic(total)) / _STEP


def _influences(sums: Array | csr_array, total: Array, statistic: Statistic) -> tuple[Array, Array]:
    """Sums over clusters of the derivatives to the powers two and four, ``(r,)`` each."""
    squares = fourths = np.zeros_like(statistic(total))
    block = max(1, _BLOCK // sums.shape[1])
    for start in range(0, sums.shape[0], block):
        some = sums[start : start + block]
        some = some.toarray() if isinstance(some, csr_array) else some
        square = np.square(_derivatives(some, total, statistic))
        squares, fourths = squares + square.sum(0), fourths + np.square(square).sum(0)
    return squares, fourths


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
