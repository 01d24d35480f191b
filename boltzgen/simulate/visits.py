"""How often independent trajectories have been in every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from boltzgen.ensemble.uncertainty import effective_independent
from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.system.molecular_system import MolecularSystem


@dataclass(frozen=True)
class Visits:
    """Effective numbers of decorrelated blocks of frames in each state, or in all where there is none."""

    counts: Mapping[str, float]

    @classmethod
    def of(cls, system: MolecularSystem, data: WeightedEnsemble) -> Visits:
        """Of data whose blocks are numbered (`boltzgen.ensemble.correlation`)."""
        states = {
            state.name: effective_independent(data, state.members(data.positions)) for state in system.states
        }
        return cls(states or {"all": effective_independent(data)})

    @property
    def fewest(self) -> float:
        """Of any state."""
        return min(self.counts.values())

    def __str__(self) -> str:
        return ", ".join(f"{name} {count:.0f}" for name, count in self.counts.items())
