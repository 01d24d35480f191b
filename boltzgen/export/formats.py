"""File formats of exported frames; `register` adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from boltzgen.config.choices import EXPORT_FORMAT_NAMES

if TYPE_CHECKING:
    import mdtraj

    from boltzgen.ensemble.weighted import WeightedEnsemble


@dataclass(frozen=True)
class ExportedFrames:
    """What a format writes: frames, and the ensemble that they are of, row by row."""

    frames: mdtraj.Trajectory
    ensemble: WeightedEnsemble


@dataclass(frozen=True)
class Format:
    """A file format of trajectories.

    suffix
        Of its files, without the dot; the name in ``export.formats``.
    write
        Writes frames to a path.
    bytes_per_atom
        Of a frame, roughly.
    unit
        Of lengths in the file: nm or Angstrom.
    rounding_nm
        Step that positions are stored to; 0 for all digits of single precision.
    own_topology
        Whether it names its atoms, so that it is read without another file.
    """

    suffix: str
    write: Callable[[ExportedFrames, Path], None]
    bytes_per_atom: float = 12.0
    unit: str = "Angstrom"
    rounding_nm: float = 0.0
    own_topology: bool = False


def _by_mdtraj(exported: ExportedFrames, path: Path) -> None:
    exported.frames.save(str(path))


def _pdb(exported: ExportedFrames, path: Path) -> None:
    from boltzgen.system.builders.structure_files import write_pdb

    write_pdb(exported.frames, path)


def _hdf5(exported: ExportedFrames, path: Path) -> None:
    from boltzgen.ensemble.storage import save_ensemble

    save_ensemble(replace(exported.ensemble, positions=exported.frames.xyz), exported.frames.topology, path)


FORMATS: dict[str, Format] = {}


def register(added: Format) -> None:
    """Let ``export.formats`` name another format, or replace one."""
    FORMATS[added.suffix] = added
    if added.suffix not in EXPORT_FORMAT_NAMES:
        EXPORT_FORMAT_NAMES.append(added.suffix)


register(Format("dcd", _by_mdtraj))
register(Format("xtc", _by_mdtraj, bytes_per_atom=5.0, unit="nm", rounding_nm=1e-3))
register(Format("pdb", _pdb, bytes_per_atom=81.0, rounding_nm=1e-4, own_topology=True))
register(Format("nc", _by_mdtraj))
register(Format("h5", _hdf5, unit="nm", own_topology=True))
