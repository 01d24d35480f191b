"""The user's own molecular dynamics as the training ensemble, checked before anything trusts it."""

from __future__ import annotations

import math
from pathlib import Path

import mdtraj
import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.config import DataSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.potential import make_potential
from boltzgen.simulate import correlated_stretches
from boltzgen.system import MolecularSystem

LONGEST_BOND_NM = 0.3
"""A median bond length above this means that the atoms are in another order."""

LEAST_VIBRATION = 0.2
"""A bond vibrating less than this fraction of what kT gives it was constrained."""

_ROUNDING_NM = {".xtc": 1e-3, ".gro": 1e-3, ".pdb": 1e-4}


def load_trajectories(system: MolecularSystem, settings: DataSettings, base: Path) -> WeightedEnsemble:
    """Frames of trajectories sampled at the system's temperature, in any format that MDTraj reads.

    settings
        Files (relative to ``base``), stride, frames to skip at the start of each, and optional weights:
        an ``.npy`` file with one positive number per frame as it stands in the files, before skipping.
    base
        Directory of the workflow file.

    Atoms must be in the order of the system's topology and molecules whole. Energies are computed anew
    with the system's force field. ``islands`` numbers the files and ``lineages`` correlated stretches.
    Raises DataError for files that cannot be read, other atoms or another order, constrained bonds,
    weights that do not fit, and frames without a finite energy.
    """
    topology = mdtraj.Topology.from_openmm(system.topology)
    paths = [base / name for name in settings.trajectory]
    if not paths:
        raise DataError("data.trajectory: no files given")
    whole = [_read(path, topology, system) for path in paths]
    kept = [np.arange(settings.skip_frames, len(x), settings.stride) for x in whole]
    for path, rows, x in zip(paths, kept, whole, strict=True):
        if len(rows) == 0:
            raise DataError(f"{path}: has {len(x)} frames, data.skip_frames leaves none of them")
    log_weights = _log_weights(settings, base, whole, kept)
    pieces = [x[rows] for x, rows in zip(whole, kept, strict=True)]
    resolution = max(_ROUNDING_NM.get(path.suffix.lower(), 0.0) for path in paths)
    _check_bonds(system, np.concatenate(pieces), resolution, ", ".join(settings.trajectory))
    return _ensemble(system, paths, kept, pieces, log_weights)


def _read(path: Path, topology: mdtraj.Topology, system: MolecularSystem) -> NDArray[np.float32]:
    """Positions [nm] of one file, ``(n, n_atoms, 3)``."""
    if not path.is_file():
        raise DataError(f"data.trajectory: no file {path}; paths are relative to the workflow file")
    try:
        own_topology = path.suffix.lower() in (".h5", ".hdf5", ".pdb", ".gro", ".lh5")
        loaded = mdtraj.load(str(path)) if own_topology else mdtraj.load(str(path), top=topology)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: cannot be read as a trajectory of {system.n_atoms} atoms ({reason})"
        ) from error
    if loaded.n_atoms != system.n_atoms:
        raise DataError(
            f"{path}: has {loaded.n_atoms} atoms, {system.name} has {system.n_atoms}; "
            "strip solvent and ions first"
        )
    bad = np.flatnonzero(~np.isfinite(loaded.xyz).all(axis=(1, 2)))
    if len(bad):
        raise DataError(f"{path}: frame {bad[0]} has positions that are not finite; cut it out")
    return np.asarray(loaded.xyz, dtype=np.float32)


def _log_weights(
    settings: DataSettings, base: Path, whole: list[NDArray[np.float32]], kept: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Log weights of the kept frames, zeros where none were given."""
    if settings.weights is None:
        return np.zeros(sum(map(len, kept)))
    path, n = base / settings.weights, sum(map(len, whole))
    if not path.is_file():
        raise DataError(f"data.weights: no file {path}; paths are relative to the workflow file")
    try:
        weights = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not a NumPy .npy file of numbers") from error
    if weights.shape != (n,):
        raise DataError(f"{path}: has shape {weights.shape}, the trajectories have {n} frames in all")
    if not (np.issubdtype(weights.dtype, np.number) and np.isfinite(weights).all() and (weights > 0).all()):
        raise DataError(f"{path}: weights must be positive and finite (weights, not their logs)")
    starts = np.cumsum([0, *map(len, whole[:-1])])
    rows = np.concatenate([start + rows for start, rows in zip(starts, kept, strict=True)])
    return np.log(weights[rows].astype(np.float64))


def _check_bonds(system: MolecularSystem, x: NDArray[np.float32], resolution_nm: float, where: str) -> None:
    """Refuse bonds that are too long to be bonds or too stiff to be free."""
    atoms, stiffness = list(system.topology.atoms()), _bond_stiffness(system)
    noise = resolution_nm**2 / 6  # variance of a distance between two coordinates rounded to the step
    for i, j in system.bonds:
        lengths = np.linalg.norm(x[:, i].astype(np.float64) - x[:, j], axis=-1)
        bond, median = f"{atoms[i].name}({i}) - {atoms[j].name}({j})", float(np.median(lengths))
        if median > LONGEST_BOND_NM:
            raise DataError(
                f"{where}: the bond {bond} is {median:.2f} nm long; "
                f"are the atoms in the order of {system.name}, and molecules whole?"
            )
        if len(x) < 10:
            continue
        thermal = math.sqrt(system.kT / stiffness[i, j]) if stiffness.get((i, j)) else 0.0
        spread, blur = float(lengths.var()), 4 * noise / math.sqrt(len(x))
        if math.sqrt(max(spread - noise - blur, 0.0)) < max(LEAST_VIBRATION * thermal, 1e-5):
            raise DataError(
                f"{where}: the bond {bond} does not vibrate (standard deviation {math.sqrt(spread):.1e} nm); "
                "constrained bonds have no density in Cartesian space, run the dynamics with constraints=None"
            )


def _bond_stiffness(system: MolecularSystem) -> dict[tuple[int, int], float]:
    """Force constants [kJ/mol/nm^2] of harmonic bonds, by atom pair ``i < j``."""
    found = {}
    for force in system.openmm_system.getForces():
        if type(force).__name__ == "HarmonicBondForce":
            for k in range(force.getNumBonds()):
                i, j, _, stiffness = force.getBondParameters(k)
                found[min(i, j), max(i, j)] = float(stiffness._value)
    return found


def _ensemble(
    system: MolecularSystem,
    paths: list[Path],
    kept: list[NDArray[np.int64]],
    pieces: list[NDArray[np.float32]],
    log_weights: NDArray[np.float64],
) -> WeightedEnsemble:
    """Energies, correlated stretches and file numbers, joined."""
    potential, energies, lineages, first = make_potential(system), [], [], 0
    for path, rows, x in zip(paths, kept, pieces, strict=True):
        u = potential(torch.as_tensor(x)).numpy()
        bad = np.flatnonzero(~np.isfinite(u))
        if len(bad):
            raise DataError(
                f"{path}: frame {rows[bad[0]]} has no finite energy; is it the same molecule, whole?"
            )
        energies.append(u)
        lineages.append(correlated_stretches(system, x, u) + first)
        first = int(lineages[-1][-1]) + 1
    positions = np.concatenate(pieces).astype(np.float64)
    return WeightedEnsemble(
        positions=(positions - positions.mean(axis=1, keepdims=True)).astype(np.float32),
        log_weights=log_weights,
        reduced_energies=np.concatenate(energies),
        temperature_k=system.temperature_k,
        lineages=np.concatenate(lineages),
        islands=np.repeat(np.arange(len(pieces)), [len(x) for x in pieces]),
    )
