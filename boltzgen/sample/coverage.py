"""Whether a sample has what the data visit: their regions, and the range of their energies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.regions import Regions
from boltzgen.ensemble.uncertainty import effective_independent
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.smc.presence import FEW, MISSING, Presence

N_LIMITS = 40
"""Limits of energy differences that are tried."""


def region_presence(regions: Regions, samples: WeightedEnsemble) -> list[Presence]:
    """Population and effective ancestors of every region of the data in the sample."""
    inside = regions.members(samples.positions)
    return [
        Presence(
            region.name,
            region.population,
            region.n_blocks,
            float(samples.weights[rows].sum()),
            effective_independent(samples, rows),
        )
        for region, rows in zip(regions.regions, inside.T, strict=True)
    ]


def energy_presence(
    of_data: Array, blocks: NDArray[np.int64], of_samples: Array, samples: WeightedEnsemble
) -> Presence:
    """The data whose ``U_theta(x, sigma_min) - u(x)`` lies above nearly everything in the sample.

    A state whose energy the network has too high by a constant is lost on the way down, and its data stand
    out in this difference, wherever they lie. Data and sample have the same distribution of it where both are
    right. Of `N_LIMITS` limits, which part the data evenly, it is the one above which the sample lacks most
    (`Presence.lacking`), and of those the lowest.

    of_data
        Values ``(n,)`` of equally weighted data, ``blocks`` ``(n,)`` of which are correlated; not a number
        is above all.
    of_samples
        Values ``(m,)`` of ``samples``.
    """
    of_data = np.where(np.isnan(of_data), np.inf, of_data)
    ess = effective_independent(samples)
    limits = np.quantile(of_data, np.arange(N_LIMITS) / N_LIMITS, method="higher")
    found = [_above(limit, of_data, blocks, of_samples, samples) for limit in np.unique(limits)]
    missing, few = ([p for p in found if p.lacking(ess) == part] for part in (MISSING, FEW))
    return (missing or few or found[-1:])[0]


def _above(
    limit: float,
    of_data: Array,
    blocks: NDArray[np.int64],
    of_samples: Array,
    samples: WeightedEnsemble,
) -> Presence:
    beyond, rows = of_data >= limit, of_samples >= limit
    counts = np.unique(blocks[beyond], return_counts=True)[1].astype(float)
    return Presence(
        f"configurations with U_theta - u at sigma_min above {limit:.1f}",
        float(beyond.mean()),
        float(counts.sum() ** 2 / np.square(counts).sum()),
        float(samples.weights[rows].sum()),
        effective_independent(samples, rows),
    )
