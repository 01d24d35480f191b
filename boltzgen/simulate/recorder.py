"""What one simulation is asked for, and what it records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boltzgen.config.schema import SimulateSettings
from boltzgen.runtime.checkpoints import Checkpoints
from boltzgen.system.molecular_system import MolecularSystem

Advance = Callable[[float, str], None]
"""Called by a run as ``advance(ps_done, message)`` every fraction of a second; raises to end it."""
FARTHEST_NM = 1e4
"""An atom farther than this from the centroid means that the dynamics blew up."""


@dataclass(frozen=True)
class Task:
    """One run: number ``run``, by an OpenMM platform or ``batched``; scratch files go to ``kept``."""

    system: MolecularSystem
    settings: SimulateSettings
    platform: str
    run: int
    seed: int
    kept: Checkpoints

    @property
    def scratch(self) -> Path | None:
        """Where scratch files go; None is the system's directory for them."""
        return self.kept.directory


@dataclass
class Recorder:
    """Positions [nm] ``(n_atoms, 3)`` float32 and energies [kJ/mol] of one run, in time order."""

    positions: list[NDArray[np.float32]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)

    def add(self, positions: NDArray[np.float64], energy: float) -> None:
        """Keep one configuration, centred. Raises FloatingPointError if it has blown up."""
        centred = positions - positions.mean(axis=0)
        if not (np.isfinite(energy) and np.abs(centred).max() < FARTHEST_NM):
            raise FloatingPointError("energy or positions are not finite")
        self.positions.append(centred.astype(np.float32))
        self.energies.append(energy)

    def clear(self) -> None:
        """Forget everything so far."""
        self.positions.clear()
        self.energies.clear()
