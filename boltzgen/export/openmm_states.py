"""OpenMM files from which molecular dynamics goes on: the System, and States at Boltzmann samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray

from boltzgen.system.molecular_system import MolecularSystem


def write_openmm(
    system: MolecularSystem, positions: NDArray[np.float32], directory: Path, seed: int
) -> list[Path]:
    """Write ``system.xml``, and ``state_000.xml``, ... for configurations [nm] ``(n, n_atoms, 3)``.

    Velocities are drawn from the Maxwell-Boltzmann distribution at the system's temperature.
    ``Simulation.loadState`` or ``Context.setState`` takes a state.
    """
    paths = [directory / "system.xml"]
    paths[0].write_text(openmm.XmlSerializer.serialize(system.openmm_system))
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system.openmm_system, integrator, openmm.Platform.getPlatformByName("Reference"))
    for k, x in enumerate(positions):
        context.setPositions(np.asarray(x, dtype=np.float64))
        context.setVelocitiesToTemperature(system.temperature_k, seed + k)
        state = context.getState(positions=True, velocities=True, energy=True)
        paths.append(directory / f"state_{k:03d}.xml")
        paths[-1].write_text(openmm.XmlSerializer.serialize(state))
    return paths
