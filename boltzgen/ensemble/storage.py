"""Weighted ensembles on disk: MDTraj's HDF5 trajectory layout with the weights beside the coordinates."""

from __future__ import annotations

import math
from pathlib import Path

import mdtraj
import numpy as np
import tables

from boltzgen.ensemble.weighted import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.runtime.files import replaced

_ARRAYS = ("log_weights", "reduced_energies", "lineages", "islands")
_UNREADABLE = "not a readable ensemble file", "run the stage that writes it again, with `--force STAGE`"
_NUMBERS = ("temperature_k", "log_z", "log_z_error", "log_z_dof")


def save_ensemble(ensemble: WeightedEnsemble, topology: mdtraj.Topology, path: Path) -> None:
    """Write an ensemble to an ``.h5`` file that ``mdtraj.load`` opens as a trajectory.

    Positions [nm] and topology follow MDTraj's layout; ``log_weights``, ``reduced_energies``,
    ``lineages`` and ``islands`` are further arrays of the file, the temperature [K] and ``log_z``
    attributes of its root. The file appears complete or not at all.
    """
    with replaced(path) as partial:
        frames = mdtraj.Trajectory(ensemble.positions, topology)
        frames.save_hdf5(str(partial))
        with tables.open_file(str(partial), "a") as file:
            for name in _ARRAYS:
                values = getattr(ensemble, name)
                if values is not None:
                    file.create_array(file.root, name, obj=values)
            for name in _NUMBERS:
                value = getattr(ensemble, name)
                if value is not None:
                    file.root._v_attrs[f"boltzgen_{name}"] = float(value)


def load_ensemble(path: Path) -> WeightedEnsemble:
    """Read what ``save_ensemble`` wrote. Raises DataError for a missing, damaged or foreign file."""
    if not path.is_file():
        raise DataError(path, "no such file", "run the stage that writes it")
    try:
        arrays, numbers, positions = _read(path)
    except Exception as error:  # a damaged file can break anything in there
        raise DataError(path, *_UNREADABLE) from error
    for name in ("log_weights", "reduced_energies"):
        if name not in arrays:
            raise DataError(path, f"has no {name}", "give plain trajectories under data.trajectory instead")
    if "temperature_k" not in numbers:
        raise DataError(path, "has no temperature", "give plain trajectories under data.trajectory instead")
    try:
        return WeightedEnsemble(
            positions=positions,
            log_weights=arrays["log_weights"],
            reduced_energies=arrays["reduced_energies"],
            temperature_k=numbers["temperature_k"],
            log_z=numbers.get("log_z"),
            log_z_error=numbers.get("log_z_error"),
            log_z_dof=numbers.get("log_z_dof", math.inf),
            lineages=arrays.get("lineages"),
            islands=arrays.get("islands"),
        )
    except ValueError as error:
        raise DataError(path, *_UNREADABLE) from error


def load_topology(path: Path) -> mdtraj.Topology:
    """Atoms and bonds of an ensemble file."""
    with mdtraj.formats.HDF5TrajectoryFile(str(path), "r") as file:
        return file.topology


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, float], np.ndarray]:
    """Arrays and numbers of an ensemble file that are there, and its positions."""
    with tables.open_file(str(path), "r") as file:
        arrays = {name: file.get_node("/", name).read() for name in _ARRAYS if f"/{name}" in file}
        attributes = file.root._v_attrs
        numbers = {n: float(attributes[f"boltzgen_{n}"]) for n in _NUMBERS if f"boltzgen_{n}" in attributes}
        return arrays, numbers, np.asarray(file.root.coordinates.read(), dtype=np.float32)
