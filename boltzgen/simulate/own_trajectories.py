"""The user's own molecular dynamics as the training ensemble, checked before anything trusts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from boltzgen.config.consistency import LEAST_FRAMES
from boltzgen.config.schema import DataSettings
from boltzgen.ensemble.correlation import with_blocks
from boltzgen.ensemble.weighted import Array, WeightedEnsemble
from boltzgen.errors import DataError
from boltzgen.potential import make_potential
from boltzgen.simulate import frame_checks
from boltzgen.simulate.plausibility import check_energies, check_physics, is_possible
from boltzgen.simulate.repeats import first_seen, written_twice
from boltzgen.simulate.trajectory_files import read_frames
from boltzgen.system.molecular_system import MolecularSystem


@dataclass
class Piece:
    """What is kept of a file: positions [nm] ``(n, n_atoms, 3)``, log weights, row numbers in the file."""

    path: Path
    x: NDArray[np.float32]
    log_weights: Array
    rows: NDArray[np.int64]

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave out the other frames."""
        self.x, self.log_weights, self.rows = self.x[kept], self.log_weights[kept], self.rows[kept]


def load_trajectories(
    system: MolecularSystem,
    settings: DataSettings,
    base: Path,
    log: Callable[[str], None] = lambda line: None,
) -> WeightedEnsemble:
    """Frames of trajectories sampled at the system's temperature, in any format that MDTraj reads.

    settings
        Files (relative to ``base``), stride, frames to skip at the start of each, and optional weights:
        an ``.npy`` file with one number per frame as it stands in the files, before skipping.
    base
        Directory of the workflow file.
    say
        Told what was mended, and what is suspicious and may yet be meant.

    Energies are computed anew with the system's force field. ``islands`` numbers the files and ``lineages``
    correlated blocks. Frames of weight zero, those that a restart wrote twice and those after the end of
    a file that was cut off are left out; mirror images are reflected back.
    Raises DataError for what cannot be mended: other molecules, units, temperatures, orders of atoms,
    rounded positions, constrained bonds, and frames that are few or without a plausible energy.
    """
    if not settings.trajectory:
        raise DataError("data.trajectory", "no files given", "name at least one")
    pieces = _read(system, settings, base, log)
    where, resolution = ", ".join(settings.trajectory), 0.0
    for piece in pieces:
        name = str(piece.path)
        frame_checks.check_finite(piece.x, piece.rows, name)
        if system.bonds:
            frame_checks.check_unit(system, piece.x, name)
        resolution = max(resolution, frame_checks.check_rounding(system, piece.x, name))
    for line in (frame_checks.check_repeats([piece.x for piece in pieces], where), _once(pieces, where)):
        if line:
            log(line)
    frame_checks.check_number(sum(len(piece.x) for piece in pieces), where)
    for piece in pieces:
        frame_checks.check_bonds(system, piece.x, piece.rows, resolution, str(piece.path))
        piece.x, line = frame_checks.reflected(system, piece.x, str(piece.path))
        if line:
            log(line)
    return _ensemble(system, pieces, log)


def _read(
    system: MolecularSystem, settings: DataSettings, base: Path, log: Callable[[str], None]
) -> list[Piece]:
    """Every file with its weights, without what is skipped and without frames of weight zero."""
    paths, whole = [base / name for name in settings.trajectory], []
    for path in paths:
        x, remarks = read_frames(path, system)
        whole.append(x)
        for line in remarks:
            log(line)
    weights = _weights(settings, base, [len(x) for x in whole])
    pieces = []
    for path, x, w in zip(paths, whole, weights, strict=True):
        rows = np.arange(settings.skip_frames, len(x), settings.stride)
        if not len(rows):
            raise DataError(path, f"has {len(x)} frames, and data.skip_frames leaves none", "skip fewer")
        with np.errstate(divide="ignore"):
            pieces.append(Piece(path, x[rows], np.log(w[rows]), rows))
    if settings.weights is not None:
        zero = sum(int(np.isneginf(piece.log_weights).sum()) for piece in pieces)
        if zero:
            log(f"warning: {settings.weights}: {zero} frames have weight zero and are left out")
        for piece in pieces:
            piece.keep(np.isfinite(piece.log_weights))
        pieces = [piece for piece in pieces if len(piece.x)]
        _check_effective(settings, pieces)
    return pieces


def _check_effective(settings: DataSettings, pieces: list[Piece]) -> None:
    """DataError for weights that leave hardly a frame, after what is skipped."""
    where = f"data.weights: {settings.weights}"
    if not pieces:
        raise DataError(
            where,
            "every frame that data.skip_frames and data.stride leave has weight zero",
            "skip fewer, or give the weights of these frames",
        )
    log_weights = np.concatenate([piece.log_weights for piece in pieces])
    weights = np.exp(log_weights - log_weights.max())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    if effective < LEAST_FRAMES <= len(weights):
        raise DataError(
            where,
            f"{len(weights)} weighted frames are worth {effective:.1f} equal ones, the heaviest alone has "
            f"{1 / weights.sum():.0%} of the weight",
            f"at least {LEAST_FRAMES} are needed: are these the right weights? bias less, or sample longer",
        )


def _weights(settings: DataSettings, base: Path, lengths: list[int]) -> list[Array]:
    """Weights of all frames, file by file; ones where none were given."""
    if settings.weights is None:
        return [np.ones(n) for n in lengths]
    path, n = base / settings.weights, sum(lengths)
    if not path.is_file():
        raise DataError("data.weights", f"no file {path}", "paths are relative to the workflow file")
    try:
        weights = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(path, "is no NumPy .npy file of numbers", "write one with numpy.save") from error
    if not isinstance(weights, np.ndarray):
        raise DataError(path, "is an archive of arrays", "save the weights alone, with numpy.save")
    if weights.ndim == 2 and 1 in weights.shape:
        weights = weights.ravel()  # a column or a row
    if weights.shape != (n,):
        raise DataError(
            path,
            f"has {_shape(weights)}, the trajectories have {n} frames in all",
            "give one for each, before data.skip_frames and data.stride",
        )
    if weights.dtype == bool:
        weights = weights.astype(np.float64)
    if not np.issubdtype(weights.dtype, np.number) or np.iscomplexobj(weights):
        raise DataError(path, "holds no real numbers", "give one weight for each frame")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(
            path,
            f"the weight of frame {bad[0]} is {weights[bad[0]]:.3g}",
            "give weights, which are positive or zero, not their logs",
        )
    if not weights.any():
        raise DataError(path, "every weight is zero", "give the weights of the frames")
    return np.split(weights.astype(np.float64), np.cumsum(lengths)[:-1])


def _shape(weights: Array) -> str:
    """How many numbers an array holds, and how."""
    if weights.ndim == 1:
        return f"{len(weights)} weights"
    return f"a table of {' x '.join(map(str, weights.shape))} numbers" if weights.ndim else "a single number"


def _once(pieces: list[Piece], where: str) -> str:
    """Leave out frames that a restart wrote again, and a line that says how many."""
    x = np.concatenate([piece.x for piece in pieces])
    twice = written_twice(first_seen(x), x.shape[1])
    if not twice.any():
        return ""
    for piece, again in zip(pieces, np.split(twice, np.cumsum([len(p.x) for p in pieces])[:-1]), strict=True):
        piece.keep(~again)
    pieces[:] = [piece for piece in pieces if len(piece.x)]
    return (
        f"warning: {where}: {twice.sum()} of {len(twice)} frames were written twice (a restart?); used once"
    )


def _ensemble(system: MolecularSystem, pieces: list[Piece], log: Callable[[str], None]) -> WeightedEnsemble:
    """Energies, correlated blocks and file numbers, joined."""
    potential, energies = make_potential(system), []
    u_reference = float(potential(torch.as_tensor(system.positions)[None])[0])
    for piece in pieces:
        u = potential(torch.as_tensor(piece.x)).double().numpy()
        if not system.bonds and not is_possible(system, u, u_reference):
            frame_checks.check_unit(system, piece.x, str(piece.path))
        check_energies(system, u, u_reference, piece.rows, str(piece.path))
        for line in check_physics(system, potential, piece.x, np.exp(piece.log_weights), str(piece.path)):
            log(line)
        energies.append(u)
    positions = np.concatenate([piece.x for piece in pieces]).astype(np.float64)
    joined = WeightedEnsemble(
        positions=(positions - positions.mean(axis=1, keepdims=True)).astype(np.float32),
        log_weights=np.concatenate([piece.log_weights for piece in pieces]),
        reduced_energies=np.concatenate(energies),
        temperature_k=system.temperature_k,
        islands=np.repeat(np.arange(len(pieces)), [len(piece.x) for piece in pieces]),
    )
    return with_blocks(system, joined)
