"""Rare states raised in the training data, so that the network sees enough of each to weigh it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.system import MolecularSystem

SWEEPS = 100
"""Passes over the states; raising one lowers the others, which converges geometrically."""


def balanced(data: WeightedEnsemble, system: MolecularSystem, share: float) -> WeightedEnsemble:
    """``data`` with the weight of every declared state that it visits raised to at least ``share``.

    Weights within a state keep their proportions. Where the states cannot all have so much, they get
    equal shares. log Z is dropped: it is not that of the new weights.
    """
    inside = [state.members(data.positions) for state in system.states]
    weights = data.weights.copy()
    visited = [rows for rows in inside if 0.0 < weights[rows].sum() < 1.0]
    share = min(share, 1.0 / max(len(visited), 1))
    for _ in range(SWEEPS):
        for rows in visited:
            now = weights[rows].sum()
            if now < share:
                weights[rows] *= share * (1.0 - now) / (now * (1.0 - share))
                weights /= weights.sum()
    with np.errstate(divide="ignore"):
        return replace(data, log_weights=np.log(weights), log_z=None, log_z_error=None)
