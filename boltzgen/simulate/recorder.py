"""What one simulation is asked for, and what it records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boltzgen.config.schema import SimulateSettings
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.weighted import WeightedEnsemble
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
    def finished(self) -> str:
        """Name of the checkpoint of the whole run."""
        return f"run_{self.run}"

    @property
    def unfinished(self) -> str:
        """Name of that of a run that is under way."""
        return f"run_{self.run}_so_far"

    @property
    def scratch(self) -> Path | None:
        """Where scratch files go; None is the system's directory for them."""
        return self.kept.directory


@dataclass
class Recorder:
    """Frames of one run, replica by replica and each in time order.

    positions, energies
        [nm] ``(n_atoms, 3)`` float32, and [kJ/mol].
    log_weights
        At the target's temperature and without bias, float64.
    replicas
        The number of the continuous trajectory that a frame belongs to.
    remarks
        What the simulation found out about itself, in lines.
    """

    positions: list[NDArray[np.float32]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    log_weights: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(
        self, positions: NDArray[np.floating], energy: float, log_weight: float = 0.0, replica: int = 0
    ) -> None:
        """Keep one configuration, centred. Raises FloatingPointError if it has blown up."""
        centred = positions - positions.mean(axis=0)
        if not (np.isfinite(energy) and np.abs(centred).max() < FARTHEST_NM):
            raise FloatingPointError("energy or positions are not finite")
        self.positions.append(centred.astype(np.float32))
        self.energies.append(energy)
        self.log_weights.append(log_weight)
        self.replicas.append(replica)

    def clear(self) -> None:
        """Forget every frame so far."""
        for frames in (self.positions, self.energies, self.log_weights, self.replicas):
            frames.clear()


def joined(system: MolecularSystem, runs: Sequence[Recorder]) -> WeightedEnsemble:
    """All frames of all runs; ``islands`` numbers their replicas, ``lineages`` decorrelated blocks."""
    islands, first = [], 0
    for frames in runs:
        islands.append(first + np.array(frames.replicas))
        first = int(islands[-1].max()) + 1
    together = WeightedEnsemble(
        positions=np.concatenate([np.stack(frames.positions) for frames in runs]),
        log_weights=np.concatenate([np.array(frames.log_weights) for frames in runs]),
        reduced_energies=np.concatenate([np.array(frames.energies) for frames in runs]) / system.kT,
        temperature_k=system.temperature_k,
        islands=np.concatenate(islands),
    )
    return with_blocks(system, together)
