"""Numbers with standard errors that respect ancestry, and the 95 % intervals that belong to them.

Rows of an ensemble are not independent: copies of one SMC ancestor, or neighbouring MD frames, share a
lineage. How standard errors are made of lineages and islands is in `boltzgen.ensemble.cluster_errors`. An
interval is the value plus and minus Student's t quantile, with the degrees of freedom of the error, times the
error.

A quantity that rests on fewer than `MIN_INDEPENDENT` independent samples gets no error, and a note that says
so; one whose weight is concentrated on fewer than that (Kish) keeps its error with a note that it is too
small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from boltzgen.ensemble.cluster_errors import Statistic, group_sums, standard_errors
from boltzgen.ensemble.weighted import Array, WeightedEnsemble, log_sum_exp
from boltzgen.errors import NumericalError
from boltzgen.smc.bounds import MIN_INDEPENDENT
from boltzgen.units import thermal_energy

SURE = 4.0
"""Standard errors from which a difference is one; errors of heavy-tailed weights are themselves too small."""


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error: in kT for free energies, else in the unit of what was averaged.

    ``error`` is None where none can be given; ``note`` then says why. ``value`` may be infinite. ``dof`` are
    the degrees of freedom of the error, few where it rests on few or unequal clusters. A ``probability`` has
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
        raise NumericalError(
            "ensemble",
            "every weight is zero or not finite, nothing can be averaged",
            "sample with more particles",
        )
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


def n_independent(ensemble: WeightedEnsemble, members: NDArray[np.bool_]) -> int:
    """Distinct (island, lineage) clusters with weight among the rows marked ``members`` ``(n,)``."""
    cluster, _ = cluster_index(ensemble)
    return len(np.unique(cluster[members & (ensemble.log_weights > -np.inf)]))


def cluster_weights(ensemble: WeightedEnsemble, members: NDArray[np.bool_] | None = None) -> Array:
    """Weight of each cluster ``(n_clusters,)``, of all rows or of those marked ``members`` ``(n,)``.

    Weights of all rows sum to one. Clusters are independent where rows are not.
    """
    cluster, island = cluster_index(ensemble)
    weights = normalised_weights(ensemble)
    weights = weights if members is None else np.where(members, weights, 0.0)
    return np.bincount(cluster, weights=weights, minlength=len(island)).astype(np.float64)


def effective_independent(ensemble: WeightedEnsemble, members: NDArray[np.bool_] | None = None) -> float:
    """Kish's effective number ``(sum W)^2 / sum W^2`` of the clusters behind ``members``; zero if none.

    ``members`` ``(n,)`` are all rows by default.
    """
    shared = cluster_weights(ensemble, members)
    return float(shared.sum() ** 2 / np.square(shared).sum()) if shared.any() else 0.0


def supported(ensemble: WeightedEnsemble, what: str, members: NDArray[np.bool_]) -> tuple[bool, str]:
    """Whether enough independent samples support these rows for a standard error, and a note if not."""
    count = n_independent(ensemble, members)
    if count < MIN_INDEPENDENT:
        return (
            False,
            f"{what} is supported by {count} independent samples, fewer than {MIN_INDEPENDENT}: no error is "
            "given",
        )
    effective = effective_independent(ensemble, members)
    if effective < MIN_INDEPENDENT:
        return (
            True,
            f"the weight of {what} rests on {effective:.0f} effective independent samples: the error is a "
            "lower bound",
        )
    return True, ""


def log_ratio(sums: Array) -> Array:
    """``ln`` of every sum but the first over the first: ``(..., q)`` to ``(..., q - 1)``."""
    return np.log(sums[..., 1:]) - np.log(sums[..., :1])


@dataclass(frozen=True)
class OfSums:
    """One number that ``statistic`` makes of sums over the rows ``(n, q)``, with its value and a note."""

    value: float
    row_sums: Array
    statistic: Statistic
    note: str = ""


def estimated(ensemble: WeightedEnsemble, of: OfSums, n_bootstrap: int = 200, seed: int = 0) -> Estimate:
    """The number with its error."""
    cluster, island = cluster_index(ensemble)
    sums = group_sums(of.row_sums, cluster, len(island))
    error, dof = standard_errors(sums, island, of.statistic, n_bootstrap, seed)
    return Estimate(of.value, float(error[0]), of.note, float(dof[0]))
