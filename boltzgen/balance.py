"""Rare states raised in the training data, so that the network sees enough of each to weigh it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from boltzgen.ensemble import WeightedEnsemble
from boltzgen.system import MolecularSystem

SWEEPS = 100
"""Passes over the regions; raising one lowers the others a little below where they were raised to."""


def balanced(data: WeightedEnsemble, system: MolecularSystem, share: float) -> WeightedEnsemble:
    """``data`` with the weight of every declared state that it visits raised to at least ``share``.

    Weights within a state keep their proportions. What lies in no state is not raised, and keeps its
    weight as far as that is less than ``share``. Where not all can have so much, they get equal shares.
    log Z is dropped: it is not that of the new weights.
    """
    inside = [state.members(data.positions) for state in system.states]
    weights = data.weights.copy()
    outside = ~np.any(inside, axis=0) if inside else np.zeros(len(data), bool)
    regions = [rows for rows in (*inside, outside) if 0.0 < weights[rows].sum() < 1.0]
    share = min(share, 1.0 / max(len(regions), 1))
    least = [min(share, weights[rows].sum()) if rows is outside else share for rows in regions]
    for _ in range(SWEEPS):
        for rows, wanted in zip(regions, least, strict=True):
            now = weights[rows].sum()
            if now < wanted:
                weights[rows] *= wanted * (1.0 - now) / (now * (1.0 - wanted))
                weights /= weights.sum()
    with np.errstate(divide="ignore"):
        return replace(data, log_weights=np.log(weights), log_z=None, log_z_error=None)
