"""Wells of one coordinate: ranges of its values between which hardly anything lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boltzgen.ensemble.weighted import Array

N_BINS = 72
"""Bins of 5 degrees for a torsion."""
DENSITY_SMOOTHING = 1.5
"""Standard deviation, in bins, of the Gaussian that histograms are smoothed with."""
BARRIER = 0.3
"""Two wells are parted where the density between them is below this share of the lower peak."""


@dataclass(frozen=True)
class Wells:
    """Boundaries in ascending order, and the value with the highest density in each well.

    Without ``periodic`` there is one well more than boundaries. With it values are angles in [-pi, pi), what
    lies below the first boundary belongs with what lies above the last, and none or two boundaries are the
    least.
    """

    boundaries: Array
    peaks: Array
    periodic: bool

    def of(self, values: Array) -> NDArray[np.int64]:
        """Number of the well of each value, of any shape."""
        return np.searchsorted(self.boundaries, values, side="right") % len(self.peaks)


def find_wells(values: Array, weights: Array, periodic: bool, smallest_share: float) -> Wells:
    """Wells of values ``(n,)``, each with at least ``smallest_share`` of the weights ``(n,)``.

    Of neighbouring peaks of the smoothed histogram, those with the highest saddle between them, compared
    with the lower peak, are joined first, until every saddle is below `BARRIER`.
    """
    low, high = (-math.pi, math.pi) if periodic else _range_of(values)
    density = _smoothed(np.histogram(values, N_BINS, (low, high), weights=weights)[0], periodic)
    cuts = _cuts(density, periodic)
    while len(cuts) > (1 if periodic else 0):
        worst = _weakest(density, cuts, periodic, smallest_share)
        if worst is None:
            break
        cuts = [cut for k, cut in enumerate(cuts) if k != worst]
    cuts = [] if periodic and len(cuts) < 2 else cuts
    edges = np.linspace(low, high, N_BINS + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    peaks = np.array([centres[bins[np.argmax(density[bins])]] for bins in _parts(cuts, periodic)])
    order = np.roll(np.arange(len(peaks)), 1) if periodic else np.arange(len(peaks))
    return Wells(centres[np.array(cuts, dtype=int)], peaks[order], periodic)


def _range_of(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * max(high - low, 1e-9)
    return low - margin, high + margin


def _smoothed(histogram: Array, periodic: bool) -> Array:
    reach = math.ceil(4 * DENSITY_SMOOTHING)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / DENSITY_SMOOTHING))
    padded = np.pad(histogram, reach, mode="wrap" if periodic else "constant")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _cuts(density: Array, periodic: bool) -> list[int]:
    """Bins of local minima between peaks, one to each valley however flat."""
    steps = np.sign(np.diff(np.append(density, density[0]) if periodic else density))
    moving = np.flatnonzero(steps)
    pairs = zip(moving, np.roll(moving, -1) if periodic else moving[1:], strict=False)
    found = [
        (a + 1 + ((b - a) % len(density)) // 2) % len(density) for a, b in pairs if steps[a] < 0 < steps[b]
    ]
    return sorted(int(cut) for cut in found)


def _parts(cuts: list[int], periodic: bool) -> list[NDArray[np.int64]]:
    """Bins of every well, in the order of the boundaries they begin at (the first one, if not periodic)."""
    bins = np.arange(N_BINS)
    if not periodic:
        return np.split(bins, cuts)
    if not cuts:
        return [bins]
    return np.split(np.roll(bins, -cuts[0]), [cut - cuts[0] for cut in cuts[1:]])


def _weakest(density: Array, cuts: list[int], periodic: bool, smallest_share: float) -> int | None:
    """The boundary to remove next, if any: too high a saddle, or beside a well of too small a share."""
    parts = _parts(cuts, periodic)
    heights = np.array([density[part].max() for part in parts])
    shares = np.array([density[part].sum() for part in parts]) / density.sum()
    left = [(k - 1) % len(parts) for k in range(len(cuts))] if periodic else list(range(len(cuts)))
    right = list(range(len(cuts))) if periodic else [k + 1 for k in left]
    saddles = [
        density[cut] / max(min(heights[a], heights[b]), 1e-300)
        for cut, a, b in zip(cuts, left, right, strict=True)
    ]
    small = [min(shares[a], shares[b]) < smallest_share for a, b in zip(left, right, strict=True)]
    worst = max(range(len(cuts)), key=lambda k: (saddles[k] >= BARRIER, small[k], saddles[k]))
    return worst if saddles[worst] >= BARRIER or small[worst] else None
