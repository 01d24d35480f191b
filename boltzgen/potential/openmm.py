"""OpenMM as the evaluator of an energy: one context fed one frame at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from torch import Tensor

from boltzgen.potential.platforms import bare_context

Array = NDArray[np.float64]


class OpenMMEvaluator:
    """Energies [kJ/mol] and forces [kJ/mol/nm] from a single-threaded OpenMM context, as float64.

    A configuration that OpenMM cannot evaluate (overlapping atoms, NaN) has energy +inf and zero forces:
    in a sampler that is weight zero, not a crash.
    """

    dtype = torch.float64

    def __init__(self, system: openmm.System, platform: str) -> None:
        self.system, self.platform = system, platform
        self._context: openmm.Context | None = None

    def energy_and_forces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies ``(n,)`` and forces ``(n, n_atoms, 3)`` on the device of ``x``, without autograd."""
        positions = x.detach().to("cpu", torch.float64).numpy()
        energies, forces = np.empty(len(positions)), np.empty(positions.shape)
        for k, frame in enumerate(positions):
            energies[k], forces[k] = self._evaluate(frame)
        return torch.from_numpy(energies).to(x.device), torch.from_numpy(forces).to(x.device)

    def _evaluate(self, positions: Array) -> tuple[float, Array | float]:
        if not np.isfinite(positions).all():
            return np.inf, 0.0
        if self._context is None:
            self._context = bare_context(self.system, openmm.VerletIntegrator(0.001), self.platform)
        try:
            self._context.setPositions(positions)
            state = self._context.getState(energy=True, forces=True)
        except openmm.OpenMMException:
            return np.inf, 0.0
        energy = state.getPotentialEnergy()._value
        forces = state.getForces(asNumpy=True)._value
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            return np.inf, 0.0
        return energy, forces

    def __getstate__(self) -> dict[str, Any]:
        """Contexts stay behind when the evaluator travels to another process."""
        return {**self.__dict__, "_context": None}
