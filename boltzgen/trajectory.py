"""Configurations of a system as frames of MDTraj."""

from __future__ import annotations

import mdtraj
import numpy as np

from boltzgen.system import MolecularSystem


def trajectory(system: MolecularSystem, positions: np.ndarray) -> mdtraj.Trajectory:
    """An MDTraj trajectory of positions [nm] with shape ``(n, n_atoms, 3)``, without a unit cell.

    Particles without a chemical element become MDTraj's virtual-site element.
    """
    return mdtraj.Trajectory(positions, mdtraj.Topology.from_openmm(system.topology))
