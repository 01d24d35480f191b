"""How often independent trajectories have been in every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

from boltzgen.ensemble.regions import find_regions
from boltzgen.ensemble.torsion_units import torsion_units
from boltzgen.ensemble.uncertainty import effective_independent
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.system.molecular_system import MolecularSystem

_SHOWN = 4


@dataclass(frozen=True)
class Visits:
    """Effective numbers of decorrelated blocks of frames in each state, or in all where there is none.

    States are the declared ones and the wells of every torsion of heavy atoms that hold 1 % of the weight.
    """

    counts: Mapping[str, float]

    @classmethod
    def of(cls, system: MolecularSystem, data: WeightedEnsemble) -> Visits:
        """Of data whose blocks are numbered (`boltzgen.ensemble.correlation`)."""
        found = find_regions(torsion_units(system), data).of_single_units
        wells = {region.name: region.n_blocks for region in found}
        declared = {
            state.name: effective_independent(data, state.members(data.positions)) for state in system.states
        }
        return cls((wells | declared) or {"all": effective_independent(data)})

    @property
    def fewest(self) -> float:
        """Of any state."""
        return min(self.counts.values())

    def __str__(self) -> str:
        """Those that were visited least."""
        shown = [f"{name} {count:.0f}" for name, count in sorted(self.counts.items(), key=itemgetter(1))]
        rest = len(shown[_SHOWN:])
        return ", ".join(shown[:_SHOWN] + [f"{rest} more"] * bool(rest))
