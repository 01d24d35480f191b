"""Weights at the target of frames from all levels of an exchange: hotter ones, and under a bias (MBAR)."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.ensemble.weighted import Array
from boltzgen.simulate.exchange_levels import ExchangeLevels

_MOST_SOLVED = 20_000
"""Frames that free energies are solved for with; those of all frames follow from them."""


def target_log_weights(
    levels: ExchangeLevels, level: NDArray[np.int64], energies: Array, biases: Array
) -> Array:
    """Log weights ``(n,)`` at the first level's temperature without bias, normalised to a sum of one.

    The frames of all levels are one sample of the mixture of their distributions, whose free energies MBAR
    finds (Shirts and Chodera, J. Chem. Phys. 129, 124105, 2008, equations 11 and 13).

    level
        The number of each frame's ``(n,)``.
    energies, biases
        Of the molecule, and of the bias at full strength [kJ/mol] ``(n,)``.
    """
    energies = energies - energies.mean()
    u = levels.reduced(torch.as_tensor(energies), torch.as_tensor(biases)).numpy()
    counts = np.bincount(level, minlength=len(u))
    f = np.zeros(1) if len(u) == 1 else _free_energies(u, level)
    log_mixture = np.logaddexp.reduce(np.log(counts / len(level))[:, None] + f[:, None] - u, axis=0)
    log_weights = -energies / float(levels.kT[0]) - log_mixture
    return log_weights - np.logaddexp.reduce(log_weights)


def _free_energies(u: Array, level: NDArray[np.int64]) -> Array:
    """``(R,)``, the first zero, from evenly chosen frames, or all where they are few."""
    logging.getLogger("pymbar").setLevel(logging.ERROR)  # it greets every import
    from pymbar import MBAR

    rows = np.arange(0, len(level), max(1, len(level) // _MOST_SOLVED))
    counts = np.bincount(level[rows], minlength=len(u))
    return np.asarray(MBAR(u[:, rows], counts).f_k)
