"""One ensemble weighted for another temperature or force field, and how far that can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from boltzgen.ensemble.tails import LARGEST_K
from boltzgen.ensemble.uncertainty import (
    Estimate,
    OfSums,
    cluster_weights,
    effective_independent,
    estimated,
    log_ratio,
    normalised_weights,
    supported,
)
from boltzgen.ensemble.weighted import Array, WeightedEnsemble, log_sum_exp, pareto_k
from boltzgen.errors import DataError, NumericalError
from boltzgen.units import GAS_CONSTANT

ReducedEnergy = Callable[[Tensor], Tensor]
"""``u = U / kT`` with shape ``(n,)`` of configurations [nm] ``(n, n_atoms, 3)``, such as a `Potential`."""


@dataclass(frozen=True)
class Reweighted:
    """An ensemble weighted for another target, and what the new weights are worth.

    log_z_change
        ``log Z_new - log Z_old`` by exponential averaging (Zwanzig, J. Chem. Phys. 22, 1420, 1954).
    kish_ess
        Kish's effective number of rows.
    effective_independent
        The same of clusters, which is what errors rest on.
    pareto_k
        k-hat of the summed weights of clusters; None if there are too few to tell.
    """

    ensemble: WeightedEnsemble
    log_z_change: Estimate
    kish_ess: float
    effective_independent: float
    pareto_k: float | None

    @property
    def trustworthy(self) -> bool:
        """Whether k-hat is known and at most `LARGEST_K`: below, effective sizes mean what they say."""
        return self.pareto_k is not None and self.pareto_k <= LARGEST_K

    def __str__(self) -> str:
        k = "unknown" if self.pareto_k is None else f"{self.pareto_k:.2f}"
        sizes = (
            f"Kish ESS {self.kish_ess:.0f}, {self.effective_independent:.0f} effective independent samples"
        )
        trust = "to be trusted" if self.trustworthy else "not to be trusted"
        return f"{len(self.ensemble)} rows, {sizes}, Pareto k-hat {k}: {trust}"


def reweighted(
    ensemble: WeightedEnsemble,
    target: float | ReducedEnergy,
    temperature_k: float | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> Reweighted:
    """The ensemble weighted for another temperature [K] or force field: ``log w + u_old - u_new``.

    target
        A temperature, or the reduced energy of the new force field: a `Potential`, whose temperature it
        takes, or a function of positions [nm], at ``temperature_k`` (the ensemble's by default).

    log Z follows where it is known; its error is the sum of the old one and that of the change, since they
    come from the same rows. Raises DataError for what is no temperature or no energy of these atoms,
    NumericalError if no weight is left.
    """
    if isinstance(target, int | float):
        new = _at_temperature(ensemble, float(target))
    else:
        new = _under_potential(ensemble, target, temperature_k)
    if not np.isfinite(log_sum_exp(new.log_weights)):
        raise NumericalError(
            "reweighted", "every new weight is zero", "the two targets have nothing in common"
        )
    change = _log_z_change(ensemble, new, n_bootstrap, seed)
    if ensemble.log_z is not None:
        known = None not in (errors := (ensemble.log_z_error, change.error))
        error = sum(e for e in errors if e is not None) if known else None
        dof = min(ensemble.log_z_dof, change.dof)
        new = replace(new, log_z=ensemble.log_z + change.value, log_z_error=error, log_z_dof=dof)
    return Reweighted(new, change, new.ess, effective_independent(new), _lineages_k(new))


def reduced_energies(potential: ReducedEnergy, ensemble: WeightedEnsemble) -> Array:
    """``u`` ``(n,)`` of every row under a potential, NaN as plus infinity; DataError if it does not fit."""
    n_atoms = getattr(potential, "n_atoms", ensemble.n_atoms)
    if n_atoms != ensemble.n_atoms:
        raise DataError(
            "reweighted",
            f"the potential is of {n_atoms} atoms, the ensemble of {ensemble.n_atoms}",
            "give one of the same atoms",
        )
    with torch.no_grad():
        u = np.asarray(potential(torch.as_tensor(ensemble.positions)), dtype=np.float64)
    if u.shape != (len(ensemble),):
        raise DataError(
            "reweighted",
            f"the potential gives shape {u.shape} for {len(ensemble)} configurations",
            "let it give one reduced energy for each",
        )
    return np.where(np.isnan(u), np.inf, u)


def _at_temperature(ensemble: WeightedEnsemble, temperature_k: float) -> WeightedEnsemble:
    if not 0 < temperature_k < math.inf:
        raise DataError("reweighted", f"temperature_k is {temperature_k:g}", "give a positive one, in K")
    return ensemble.at_temperature(temperature_k)


def _under_potential(
    ensemble: WeightedEnsemble, potential: ReducedEnergy, temperature_k: float | None
) -> WeightedEnsemble:
    u = reduced_energies(potential, ensemble)
    kT = getattr(potential, "kT", None)
    if kT is not None and temperature_k is not None:
        raise DataError(
            "reweighted", "a Potential has a temperature of its own", "give no temperature_k with it"
        )
    temperature = kT / GAS_CONSTANT if kT is not None else temperature_k or ensemble.temperature_k
    carrying = ensemble.log_weights > -np.inf
    with np.errstate(invalid="ignore"):
        log_weights = np.where(carrying, ensemble.log_weights + ensemble.reduced_energies - u, -np.inf)
    return replace(
        ensemble,
        log_weights=log_weights,
        reduced_energies=u,
        temperature_k=temperature,
        log_z=None,
        log_z_error=None,
    )


def _log_z_change(old: WeightedEnsemble, new: WeightedEnsemble, n_bootstrap: int, seed: int) -> Estimate:
    """Log of the ratio of the sums of new and old weights."""
    value = log_sum_exp(new.log_weights) - log_sum_exp(old.log_weights)
    usable, note = supported(new, "the reweighted ensemble", new.log_weights > -np.inf)
    if not usable:
        return Estimate(value, None, note)
    sums = np.stack([normalised_weights(old), normalised_weights(new)], axis=1)
    return estimated(old, OfSums(value, sums, log_ratio, note), n_bootstrap, seed)


def _lineages_k(ensemble: WeightedEnsemble) -> float | None:
    """k-hat of the weights of clusters, which are independent where rows are not."""
    with np.errstate(divide="ignore"):
        return pareto_k(np.log(cluster_weights(ensemble)))
