"""The user's own molecular dynamics as the training ensemble, checked before anything trusts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mdtraj
import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen import frames
from boltzgen.config import DataSettings
from boltzgen.ensemble import WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.potential import make_potential
from boltzgen.stretches import with_stretches
from boltzgen.system import MolecularSystem

_ROUNDING_NM = {".xtc": 1e-3, ".gro": 1e-3, ".pdb": 1e-4}


def load_trajectories(
    system: MolecularSystem,
    settings: DataSettings,
    base: Path,
    say: Callable[[str], None] = lambda line: None,
) -> WeightedEnsemble:
    """Frames of trajectories sampled at the system's temperature, in any format that MDTraj reads.

    settings
        Files (relative to ``base``), stride, frames to skip at the start of each, and optional weights:
        an ``.npy`` file with one positive number per frame as it stands in the files, before skipping.
    base
        Directory of the workflow file.
    say
        Told what is suspicious and may yet be meant.

    Atoms must be in the order of the system's topology and molecules whole. Energies are computed anew
    with the system's force field. ``islands`` numbers the files and ``lineages`` correlated stretches.
    Raises DataError for files that cannot be read, other atoms or another order, a periodic box, constrained
    bonds, frames that are few, repeated or without a plausible energy, and weights that do not fit.
    """
    topology = mdtraj.Topology.from_openmm(system.topology)
    paths = [base / name for name in settings.trajectory]
    if not paths:
        raise DataError("data.trajectory", "no files given", "name at least one")
    whole = [_read(path, topology, system) for path in paths]
    kept = [np.arange(settings.skip_frames, len(x), settings.stride) for x in whole]
    for path, rows, x in zip(paths, kept, whole, strict=True):
        if len(rows) == 0:
            raise DataError(
                path, f"has {len(x)} frames, and data.skip_frames leaves none of them", "skip fewer"
            )
    log_weights = _log_weights(settings, base, whole, kept)
    pieces = [x[rows] for x, rows in zip(whole, kept, strict=True)]
    resolution = max(_ROUNDING_NM.get(path.suffix.lower(), 0.0) for path in paths)
    where, together = ", ".join(settings.trajectory), np.concatenate(pieces)
    warnings = frames.check_number(together, where)
    frames.check_bonds(system, together, resolution, where)
    for k, path in enumerate(paths):
        pieces[k], line = frames.reflected(system, pieces[k], str(path))
        warnings += [line] if line else []
    ensemble = _ensemble(system, paths, kept, pieces, log_weights)
    for line in warnings:
        say(line)
    return ensemble


def _read(path: Path, topology: mdtraj.Topology, system: MolecularSystem) -> NDArray[np.float32]:
    """Positions [nm] of one file, ``(n, n_atoms, 3)``."""
    if not path.is_file():
        raise DataError("data.trajectory", f"no file {path}", "paths are relative to the workflow file")
    try:
        own_topology = path.suffix.lower() in (".h5", ".hdf5", ".pdb", ".gro", ".lh5")
        loaded = mdtraj.load(str(path)) if own_topology else mdtraj.load(str(path), top=topology)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(
            path, f"cannot be read as a trajectory of {system.n_atoms} atoms ({reason})", "give a whole file"
        ) from error
    frames.check_molecule(loaded, system, str(path))
    return np.asarray(loaded.xyz, dtype=np.float32)


def _log_weights(
    settings: DataSettings, base: Path, whole: list[NDArray[np.float32]], kept: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Log weights of the kept frames, zeros where none were given."""
    if settings.weights is None:
        return np.zeros(sum(map(len, kept)))
    path, n = base / settings.weights, sum(map(len, whole))
    if not path.is_file():
        raise DataError("data.weights", f"no file {path}", "paths are relative to the workflow file")
    try:
        weights = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(path, "not a NumPy .npy file of numbers", "write one with numpy.save") from error
    if weights.shape != (n,):
        raise DataError(
            path, f"has shape {weights.shape}, the trajectories have {n} frames in all", "give one for each"
        )
    if not (np.issubdtype(weights.dtype, np.number) and np.isfinite(weights).all() and (weights > 0).all()):
        raise DataError(path, "weights must be positive and finite", "give weights, not their logs")
    starts = np.cumsum([0, *map(len, whole[:-1])])
    rows = np.concatenate([start + rows for start, rows in zip(starts, kept, strict=True)])
    return np.log(weights[rows].astype(np.float64))


def _ensemble(
    system: MolecularSystem,
    paths: list[Path],
    kept: list[NDArray[np.int64]],
    pieces: list[NDArray[np.float32]],
    log_weights: NDArray[np.float64],
) -> WeightedEnsemble:
    """Energies, correlated stretches and file numbers, joined."""
    potential, energies = make_potential(system), []
    u_reference = float(potential(torch.as_tensor(system.positions)[None])[0])
    for path, rows, x in zip(paths, kept, pieces, strict=True):
        u = potential(torch.as_tensor(x)).numpy()
        bad = np.flatnonzero(~np.isfinite(u))
        if len(bad):
            raise DataError(
                path, f"frame {rows[bad[0]]} has no finite energy", "is it the same molecule, whole?"
            )
        frames.check_energies(system, u, u_reference, str(path))
        energies.append(u)
    positions = np.concatenate(pieces).astype(np.float64)
    joined = WeightedEnsemble(
        positions=(positions - positions.mean(axis=1, keepdims=True)).astype(np.float32),
        log_weights=log_weights,
        reduced_energies=np.concatenate(energies),
        temperature_k=system.temperature_k,
        islands=np.repeat(np.arange(len(pieces)), [len(x) for x in pieces]),
    )
    return with_stretches(system, joined)
