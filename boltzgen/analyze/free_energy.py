"""Expectations, state populations and free-energy differences of one ensemble, with standard errors.

How errors are made is in `boltzgen.ensemble.uncertainty`; profiles and surfaces are in `boltzgen.analyze.pmf`
and `boltzgen.analyze.surface`, differences between ensembles in `boltzgen.analyze.reweighting` and
`boltzgen.analyze.mbar`. The names of the first three are importable from here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from boltzgen.analyze.pmf import PMF, kernel_pmf, potential_of_mean_force
from boltzgen.analyze.surface import Surface, free_energy_surface, kernel_surface
from boltzgen.ensemble.uncertainty import (
    Estimate,
    OfSums,
    cluster_index,
    effective_independent,
    estimated,
    log_ratio,
    n_independent,
    normalised_weights,
    supported,
)
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.smc.bounds import MIN_INDEPENDENT, difference_note
from boltzgen.system.collective_variables import State

__all__ = [
    "PMF",
    "Estimate",
    "Surface",
    "cluster_index",
    "effective_independent",
    "expectation",
    "free_energy_difference",
    "free_energy_surface",
    "kernel_pmf",
    "kernel_surface",
    "log_z_difference",
    "n_independent",
    "normalised_weights",
    "potential_of_mean_force",
    "state_probability",
]


def expectation(ensemble: WeightedEnsemble, values: Array, n_bootstrap: int = 200, seed: int = 0) -> Estimate:
    """Weighted mean of ``values`` ``(n,)``; rows of weight zero may hold anything, NaN included."""
    weights = normalised_weights(ensemble)
    weighted = np.where(weights > 0, values, 0.0) * weights
    value = float(weighted.sum())
    usable, note = supported(ensemble, "the ensemble", weights > 0)
    if not usable:
        return Estimate(value, None, note)
    sums = np.stack([weighted, weights], axis=1)
    mean = OfSums(value, sums, lambda s: s[..., :1] / s[..., 1:], note)
    return estimated(ensemble, mean, n_bootstrap, seed)


def state_probability(
    ensemble: WeightedEnsemble, members: NDArray[np.bool_], n_bootstrap: int = 200, seed: int = 0
) -> Estimate:
    """Probability of the rows marked in the boolean array ``members`` ``(n,)``.

    No error is given if the state, or all that is not the state, is supported by too few independent samples.
    """
    estimate = expectation(ensemble, members.astype(np.float64), n_bootstrap, seed)
    if not n_independent(ensemble, members):
        return Estimate(0.0, None, "the state is absent from the sample")
    for what, rows in (("the state", members), ("everything outside the state", ~members)):
        usable, note = supported(ensemble, what, rows)
        if not usable:
            return Estimate(estimate.value, None, note)
        estimate = replace(estimate, note=estimate.note or note)
    return replace(estimate, probability=True)


def free_energy_difference(
    ensemble: WeightedEnsemble, state_a: State, state_b: State, n_bootstrap: int = 200, seed: int = 0
) -> Estimate:
    """Delta F = ``-ln(P_a / P_b)`` in kT: positive if the first state is the rarer one.

    An absent state gives plus (a) or minus (b) infinity, and NaN if both are absent, with a note and no
    error. A state supported by fewer than `MIN_INDEPENDENT` independent samples leaves the value and drops
    the error; in a sample with a log Z, whose weights are unbiased, so does one that rests on fewer effective
    ones, and the note says what bound is left (`boltzgen.smc.bounds`).
    """
    weights = normalised_weights(ensemble)
    members = [state.members(ensemble.positions) for state in (state_a, state_b)]
    sums = np.stack([weights * inside for inside in members], axis=1)
    absent = [s.name for s, total in zip((state_a, state_b), sums.sum(0), strict=True) if not total > 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(log_ratio(sums.sum(0))[0])
    if absent:
        return Estimate(value, None, f"absent from the sample: {', '.join(absent)}")
    thin = [effective_independent(ensemble, inside) < MIN_INDEPENDENT for inside in members]
    if ensemble.log_z is not None and any(thin):
        return Estimate(value, None, difference_note(state_a.name, state_b.name, (thin[0], thin[1])))
    checks = [
        supported(ensemble, state.name, inside)
        for state, inside in zip((state_a, state_b), members, strict=True)
    ]
    note = "; ".join(note for _, note in checks if note)
    if not all(usable for usable, _ in checks):
        return Estimate(value, None, note)
    return estimated(ensemble, OfSums(value, sums, log_ratio, note), n_bootstrap, seed)


def log_z_difference(ensemble_a: WeightedEnsemble, ensemble_b: WeightedEnsemble) -> Estimate:
    """``log Z_b - log Z_a`` of two independent runs on the same atoms, at any Hamiltonians or temperatures.

    At one temperature it is minus the free energy F_b - F_a in kT. Raises DataError if an ensemble has no
    log_z or the numbers of atoms differ.
    """
    if ensemble_a.log_z is None or ensemble_b.log_z is None:
        raise DataError("log_z_difference", "both ensembles need a log_z", "only sampled ensembles carry one")
    if ensemble_a.n_atoms != ensemble_b.n_atoms:
        raise DataError(
            "log_z_difference", f"{ensemble_a.n_atoms} and {ensemble_b.n_atoms} atoms", "Z has no common unit"
        )
    difference = ensemble_b.log_z - ensemble_a.log_z
    if ensemble_a.log_z_error is None or ensemble_b.log_z_error is None:
        return Estimate(difference, None, "unknown: a log Z is only a lower bound, without an error")
    terms = [(e.log_z_error or 0.0, e.log_z_dof) for e in (ensemble_a, ensemble_b)]
    return Estimate(difference, math.hypot(*(error for error, _ in terms)), dof=_welch_dof(terms))


def _welch_dof(terms: list[tuple[float, float]]) -> float:
    """Degrees of freedom of the sum of independent ``(error, dof)`` (Welch, Biometrika 34, 28, 1947)."""
    uncertainty = sum(error**4 / dof for error, dof in terms)
    return sum(error**2 for error, _ in terms) ** 2 / uncertainty if uncertainty > 0 else math.inf
