"""WeightedEnsemble: configurations with log weights; MD data, model samples and SMC output are all this."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_sum_exp(values: Array) -> float:
    """``log(sum(exp(values)))``; minus infinity for an empty or all-minus-infinite array."""
    top = values.max(initial=-np.inf)
    return float(top + np.log(np.exp(values - top).sum())) if np.isfinite(top) else float(top)


def pareto_k(log_weights: Array, relative_efficiency: float = 1.0) -> float | None:
    """k-hat of Pareto-smoothed importance sampling (Vehtari et al. 2024) of independent log weights ``(n,)``.

    Below 0.7 the weights have a tail that means can be trusted with; above 1 not even their mean exists.
    It is of the ``3 sqrt(n)`` largest weights, and of the more (up to a fifth) the lower the efficiency. None
    where fewer than 25 weights are not zero or the largest are equal.
    """
    from arviz_stats.base import array_stats

    finite = log_weights[np.isfinite(log_weights)]
    if len(finite) < 25 or np.ptp(finite) < 1e-12:
        return None
    try:  # it is made for log likelihoods, weights are their inverse
        k = float(array_stats.psislw(-finite, r_eff=relative_efficiency)[1])
    except ValueError:
        return None
    return k if np.isfinite(k) else None


def systematic_rows(weights: Array, n: int, seed: int) -> NDArray[np.int64]:
    """``n`` row indices by systematic resampling in proportion to weights of any sum, in random order."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(weights)
    points = (rng.random() + np.arange(n)) / n * cumulative[-1]
    return rng.permutation(np.minimum(np.searchsorted(cumulative, points), len(weights) - 1))


@dataclass(frozen=True)
class WeightedEnsemble:
    """A sample of a Boltzmann distribution.

    positions
        Configurations [nm] with shape ``(n, n_atoms, 3)``, zero centroid, float32.
    log_weights
        Unnormalised log weights with shape ``(n,)``, float64; minus infinity is weight zero.
    reduced_energies
        ``u = U / kT`` with shape ``(n,)``, float64.
    temperature_k
        Temperature of the target [K].
    log_z
        Log of the configurational partition function, where the sampler estimated it.
    log_z_error, log_z_dof
        Its standard error, and the degrees of freedom of that: few where it is the spread of few islands.
    lineages
        ``(n,)`` integers: rows that share a number are statistically dependent (same ancestor, or
        same block of correlated MD). Errors are bootstrapped over them. Default: all distinct.
    islands
        ``(n,)`` integers naming the independent population (SMC island or MD replica) of each row.
    """

    positions: NDArray[np.float32]
    log_weights: Array
    reduced_energies: Array
    temperature_k: float
    log_z: float | None = None
    log_z_error: float | None = None
    log_z_dof: float = math.inf
    lineages: NDArray[np.int64] | None = None
    islands: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.positions)
        if self.positions.ndim != 3 or self.positions.shape[2] != 3:
            raise ValueError(f"positions have shape {self.positions.shape}, expected (n, n_atoms, 3)")
        for name in ("log_weights", "reduced_energies", "lineages", "islands"):
            values = getattr(self, name)
            if values is not None and values.shape != (n,):
                raise ValueError(f"{name} has shape {values.shape}, expected ({n},)")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[1]

    @property
    def weights(self) -> Array:
        """Normalised weights, shape ``(n,)``, summing to one."""
        return np.exp(self.log_weights - log_sum_exp(self.log_weights))

    @property
    def ess(self) -> float:
        """Kish's effective sample size ``1 / sum(w^2)`` of the normalised weights, unclipped."""
        return float(1.0 / np.square(self.weights).sum())

    def expectation(self, observable: Callable[[NDArray[np.float32]], Array] | Array) -> float:
        """Weighted mean of an observable: values ``(n,)``, or a function of positions giving them."""
        values = observable(self.positions) if callable(observable) else observable
        return float(np.dot(self.weights, values))

    def resampled_indices(self, n: int, seed: int) -> NDArray[np.int64]:
        """``n`` row indices drawn by systematic resampling in proportion to the weights."""
        return systematic_rows(self.weights, n, seed)

    def resample(self, n: int, seed: int) -> WeightedEnsemble:
        """An equally weighted ensemble of ``n`` rows; copies of a row share its lineage."""
        indices = self.resampled_indices(n, seed)
        lineages = np.arange(len(self)) if self.lineages is None else self.lineages
        return replace(
            self.select(indices), log_weights=np.zeros(n), lineages=lineages[indices], log_z=self.log_z
        )

    def at_temperature(self, temperature_k: float) -> WeightedEnsemble:
        """The same rows weighted for another temperature [K], log Z dropped; `boltzgen.reweighted` has it."""
        ratio = self.temperature_k / temperature_k
        if ratio == 1.0:
            return self
        dead = np.isneginf(self.log_weights)  # their energies may be infinite
        change = (1.0 - ratio) * np.where(dead, 0.0, self.reduced_energies)
        return replace(
            self,
            log_weights=self.log_weights + change,
            reduced_energies=ratio * self.reduced_energies,
            temperature_k=temperature_k,
            log_z=None,
            log_z_error=None,
        )

    def select(self, rows: NDArray[np.int64] | slice) -> WeightedEnsemble:
        """The rows named by an index array or slice, weights kept."""
        return WeightedEnsemble(
            positions=self.positions[rows],
            log_weights=self.log_weights[rows],
            reduced_energies=self.reduced_energies[rows],
            temperature_k=self.temperature_k,
            log_z=self.log_z,
            log_z_error=self.log_z_error,
            log_z_dof=self.log_z_dof,
            lineages=None if self.lineages is None else self.lineages[rows],
            islands=None if self.islands is None else self.islands[rows],
        )
