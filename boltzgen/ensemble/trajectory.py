"""Configurations of a system as frames of MDTraj."""

from __future__ import annotations

import mdtraj
import numpy as np

from boltzgen.system.molecular_system import MolecularSystem


def trajectory(system: MolecularSystem, positions: np.ndarray) -> mdtraj.Trajectory:
    """An MDTraj trajectory of positions [nm] with shape ``(n, n_atoms, 3)``, without a unit cell."""
    return mdtraj.Trajectory(positions, system.mdtraj_topology.copy())
