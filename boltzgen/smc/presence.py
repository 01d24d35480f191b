"""How much of a region that the data visit is in a sample."""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED = 10.0
"""A region is judged where the sample should have this many effective ancestors there: by chance alone it is
missed in one of exp(10) samples. What is smaller is smaller than three errors of log Z too."""
REAL_BLOCKS = 10.0
"""Effective blocks of the data that a region rests on, at least, to be judged."""
FEW, MISSING = 0.1, 0.01
"""Parts of its weight in the data below which a region of the sample is thin, and missing."""


@dataclass(frozen=True)
class Presence:
    """How much of the data and of the sample lies in a region.

    data_population, n_blocks
        Weight of it in the data, and the effective number of independent blocks behind that.
    ancestors
        Effective number of ancestors that support its weight in the sample.
    """

    name: str
    data_population: float
    n_blocks: float
    population: float
    ancestors: float

    def lacking(self, ess: float) -> float:
        """How much of the region a sample of ``ess`` effective ancestors lacks: 0, `FEW` or `MISSING`.

        0 for a region that is too small to be judged, in the sample or in the data. The weight in the sample
        and the effective ancestors count, each over what the data let expect: the smaller of the two.
        """
        expected = self.data_population * ess
        if self.n_blocks < REAL_BLOCKS or not expected >= EXPECTED:
            return 0.0
        found = min(self.population / self.data_population, self.ancestors / expected)
        return MISSING if found < MISSING else FEW if found < FEW else 0.0
