"""Whether a sample has what the data visit: their regions, and the range of their energies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble import Array, WeightedEnsemble
from boltzgen.estimates import effective_carriers
from boltzgen.regions import Regions
from boltzgen.sampler.verdict import FEW, MISSING, Presence


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


def energy_presence(
    of_data: Array, blocks: NDArray[np.int64], of_samples: Array, samples: WeightedEnsemble
) -> Presence:
    """The data whose ``U_theta(x, sigma_min) - u(x)`` lies above nearly everything in the sample.

    A state whose energy the network has too high by a constant is lost on the way down, and its data stand
    out in this difference, wherever they lie. Data and sample have the same distribution of it where both are
    right. The limit is the lowest of the data's values above which the sample has less than `MISSING` of the
    weight that the data have; or less than `FEW`, where that is twice as much of the data.

    of_data
        Values ``(n,)`` of equally weighted data, ``blocks`` ``(n,)`` of which are correlated; not a number
        is above all.
    of_samples
        Values ``(m,)`` of ``samples``.
    """
    of_data = np.where(np.isnan(of_data), np.inf, of_data)
    values = np.sort(of_data)
    order = np.argsort(of_samples)
    above = np.append(np.cumsum(samples.weights[order][::-1])[::-1], 0.0)
    sample_shares = above[np.searchsorted(of_samples[order], values)]
    data_shares = 1.0 - np.searchsorted(values, values) / len(values)
    few, missing = (
        next(iter(np.flatnonzero(sample_shares < part * data_shares)), None) for part in (FEW, MISSING)
    )
    lacking = few if missing is None or data_shares[few] > 2 * data_shares[missing] else missing
    limit = np.inf if lacking is None else values[lacking]
    beyond, rows = of_data >= limit, of_samples >= limit
    counts = np.unique(blocks[beyond], return_counts=True)[1].astype(float)
    n_blocks = float(counts.sum() ** 2 / np.square(counts).sum()) if len(counts) else 0.0
    return Presence(
        f"configurations with U_theta - u at sigma_min above {limit:.1f}",
        float(beyond.mean()),
        n_blocks,
        float(samples.weights[rows].sum()),
        effective_carriers(samples, rows),
    )
