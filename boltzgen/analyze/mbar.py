"""Free energies between ensembles of the same atoms that were sampled at both ends: BAR and MBAR.

pymbar takes equally weighted, independent samples, and ours are neither. It is therefore given rows that were
resampled by weight, in numbers proportional to the effective independent samples of the ensembles; from its
solution a few Newton steps solve the same equations over all weighted rows, which takes the noise of
resampling out again. Errors are those of the solution's derivatives with respect to clusters
(`boltzgen.ensemble.cluster_errors`), not pymbar's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from boltzgen.analyze.reweighting import ReducedEnergy, reduced_energies
from boltzgen.ensemble.cluster_errors import influence_errors
from boltzgen.ensemble.uncertainty import (
    Estimate,
    cluster_index,
    effective_independent,
    normalised_weights,
)
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.errors import DataError, NumericalError
from boltzgen.smc.bounds import MIN_INDEPENDENT

LEAST_OVERLAP = 0.03
"""Entries of the overlap matrix below this do not link two ensembles (Klimovich et al. 2015)."""

_ROWS_PER_LINEAGE, _MOST_ROWS, _NEWTON_STEPS, _N_CHECKED = 4, 20_000, 5, 16
_IMPOSSIBLE = 1e3
"""Reduced energy above the lowest of a row that stands for infinity."""
_LARGEST_STEP = 5.0
_DISJOINT = "mbar", "the ensembles do not overlap", "sample temperatures or force fields in between"


@dataclass(frozen=True)
class MultistateFreeEnergies:
    """Free energies of K ensembles relative to each other, in the names that pymbar gives them.

    Delta_f
        ``f_j - f_i`` in kT at ``[i, j]``, with ``f = -log Z``; shape ``(K, K)``.
    dDelta_f, dof
        Standard errors and their degrees of freedom, ``(K, K)``.
    n_lineages, n_effective
        Lineages of each ensemble ``(K,)``, and how many they amount to by weight (Kish): the sample sizes
        that the estimator was given.
    overlap
        Probability ``(K, K)`` that a row of ensemble i could be one of j (Klimovich, Shirts and Mobley,
        J. Comput. Aided Mol. Des. 29, 397, 2015).
    """

    Delta_f: Array
    dDelta_f: Array
    dof: Array
    n_lineages: Array
    n_effective: Array
    overlap: Array

    def difference(self, i: int, j: int) -> Estimate:
        """``f_j - f_i`` in kT; the note states effective sample sizes and what is wrong with them."""
        sizes = " and ".join(f"{self.n_effective[k]:.0f}" for k in (i, j))
        overlap = max(self.overlap[i, j], self.overlap[j, i])
        note = f"{sizes} effective independent samples, overlap {overlap:.2g}"
        value, error, dof = (float(table[i, j]) for table in (self.Delta_f, self.dDelta_f, self.dof))
        if min(self.n_lineages[[i, j]]) < MIN_INDEPENDENT:
            return Estimate(
                value, None, f"{note}; fewer than {MIN_INDEPENDENT} independent samples: no error is given"
            )
        if not self._linked(i, j):
            return Estimate(
                value, None, f"{note}; not linked by overlaps of {LEAST_OVERLAP}: no error is given"
            )
        if min(self.n_effective[[i, j]]) < MIN_INDEPENDENT:
            note += ": the error is a lower bound"
        return Estimate(value, error, note, dof)

    def _linked(self, i: int, j: int) -> bool:
        """Whether a chain of ensembles that overlap leads from one to the other."""
        overlaps = np.maximum(self.overlap, self.overlap.T) >= LEAST_OVERLAP
        labels = connected_components(overlaps, directed=False)[1]
        return bool(labels[i] == labels[j])


def bar(
    ensemble_a: WeightedEnsemble,
    ensemble_b: WeightedEnsemble,
    potential_a: ReducedEnergy,
    potential_b: ReducedEnergy,
    seed: int = 0,
) -> Estimate:
    """``-ln(Z_b / Z_a)`` of two weighted ensembles, in kT (Bennett, J. Comput. Phys. 22, 245, 1976).

    Each potential gives the reduced energy ``(n,)`` of its ensemble's target for configurations [nm]; the
    two may differ in force field, temperature or both. Raises as `mbar`.
    """
    return mbar((ensemble_a, ensemble_b), (potential_a, potential_b), seed).difference(0, 1)


def mbar(
    ensembles: Sequence[WeightedEnsemble], potentials: Sequence[ReducedEnergy], seed: int = 0
) -> MultistateFreeEnergies:
    """Free energies between K weighted ensembles (Shirts and Chodera, J. Chem. Phys. 129, 124105, 2008).

    The k-th potential is the target of the k-th ensemble. Raises DataError if they do not fit each other or
    the atoms differ, NumericalError if the ensembles do not overlap.
    """
    if len(ensembles) != len(potentials) or len(ensembles) < 2:
        raise DataError(
            "mbar", f"{len(ensembles)} ensembles and {len(potentials)} potentials", "one each, two at least"
        )
    ensembles = [e.select(np.flatnonzero(normalised_weights(e) > 0)) for e in ensembles]
    if len({e.n_atoms for e in ensembles}) > 1:
        raise DataError(
            "mbar",
            f"ensembles of {[e.n_atoms for e in ensembles]} atoms have no common Z",
            "give ensembles of one molecule",
        )
    for k, (ensemble, potential) in enumerate(zip(ensembles, potentials, strict=True)):
        _check_pair(k, ensemble, potential)
    u = [_energies(e, k, potentials) for k, e in enumerate(ensembles)]
    sizes = np.array([effective_independent(e) for e in ensembles])
    weights = [n * normalised_weights(e) for n, e in zip(sizes, ensembles, strict=True)]
    f = _newton_refined(
        _by_pymbar(ensembles, u, sizes, seed), np.concatenate(u, axis=1), np.concatenate(weights), sizes
    )
    return _with_errors(f, ensembles, u, weights, sizes)


def _by_pymbar(ensembles: Sequence[WeightedEnsemble], u: list[Array], sizes: Array, seed: int) -> Array:
    """pymbar's ``f`` ``(K,)`` from rows resampled by weight, in proportion to effective sizes."""
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # it greets every import
    from pymbar import MBAR
    from pymbar.other_estimators import bar as pymbar_bar
    from pymbar.utils import ParameterError

    share = min(_ROWS_PER_LINEAGE, _MOST_ROWS / sizes.sum())
    counts = np.maximum(np.rint(share * sizes), 1).astype(int)
    drawn = [
        u_k[:, e.resampled_indices(n, seed + k)]
        for k, (u_k, e, n) in enumerate(zip(u, ensembles, counts, strict=True))
    ]
    try:
        if len(drawn) == 2:
            a, b = drawn
            found = pymbar_bar(a[1] - a[0], b[0] - b[1], compute_uncertainty=False)
            return np.array([0.0, float(found["Delta_f"])])
        return np.asarray(MBAR(np.concatenate(drawn, axis=1), counts).f_k, dtype=np.float64)
    except (ParameterError, ArithmeticError, np.linalg.LinAlgError):
        raise NumericalError(*_DISJOINT) from None


def _mixture(f: Array, u: Array, sizes: Array) -> Array:
    """Probability ``(K, n)`` that each row, as one of the pooled ensembles, is of ensemble k."""
    terms = np.log(sizes)[:, None] + f[:, None] - u
    return np.exp(terms - logsumexp(terms, axis=0))


def _newton_refined(f: Array, u: Array, weights: Array, sizes: Array) -> Array:
    """The root of ``sum_n w_n p_k(x_n) = N_k`` over weighted rows, by Newton's method from close by."""
    for _ in range(_NEWTON_STEPS):
        p = _mixture(f, u, sizes)
        step = _pseudo_inverse(p, weights) @ (p @ weights - sizes)
        if not np.isfinite(step).all() or np.abs(step).max() > _LARGEST_STEP:
            raise NumericalError(*_DISJOINT)
        f = np.asarray(f - step, dtype=np.float64)
    return np.asarray(f - f[0], dtype=np.float64)


def _pseudo_inverse(p: Array, weights: Array) -> Array:
    """Of the derivative of ``p @ weights`` with respect to f; f is determined up to a constant."""
    derivative = np.diag(p @ weights) - (p * weights) @ p.T
    return np.asarray(np.linalg.pinv(derivative, rcond=1e-10, hermitian=True), dtype=np.float64)


def _with_errors(
    f: Array, ensembles: Sequence[WeightedEnsemble], u: list[Array], weights: list[Array], sizes: Array
) -> MultistateFreeEnergies:
    """Errors of every difference: variances of ensembles add, degrees of freedom are Welch's."""
    k, p = len(f), [_mixture(f, u_k, sizes) for u_k in u]
    everywhere, pooled = np.concatenate(p, axis=1), np.concatenate(weights)
    inverse = _pseudo_inverse(everywhere, pooled)
    variance, uncertainty = np.zeros((k, k)), np.zeros((k, k))
    for ensemble, p_k, w in zip(ensembles, p, weights, strict=True):
        centred = p_k - (p_k @ w / w.sum())[:, None]
        df = -(inverse @ (centred * w)).T
        pairs = (df[:, None, :] - df[:, :, None]).reshape(len(df), k * k)
        error, dof = (values.reshape(k, k) for values in influence_errors(pairs, *cluster_index(ensemble)))
        variance += error**2
        uncertainty += np.where(error > 0, error**4 / dof, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        dof = np.where(uncertainty > 0, variance**2 / uncertainty, np.inf)
    overlap = (everywhere * pooled) @ everywhere.T / sizes[:, None]
    lineages = np.array([len(cluster_index(e)[1]) for e in ensembles])
    return MultistateFreeEnergies(f - f[:, None], np.sqrt(variance), dof, lineages, sizes, overlap)


def _energies(ensemble: WeightedEnsemble, own: int, potentials: Sequence[ReducedEnergy]) -> Array:
    """Reduced energies ``(K, n)`` of an ensemble's rows under every potential, its own taken as stored."""
    rows = [
        ensemble.reduced_energies if k == own else reduced_energies(potential, ensemble)
        for k, potential in enumerate(potentials)
    ]
    u = np.stack(rows)
    return np.minimum(u, u.min(axis=0) + _IMPOSSIBLE)


def _check_pair(k: int, ensemble: WeightedEnsemble, potential: ReducedEnergy) -> None:
    """DataError where a potential is not that of its ensemble, as for two given in another order."""
    some = ensemble.select(np.argsort(-ensemble.log_weights)[:_N_CHECKED])
    gap = np.abs(reduced_energies(potential, some) - some.reduced_energies)
    if not np.median(gap) < 0.1 + 1e-3 * np.median(np.abs(some.reduced_energies)):
        raise DataError(
            "mbar",
            f"potential {k} gives energies {np.median(gap):.3g} kT from those stored in ensemble {k}",
            "give potentials in the order of the ensembles, at their temperatures",
        )
