"""The tail of a sample of weights: its Pareto shape k-hat, with a standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from boltzgen.ensemble.weighted import Array, pareto_k

LARGEST_K = 0.7
"""k-hat above which means of weighted samples cannot be trusted (Vehtari et al. 2024)."""
FINITE_VARIANCE = 0.5
"""k above which weights have no variance, and their mean no standard error."""
_PRIOR = 10
"""Tail points that the prior of arviz' fit counts for (Vehtari et al. 2024, appendix C)."""


@dataclass(frozen=True)
class Tail:
    """Shape of a generalised Pareto distribution fitted to the largest weights.

    k, error
        Of the ``3 sqrt(n)`` largest, which is far out in the tail (Vehtari et al. 2024, appendix H).
    wide_k, wide_error
        Of the largest fifth: less noise, and the tail as far as the bulk tells of it.
    """

    k: float
    error: float
    wide_k: float
    wide_error: float = 0.0


def tail_of(log_weights: Array) -> Tail | None:
    """The tail of independent log weights ``(n,)``.

    None where `boltzgen.ensemble.weighted.pareto_k` is. The error is the asymptotic one of maximum
    likelihood, ``(1 + k) / sqrt(m)`` for m points (Smith, Biometrika 72, 67, 1985), times the weight that the
    prior leaves to the data.
    """
    finite = log_weights[np.isfinite(log_weights)]
    n = len(finite)
    k, wide = (pareto_k(finite, relative_efficiency) for relative_efficiency in (1.0, 1e-9))
    if k is None or wide is None:
        return None
    m = math.floor(3 * math.sqrt(n) if n > 225 else n / 5)  # as arviz has it
    return Tail(k, _error(k, m), wide, _error(wide, n // 5))


def _error(k: float, m: int) -> float:
    return (1 + max(k, 0.0)) / math.sqrt(m) * m / (m + _PRIOR)
