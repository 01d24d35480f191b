"""Whether a sample has what the data visit: their regions, and the range of their energies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble import Array, WeightedEnsemble
from boltzgen.estimates import effective_carriers
from boltzgen.regions import Regions
from boltzgen.sampler.verdict import Presence


def region_presence(regions: Regions, samples: WeightedEnsemble) -> list[Presence]:
    """Population and effective ancestors of every region of the data in the sample."""
    inside = regions.members(samples.positions)
    return [
        Presence(
            region.name,
            region.population,
            region.n_blocks,
            float(samples.weights[rows].sum()),
            effective_carriers(samples, rows),
        )
        for region, rows in zip(regions.regions, inside.T, strict=True)
    ]


def energy_presence(of_data: Array, blocks: NDArray[np.int64], of_samples: Array, weights: Array) -> Presence:
    """The data whose ``U_theta(x, sigma_min) - u(x)`` lies above that of everything in the sample.

    A state whose energy the network has too high by a constant is lost on the way down, and its data stand
    out in this difference, wherever they lie. Data and sample have the same distribution of it where both
    are right.

    of_data
        Values ``(n,)`` of equally weighted data, ``blocks`` ``(n,)`` of which are correlated.
    of_samples
        Values ``(m,)`` of the sample with its ``weights`` ``(m,)``, of which any above zero counts.
    """
    carried = of_samples[(weights > 0) & np.isfinite(of_samples)]
    top = float(carried.max(initial=-np.inf))
    beyond = ~(of_data <= top)
    counts = np.unique(blocks[beyond], return_counts=True)[1].astype(float)
    n_blocks = counts.sum() ** 2 / np.square(counts).sum() if len(counts) else 0.0
    name = f"configurations with U_theta - u at sigma_min above {top:.1f}, its largest value in the sample"
    return Presence(name, float(beyond.mean()), float(n_blocks), 0.0, 0.0)
